//! NumPy archives (`.npz`): a zip of arrays, the format of models published from Google's JAX code bases.
//!
//! `numpy.savez` stores arrays uncompressed, so they stay in the mapped file. Arrays deflated by
//! `numpy.savez_compressed` are unpacked once on opening to check them, and again, one at a time, when they are read,
//! so at most one of them is in memory.

use std::path::Path;

use super::entry::{DataType, Entry, Layout};
use super::zip;
use crate::npy::{Header, LONGEST_HEADER};
use crate::weights::WeightsError;

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
    let header = Header::read(head)?;
    let skip = header.start;
    let (data_type, big_endian) = data_type(&header.descr)?;
    let count = header.shape.iter().try_fold(data_type.bits() / 8, |all, extent| all.checked_mul(*extent));
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
    Ok(Entry { file: 0, data_type, shape: header.shape, layout, big_endian })
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
    fn types() {
        assert_eq!(data_type("<f4"), Ok((DataType::Float32, false)));
        assert_eq!(data_type("|V2"), Ok((DataType::BFloat16, false)));
        assert_eq!(data_type(">f8"), Ok((DataType::Float64, true)));
        assert!(data_type("|O").expect_err("objects").contains("Python objects"));
    }
}
