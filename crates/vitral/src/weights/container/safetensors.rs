//! The safetensors format: a JSON header, then raw bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use super::entry::{DataType, Entry, Layout};
use crate::weights::WeightsError;

/// Whether the bytes look like this format: a length, then the opening brace of a JSON object.
pub(crate) fn recognizes(bytes: &[u8]) -> bool {
    bytes.len() > 8 && bytes[8] == b'{'
}

/// Whether the bytes look like this format, and the header is not longer than the file.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    recognizes(bytes) && header(bytes).is_some()
}

/// Finds every tensor in the file. Nothing is copied or allocated beyond the contents of the header; a header of more
/// than a hundred million bytes or a million tensors is rejected before it is parsed.
pub(crate) fn entries(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Entry)>, WeightsError> {
    let damaged = |fault: String| WeightsError::Damaged { path: path.to_owned(), format: "safetensors", fault };
    if let Some(fault) = header(bytes).and_then(fault_of_names) {
        return Err(damaged(fault));
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(fault(&error, bytes)))?;
    let start = 8 + header;
    let entries = metadata.tensors().into_iter().map(|(name, info)| {
        let (first, last) = info.data_offsets;
        let entry = Entry {
            file: 0,
            data_type: data_type(info.dtype),
            shape: info.shape.clone(),
            layout: Layout::Contiguous { bytes: start + first..start + last },
            big_endian: false,
        };
        (name, entry)
    });
    Ok(entries.collect())
}

fn data_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::F32 => DataType::Float32,
        Dtype::F16 => DataType::Float16,
        Dtype::BF16 => DataType::BFloat16,
        Dtype::F64 => DataType::Float64,
        Dtype::I64 => DataType::Int64,
        Dtype::I32 => DataType::Int32,
        Dtype::I16 => DataType::Int16,
        Dtype::I8 => DataType::Int8,
        Dtype::U8 => DataType::UInt8,
        Dtype::BOOL => DataType::Bool,
        _ => DataType::Other { bits: dtype.bitsize() },
    }
}

fn fault(error: &SafeTensorError, bytes: &[u8]) -> String {
    match error {
        SafeTensorError::HeaderTooSmall => format!("expected a header, found {} bytes in all", bytes.len()),
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            let claimed = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
            let most = "and headers may have at most a hundred million";
            format!("the header claims {claimed} bytes, the file has {}, {most}", bytes.len())
        }
        SafeTensorError::InvalidHeader(_) => "the header is not UTF-8".into(),
        SafeTensorError::InvalidHeaderDeserialization(error) => format!("the header is not valid: {error}"),
        SafeTensorError::InvalidOffset(name) => {
            format!("the bytes of `{name}` overlap another tensor's or leave a gap before them")
        }
        SafeTensorError::TensorInvalidInfo => "a tensor's byte range does not match its shape and type".into(),
        SafeTensorError::ValidationOverflow => "a tensor's shape is larger than any memory".into(),
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("the header does not account for all {} bytes of the file; it may be cut short", bytes.len())
        }
        other => other.to_string(),
    }
}

/// More tensors than any model has.
const MOST_TENSORS: usize = 1 << 20;

/// What is wrong with the names in a header: a JSON reader silently keeps the last of two equal keys, and would keep
/// any number of them. Only the names are held in memory. A header that is not JSON is not reported here.
fn fault_of_names(header: &[u8]) -> Option<String> {
    struct Names<'a>(&'a mut Option<String>);

    impl<'de> Visitor<'de> for Names<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = HashSet::new();
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                if seen.len() > MOST_TENSORS {
                    *self.0 =
                        Some(format!("the header names more than {MOST_TENSORS} tensors, more than any model has"));
                    return Err(A::Error::custom("too many"));
                }
                map.next_value::<IgnoredAny>()?;
                if seen.contains(&name) {
                    *self.0 = Some(format!("`{name}` is listed twice"));
                    return Err(A::Error::custom("twice"));
                }
                seen.insert(name);
            }
            Ok(())
        }
    }

    let mut fault = None;
    // Any other error is found when the header is parsed in full.
    let _ = serde_json::Deserializer::from_slice(header).deserialize_map(Names(&mut fault));
    fault
}

/// The header's bytes, if it is as long as it claims and not too long.
fn header(bytes: &[u8]) -> Option<&[u8]> {
    const MOST_BYTES: u64 = 100_000_000;
    let length = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    if length > MOST_BYTES {
        return None;
    }
    bytes[8..].get(..length as usize)
}
