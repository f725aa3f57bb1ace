//! From a tensor's bytes to values in our layout.

use std::borrow::Cow;

use half::{bf16, f16};

use super::plan::Piece;
use crate::config::Size;
use crate::weights::container::TensorView;
use crate::weights::dialect::SourceLayout;
use crate::weights::{Container, DataType, WeightsError};

/// The values of a piece of a tensor.
pub(super) fn read<'a>(container: &'a Container, piece: &Piece, patch: Size) -> Result<Cow<'a, [f32]>, WeightsError> {
    let view = container.tensor(&piece.name).ok_or_else(|| WeightsError::NotAssigned(piece.name.clone()))?;
    let shape = view.shape.to_vec();
    let values = rows(floats(view, &piece.name)?, piece, &shape);
    Ok(match piece.layout {
        None => values,
        Some(SourceLayout::Transposed) => transposed(&values, shape.last().copied().unwrap_or(1)).into(),
        Some(SourceLayout::PatchChannelsLast) => {
            channels_first(&values, shape.last().copied().unwrap_or(1), patch.area()).into()
        }
    })
}

/// All values as float32: in place where the file holds float32 at an aligned place.
fn floats<'a>(view: TensorView<'a>, name: &str) -> Result<Cow<'a, [f32]>, WeightsError> {
    let bytes = view.bytes;
    Ok(match view.data_type {
        DataType::Float32 => match bytes {
            #[cfg(target_endian = "little")]
            Cow::Borrowed(bytes) if bytemuck::try_cast_slice::<u8, f32>(bytes).is_ok() => {
                Cow::Borrowed(bytemuck::cast_slice(bytes))
            }
            bytes => converted(&bytes, f32::from_le_bytes).into(),
        },
        DataType::Float16 => converted(&bytes, |value| f16::from_le_bytes(value).to_f32()).into(),
        DataType::BFloat16 => converted(&bytes, |value| bf16::from_le_bytes(value).to_f32()).into(),
        DataType::Float64 => converted(&bytes, |value| f64::from_le_bytes(value) as f32).into(),
        other => return Err(WeightsError::DataType { name: name.to_owned(), found: format!("{other:?}") }),
    })
}

fn converted<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
}

fn rows<'a>(values: Cow<'a, [f32]>, piece: &Piece, shape: &[usize]) -> Cow<'a, [f32]> {
    if piece.whole {
        return values;
    }
    let count = super::plan::rows_of(shape).max(1);
    let width = values.len() / count;
    let range = piece.rows.start * width..piece.rows.end * width;
    match values {
        Cow::Borrowed(values) => Cow::Borrowed(&values[range]),
        Cow::Owned(values) => Cow::Owned(values[range].to_vec()),
    }
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let columns = columns.max(1);
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// Patches of `[place, channel]` as `[channel, place]`, for each row of `width` values.
fn channels_first(values: &[f32], width: usize, places: usize) -> Vec<f32> {
    let channels = (width / places.max(1)).max(1);
    values.chunks(width.max(1)).flat_map(|row| transposed(row, channels)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        // Two places of three channels, two rows.
        let rows: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(channels_first(&rows, 6, 2), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
    }
}
