//! NumPy archives (`.npz`): a zip of arrays, the format of models published from Google's JAX code bases.
//!
//! `numpy.savez` stores arrays uncompressed, so they stay in the mapped file. Arrays deflated by
//! `numpy.savez_compressed` are unpacked once on opening to check them, and again, one at a time, when they are read,
//! so at most one of them is in memory.

use std::path::Path;

use super::entry::{DataType, Entry, Layout};
use super::zip;
use crate::weights::WeightsError;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own limit for trusted headers.
const LONGEST_HEADER: usize = 10_000;

/// Whether the bytes are a zip archive whose first entry is an array.
pub(crate) fn recognizes(bytes: &[u8]) -> bool {
    let name_length = bytes.get(26..28).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
    zip::recognizes(bytes) && bytes.get(30..30 + name_length).is_some_and(|name| name.ends_with(b".npy"))
}

/// Finds every array of the archive.
pub(crate) fn entries(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Entry)>, WeightsError> {
    let damaged = |fault: String| WeightsError::Damaged { path: path.to_owned(), format: "NumPy", fault };
    let archive = zip::Archive::read(bytes).map_err(damaged)?;
    archive.check_apart().map_err(damaged)?;
    let mut entries = Vec::new();
    for member in archive.names() {
        let name = member.strip_suffix(".npy").ok_or_else(|| damaged(format!("`{member}` is not an array")))?;
        let entry = archive.place(member).and_then(|place| entry(bytes, &place));
        entries.push((name.to_owned(), entry.map_err(|fault| damaged(format!("`{name}`: {fault}")))?));
    }
    Ok(entries)
}

fn entry(bytes: &[u8], place: &zip::Place) -> Result<Entry, String> {
    let mut first = Vec::new();
    let head = if place.deflated {
        zip::inflate(bytes, place, |part| {
            let free = (LONGEST_HEADER + 16).saturating_sub(first.len()).min(part.len());
            first.extend_from_slice(&part[..free]);
        })?;
        first.as_slice()
    } else {
        &bytes[place.range.clone()]
    };
    let (skip, header) = Header::read(head)?;
    let count = header.shape.iter().try_fold(header.data_type.bits() / 8, |all, extent| all.checked_mul(*extent));
    if count.and_then(|count| count.checked_add(skip)) != Some(place.size) {
        return Err(format!(
            "{} bytes do not hold an array of shape {:?}",
            place.size.saturating_sub(skip),
            header.shape
        ));
    }
    let strides = header.fortran.then(|| {
        let strides = header.shape.iter().scan(1, |stride, extent| {
            let own = *stride;
            *stride *= extent;
            Some(own)
        });
        strides.collect::<Vec<usize>>()
    });
    let start = place.range.start + skip;
    let layout = match strides {
        strides if place.deflated => Layout::Deflated { place: place.clone(), skip, strides },
        Some(strides) => Layout::Strided { storage: start..place.range.end, offset: 0, strides },
        None => Layout::Contiguous { bytes: start..place.range.end },
    };
    Ok(Entry { file: 0, data_type: header.data_type, shape: header.shape, layout, big_endian: header.big_endian })
}

/// The header before an array's values.
#[derive(Debug, PartialEq)]
struct Header {
    data_type: DataType,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads a header, and returns where the values begin.
    fn read(bytes: &[u8]) -> Result<(usize, Self), String> {
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
        Self::parse(text).map(|header| (at + length, header))
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
        let (data_type, big_endian) = data_type(descr)?;
        Ok(Header { data_type, big_endian, fortran, shape: shape? })
    }
}

/// A NumPy type such as `<f4`. JAX's bfloat16 is unknown to NumPy, which writes it as two untyped bytes.
fn data_type(descr: &str) -> Result<(DataType, bool), String> {
    let (order, kind) = match descr.as_bytes().first() {
        Some(b'<' | b'|' | b'=') => (false, &descr[1..]),
        Some(b'>') => (true, &descr[1..]),
        _ => (false, descr),
    };
    let data_type = match kind {
        "f4" => DataType::Float32,
        "f2" => DataType::Float16,
        "f8" => DataType::Float64,
        "V2" | "bfloat16" => DataType::BFloat16,
        "i8" => DataType::Int64,
        "i4" => DataType::Int32,
        "i2" => DataType::Int16,
        "i1" => DataType::Int8,
        "u1" => DataType::UInt8,
        "b1" => DataType::Bool,
        "u2" => DataType::Other { bits: 16 },
        "u4" => DataType::Other { bits: 32 },
        "u8" | "c8" => DataType::Other { bits: 64 },
        "c16" => DataType::Other { bits: 128 },
        "O" => return Err("an array of Python objects, which are never loaded; save plain arrays".into()),
        _ => return Err(format!("elements of type `{descr}`, which is not a type of tensors")),
    };
    Ok((data_type, order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let header = Header::parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }").unwrap();
        assert_eq!(
            (header.data_type, header.shape.as_slice(), header.fortran),
            (DataType::Float32, &[2, 3][..], false)
        );
        let header = Header::parse("{'descr': '|V2', 'fortran_order': True, 'shape': (7,), }").unwrap();
        assert_eq!((header.data_type, header.shape.as_slice(), header.fortran), (DataType::BFloat16, &[7][..], true));
        assert!(Header::parse("{'descr': '>f8', 'fortran_order': False, 'shape': (), }").unwrap().big_endian);
        for (text, part) in [
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "Python objects"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "structured"),
            ("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,), }", "neither"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "`-1` is not a dimension"),
            ("{'descr': '<f4', 'fortran_order': False}", "'shape'"),
        ] {
            let error = Header::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
