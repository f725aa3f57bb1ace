//! Writes containers, one tensor at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use serde_json::{Map, json};
use vitral_engine::DType;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::source::ExportSource;
use super::tensor::{Piece, Tensor};
use crate::config::Size;
use crate::npy;
use crate::weights::WeightsError;
use crate::weights::assign::values::{channels_first, halves_in_pairs, transposed};
use crate::weights::dialect::SourceLayout;

/// Writes tensors as safetensors.
pub(super) fn safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    model: &ExportSource<'_>,
) -> Result<(), WeightsError> {
    let mut header = Map::new();
    // transformers rejects files that do not name the framework that wrote them.
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let (kind, width) = match model.storage {
        DType::F32 => ("F32", 4),
        DType::Bf16 => ("BF16", 2),
        DType::F16 => ("F16", 2),
        DType::I8 => {
            let fault = "8-bit weights are written by `vitral quantize`; choose another data type";
            return Err(WeightsError::NoModel { path: path.to_owned(), fault: fault.into() });
        }
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
            DType::F32 | DType::I8 => file.put(&bytes(&values))?,
            DType::Bf16 => file.put(&narrowed(path, name, &values, |value| half::bf16::from_f32(value).to_bits())?)?,
            DType::F16 => file.put(&narrowed(path, name, &values, |value| half::f16::from_f32(value).to_bits())?)?,
        }
    }
    file.finish()
}

/// Writes tensors as a NumPy archive, like `numpy.savez`.
pub(super) fn npz(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    model: &ExportSource<'_>,
) -> Result<(), WeightsError> {
    if model.storage != DType::F32 {
        let fault = "NumPy archives are written in float32; leave out the data type, or choose another target";
        return Err(WeightsError::NoModel { path: path.to_owned(), fault: fault.into() });
    }
    let failed = |source: std::io::Error| WeightsError::writing(path, source);
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path).map_err(failed)?));
    for (name, tensor) in tensors {
        array(&mut archive, name, &tensor.shape, &values(tensor, model)?).map_err(failed)?;
    }
    let file = archive.finish().map_err(|fault| failed(fault.into()))?;
    let file = file.into_inner().map_err(|fault| failed(fault.into_error()))?;
    file.sync_all().map_err(failed)
}

/// Adds one array to an archive, uncompressed.
fn array<W: Write + Seek>(
    archive: &mut ZipWriter<W>,
    name: &str,
    shape: &[usize],
    values: &[f32],
) -> std::io::Result<()> {
    /// How many values are converted to bytes at a time.
    const SOME: usize = 1 << 18;
    let header = npy::header(shape, 0);
    let large = header.len() as u64 + 4 * values.len() as u64 >= u64::from(u32::MAX);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(large);
    archive.start_file(format!("{name}.npy"), options)?;
    archive.write_all(&header)?;
    values.chunks(SOME).try_for_each(|some| archive.write_all(&bytes(some)))
}

/// A tensor's values in the library's layout.
fn values<'a>(tensor: &Tensor, model: &ExportSource<'a>) -> Result<Cow<'a, [f32]>, WeightsError> {
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

fn of_piece<'a>(piece: &Piece, model: &ExportSource<'a>, patch: Size) -> Result<Cow<'a, [f32]>, WeightsError> {
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
    let head_width = model.vit.config().head_width;
    Ok(match layout {
        SourceLayout::Heads | SourceLayout::ByAxis | SourceLayout::Grid => rows,
        SourceLayout::NeighborPairs => halves_in_pairs(&rows, rows.len(), width, head_width).into(),
        SourceLayout::PackedNeighborPairs => halves_in_pairs(&rows, rows.len() / 3 * 2, width, head_width).into(),
        SourceLayout::Transposed | SourceLayout::InHeads | SourceLayout::HeadsOut => transposed(&rows, width).into(),
        SourceLayout::PatchChannelsLast => channels_last(&rows, width, patch.area()).into(),
        SourceLayout::Hwio => {
            let area = if spec.shape.len() == 4 { spec.shape[2] * spec.shape[3] } else { patch.area() };
            transposed(&channels_last(&rows, width, area), width).into()
        }
    })
}

/// Rows of `[channel, cell]` as `[cell, channel]`: the inverse of `channels_first`, which is the same function with the
/// dimensions swapped.
fn channels_last(values: &[f32], width: usize, places: usize) -> Vec<f32> {
    channels_first(values, width, width / places.max(1))
}

/// Values in 16 bits. Values out of range are rejected, never made infinite.
fn narrowed(path: &Path, name: &str, values: &[f32], narrow: fn(f32) -> u16) -> Result<Vec<u8>, WeightsError> {
    const GREATEST: f32 = 65_504.0;
    let infinite = narrow(f32::INFINITY);
    let mut bytes = Vec::with_capacity(2 * values.len());
    for &value in values {
        let bits = narrow(value);
        if bits & 0x7fff == infinite && value.is_finite() {
            let fault = format!(
                "`{name}` holds {value}, and 16-bit floats end at {GREATEST}; write float32, or bfloat16 for its range"
            );
            return Err(WeightsError::NoModel { path: path.to_owned(), fault });
        }
        bytes.extend(bits.to_le_bytes());
    }
    Ok(bytes)
}

fn bytes(values: &[f32]) -> Cow<'_, [u8]> {
    match cfg!(target_endian = "little") {
        true => bytemuck::cast_slice(values).into(),
        false => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// A file that is flushed to disk before it is used.
pub(super) struct Writer<'a> {
    path: &'a Path,
    file: BufWriter<File>,
}

impl<'a> Writer<'a> {
    pub(super) fn create(path: &'a Path) -> Result<Self, WeightsError> {
        let file = File::create(path).map_err(|source| WeightsError::writing(path, source))?;
        Ok(Writer { path, file: BufWriter::new(file) })
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.file.write_all(bytes).map_err(|source| WeightsError::writing(self.path, source))
    }

    pub(super) fn finish(self) -> Result<(), WeightsError> {
        let file = self.file.into_inner().map_err(|error| WeightsError::writing(self.path, error.into_error()))?;
        file.sync_all().map_err(|source| WeightsError::writing(self.path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Container;

    #[test]
    fn layout_conversions_are_inverse() {
        let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
        assert_eq!(channels_first(&channels_last(&values, 12, 4), 12, 4), values);
    }

    #[test]
    fn archives_with_more_than_65535_arrays_are_complete() {
        let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for number in 0..70_000u32 {
            array(&mut archive, &number.to_string(), &[1], &[number as f32]).unwrap();
        }
        let bytes = archive.finish().unwrap().into_inner();
        let container = Container::from_bytes("many", bytes).unwrap();
        assert_eq!(container.len(), 70_000);
        assert_eq!(*container.tensor("69999").unwrap().bytes, 69_999f32.to_le_bytes());
    }

    /// A sparse file, in which zeros take no space.
    struct Holes(File);

    impl Write for Holes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.len() < 4096 || bytes.iter().any(|&byte| byte != 0) {
                return self.0.write(bytes);
            }
            self.0.seek(std::io::SeekFrom::Current(bytes.len() as i64)).map(|_| bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }

    impl Seek for Holes {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn archives_can_exceed_4_gib() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.npz");
        let mut archive = ZipWriter::new(Holes(File::create(&path).unwrap()));
        let zeros = vec![0.0; (1 << 30) + 16];
        array(&mut archive, "large", &[zeros.len()], &zeros).unwrap();
        array(&mut archive, "after", &[2], &[1.5, -2.0]).unwrap();
        archive.finish().unwrap();
        let container = Container::open(&path).unwrap();
        assert_eq!(container.shape("large"), Some(&[zeros.len()][..]));
        assert_eq!(*container.tensor("after").unwrap().bytes, *bytes(&[1.5, -2.0]));
    }
}
