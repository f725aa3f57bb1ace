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

/// What every file begins with.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own limit for trusted headers.
pub(crate) const LONGEST_HEADER: usize = 10_000;

/// The header before an array's values.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    /// NumPy's name of the type, such as `<f4`.
    pub(crate) descr: String,
    /// The first index changes fastest.
    pub(crate) fortran: bool,
    /// The extents.
    pub(crate) shape: Vec<usize>,
    /// Where the values begin.
    pub(crate) start: usize,
}

impl Header {
    /// Reads the header at the start of a file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let cut = || "the array's header is cut short".to_owned();
        if !bytes.starts_with(MAGIC) {
            return Err("not a NumPy array".into());
        }
        let (length, at) = match *bytes.get(6).ok_or_else(cut)? {
            1 => (usize::from(u16::from_le_bytes(*bytes.get(8..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?)), 10),
            2 | 3 => (u32::from_le_bytes(*bytes.get(8..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?) as usize, 12),
            other => return Err(format!("version {other} of NumPy's format; save it with a known version of NumPy")),
        };
        if length > LONGEST_HEADER {
            return Err(format!("the array's header claims {length} bytes, more than {LONGEST_HEADER}"));
        }
        let text = bytes.get(at..at + length).ok_or_else(cut)?;
        let text = std::str::from_utf8(text).map_err(|_| "the array's header is not text".to_owned())?;
        Ok(Header { start: at + length, ..Self::parse(text)? })
    }

    /// Reads the Python dictionary, such as `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
    fn parse(text: &str) -> Result<Self, String> {
        let value = |key: &str| {
            let key = format!("'{key}':");
            text.find(&key).map(|at| text[at + key.len()..].trim_start()).ok_or(format!("the header has no {key}"))
        };
        let descr = value("descr")?;
        let descr = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let (descr, _) = descr.ok_or("a structured array, which is not a tensor; save plain arrays")?;
        let fortran = value("fortran_order")?;
        let fortran = match (fortran.starts_with("True"), fortran.starts_with("False")) {
            (true, _) => true,
            (_, true) => false,
            _ => return Err("`fortran_order` is neither True nor False".into()),
        };
        let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (shape, _) = shape.ok_or("`shape` is not a tuple")?;
        let extents = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
        let shape: Result<Vec<usize>, String> = extents
            .map(|extent| extent.trim_end_matches('L').parse().map_err(|_| format!("`{extent}` is not a dimension")))
            .collect();
        Ok(Header { descr: descr.to_owned(), fortran, shape: shape?, start: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let header = Header::parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }").expect("a header");
        assert_eq!((header.descr.as_str(), header.shape.as_slice(), header.fortran), ("<f4", &[2, 3][..], false));
        let header = Header::parse("{'descr': '|V2', 'fortran_order': True, 'shape': (7,), }").expect("a header");
        assert_eq!((header.descr.as_str(), header.shape.as_slice(), header.fortran), ("|V2", &[7][..], true));
        for (text, part) in [
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "structured"),
            ("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,), }", "neither"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "`-1` is not a dimension"),
            ("{'descr': '<f4', 'fortran_order': False}", "'shape'"),
        ] {
            let error = Header::parse(text).expect_err("not a header");
            assert!(error.contains(part), "{error}");
        }
    }

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
