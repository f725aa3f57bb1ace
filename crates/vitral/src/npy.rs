//! The header of NumPy's files and of the arrays in its archives.

/// The header of a C-ordered float32 array, version 1.0, padded with spaces to a multiple of 64 bytes and to at least
/// `least`, so that there is room for any shape that is known only at the end.
pub fn header(shape: &[usize], least: usize) -> Vec<u8> {
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    // Python's syntax for a tuple of one.
    let extents = extents.join(", ") + if shape.len() == 1 { "," } else { "" };
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({extents}), }}");
    let length = (10 + text.len() + 1).max(least).next_multiple_of(64) - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{text:<0$}\n", length - 1).bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_match_numpys() {
        for (shape, tuple) in [(&[][..], "()"), (&[7], "(7,)"), (&[2, 3], "(2, 3)")] {
            let header = header(shape, 0);
            let text = String::from_utf8_lossy(&header[10..]).into_owned();
            assert!(text.contains(&format!("'shape': {tuple}, }}")) && text.ends_with(" \n"), "{text}");
            assert_eq!(usize::from(u16::from_le_bytes([header[8], header[9]])) + 10, header.len());
            assert_eq!(header.len() % 64, 0, "values begin at a multiple of 64 bytes");
        }
        for shape in [vec![0], vec![1, 2], vec![usize::MAX; 3]] {
            assert_eq!(header(&shape, 192).len(), 192, "{shape:?}");
        }
    }
}
