//! Containers, written one tensor at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, json};
use vitral_engine::DType;

use super::outgoing::Outgoing;
use super::tensor::{Piece, Tensor};
use crate::config::Size;
use crate::weights::WeightsError;
use crate::weights::assign::values::{channels_first, transposed};
use crate::weights::dialect::SourceLayout;

/// Writes tensors as safetensors.
pub(super) fn safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    model: &Outgoing<'_>,
) -> Result<(), WeightsError> {
    let mut header = Map::new();
    // transformers refuses files that do not say which framework wrote their layout.
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let (kind, width) = match model.storage {
        DType::F32 => ("F32", 4),
        DType::Bf16 => ("BF16", 2),
        DType::F16 => ("F16", 2),
    };
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += width * tensor.shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": kind, "shape": tensor.shape, "data_offsets": [start, end] }));
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // Tensors begin at a multiple of eight bytes, so that they can be used in place.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = Writer::create(path)?;
    file.put(&(header.len() as u64).to_le_bytes())?;
    file.put(header.as_bytes())?;
    for (name, tensor) in tensors {
        let values = values(tensor, model)?;
        match model.storage {
            DType::F32 => file.put(&bytes(&values))?,
            DType::Bf16 => file.put(&narrowed(path, name, &values, |value| half::bf16::from_f32(value).to_bits())?)?,
            DType::F16 => file.put(&narrowed(path, name, &values, |value| half::f16::from_f32(value).to_bits())?)?,
        }
    }
    file.finish()
}

/// Writes tensors as a NumPy archive, as `numpy.savez` does.
pub(super) fn npz(path: &Path, tensors: &BTreeMap<String, Tensor>, model: &Outgoing<'_>) -> Result<(), WeightsError> {
    if model.storage != DType::F32 {
        let fault = "NumPy archives are written in float32; leave out the other type, or choose another target";
        return Err(WeightsError::NoModel { path: path.to_owned(), fault: fault.into() });
    }
    let mut file = Writer::create(path)?;
    let mut directory = Vec::new();
    for (name, tensor) in tensors {
        let name = format!("{name}.npy");
        let array = [npy_header(&tensor.shape), bytes(&values(tensor, model)?)].concat();
        let mut checksum = flate2::Crc::new();
        checksum.update(&array);
        let end = file.written + array.len() as u64 + 1024;
        let (Ok(offset), Ok(size), Ok(_)) =
            (u32::try_from(file.written), u32::try_from(array.len()), u32::try_from(end))
        else {
            let fault = "more than 4 GiB, which NumPy archives of this form do not hold; convert to another target";
            return Err(WeightsError::NoModel { path: path.to_owned(), fault: fault.into() });
        };
        let mut common = Vec::new();
        common.extend([20, 0, 0, 0, 0, 0]); // version 2.0, no flags, stored
        common.extend([0, 0, 0x21, 0]); // the first of January 1980, as NumPy has it
        common.extend(checksum.sum().to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]); // no extra field
        file.put(b"PK\x03\x04")?;
        file.put(&common)?;
        file.put(name.as_bytes())?;
        file.put(&array)?;
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]); // no comment, first disk, no attributes
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (file.written as u32, tensors.len() as u16);
    file.put(&directory)?;
    file.put(b"PK\x05\x06\0\0\0\0")?;
    file.put(&[count.to_le_bytes(), count.to_le_bytes()].concat())?;
    file.put(&[(directory.len() as u32).to_le_bytes(), start.to_le_bytes()].concat())?;
    file.put(&[0, 0])?;
    file.finish()
}

/// NumPy's header, version 1, padded so that the numbers begin at a multiple of 64 bytes.
fn npy_header(shape: &[usize]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let extents =
        if shape.len() == 1 { extents.trim_end().to_owned() } else { extents.trim_end_matches(", ").to_owned() };
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({extents}), }}");
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 11;
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    text.push('\n');
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A tensor's values in the library's layout.
fn values<'a>(tensor: &Tensor, model: &Outgoing<'a>) -> Result<Cow<'a, [f32]>, WeightsError> {
    let patch = model.vit.config().patch_size;
    match tensor.pieces.as_slice() {
        [] => Ok(vec![tensor.fill; tensor.shape.iter().product()].into()),
        [piece] => of_piece(piece, model, patch),
        pieces => {
            let mut joined = Vec::with_capacity(tensor.shape.iter().product());
            for piece in pieces {
                joined.extend_from_slice(&of_piece(piece, model, patch)?);
            }
            Ok(joined.into())
        }
    }
}

fn of_piece<'a>(piece: &Piece, model: &Outgoing<'a>, patch: Size) -> Result<Cow<'a, [f32]>, WeightsError> {
    let spec = &piece.spec;
    let all = (model.read)(spec)?;
    let count = spec.shape.first().copied().unwrap_or(1).max(1);
    let width = spec.count() / count;
    let rows = if piece.rows.len() == count {
        all
    } else {
        all[piece.rows.start * width..piece.rows.end * width].to_vec().into()
    };
    let Some(layout) = piece.layout else { return Ok(rows) };
    Ok(match layout {
        SourceLayout::Heads => rows,
        SourceLayout::Transposed | SourceLayout::InHeads | SourceLayout::HeadsOut => transposed(&rows, width).into(),
        SourceLayout::PatchChannelsLast => channels_last(&rows, width, patch.area()).into(),
        SourceLayout::Hwio => {
            let area = if spec.shape.len() == 4 { spec.shape[2] * spec.shape[3] } else { patch.area() };
            transposed(&channels_last(&rows, width, area), width).into()
        }
    })
}

/// Rows of `[channel, place]` as `[place, channel]`: the inverse of `channels_first`, which is itself with the extents
/// exchanged.
fn channels_last(values: &[f32], width: usize, places: usize) -> Vec<f32> {
    channels_first(values, width, width / places.max(1))
}

/// Numbers in 16 bits. What they cannot hold is refused, never made infinite.
fn narrowed(path: &Path, name: &str, values: &[f32], narrow: fn(f32) -> u16) -> Result<Vec<u8>, WeightsError> {
    const GREATEST: f32 = 65_504.0;
    let infinite = narrow(f32::INFINITY);
    let mut bytes = Vec::with_capacity(2 * values.len());
    for &value in values {
        let bits = narrow(value);
        if bits & 0x7fff == infinite && value.is_finite() {
            let fault = format!(
                "`{name}` holds {value}, and 16-bit floats end at {GREATEST}; write float32, or bfloat16, which goes as far"
            );
            return Err(WeightsError::NoModel { path: path.to_owned(), fault });
        }
        bytes.extend(bits.to_le_bytes());
    }
    Ok(bytes)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A file that is flushed to the disk before anybody relies on it.
struct Writer<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    written: u64,
}

impl<'a> Writer<'a> {
    fn create(path: &'a Path) -> Result<Self, WeightsError> {
        let file = File::create(path).map_err(|source| WeightsError::io(path, source))?;
        Ok(Writer { path, file: BufWriter::new(file), written: 0 })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| WeightsError::io(self.path, source))
    }

    fn finish(self) -> Result<(), WeightsError> {
        let file = self.file.into_inner().map_err(|error| WeightsError::io(self.path, error.into_error()))?;
        file.sync_all().map_err(|source| WeightsError::io(self.path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_go_back() {
        let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
        assert_eq!(channels_first(&channels_last(&values, 12, 4), 12, 4), values);
        assert_eq!(npy_header(&[2, 3]).len() % 64, 0);
        let header = String::from_utf8_lossy(&npy_header(&[7])[10..]).into_owned();
        assert!(header.contains("'shape': (7,), }"), "{header}");
    }
}
