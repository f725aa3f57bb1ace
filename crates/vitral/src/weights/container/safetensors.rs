//! The safetensors format: a JSON header, then plain bytes.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{DataType, Entry, Layout};
use crate::weights::WeightsError;

/// Whether the bytes look like this format: a length, then the brace of a JSON object.
pub(crate) fn recognises(bytes: &[u8]) -> bool {
    bytes.len() > 8 && bytes[8] == b'{'
}

/// Finds every tensor in the file. Nothing is copied, and nothing is allocated beyond the header's own size.
pub(crate) fn entries(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Entry)>, WeightsError> {
    let damaged = |fault: String| WeightsError::Damaged { path: path.to_owned(), format: "safetensors", fault };
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(fault(&error, bytes)))?;
    if let Some(name) = repeated_name(&bytes[8..8 + header]) {
        return Err(damaged(format!("`{name}` is listed twice")));
    }
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
            let most = "and no model's header has more than a hundred million";
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

/// The first name that stands twice in the header; JSON readers keep only the last of them, silently.
fn repeated_name(header: &[u8]) -> Option<String> {
    struct Repeated(Option<String>);

    impl<'de> Deserialize<'de> for Repeated {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Names;
            impl<'de> Visitor<'de> for Names {
                type Value = Repeated;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object of tensors")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repeated, A::Error> {
                    let (mut seen, mut repeated) = (HashSet::new(), None);
                    while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                        if !seen.insert(name.clone()) {
                            repeated.get_or_insert(name);
                        }
                    }
                    Ok(Repeated(repeated))
                }
            }
            deserializer.deserialize_map(Names)
        }
    }

    serde_json::from_slice::<Repeated>(header).ok().and_then(|found| found.0)
}
