//! From a tensor's bytes to values in our layout.

use std::borrow::Cow;

use half::{bf16, f16};

use super::plan::{Part, Piece};
use crate::config::Size;
use crate::weights::container::TensorView;
use crate::weights::dialect::SourceLayout;
use crate::weights::{Container, DataType, WeightsError};

/// Extents of the model that layouts depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub(super) patch: Size,
    pub(super) head_width: usize,
}

/// The values of a piece of a tensor.
pub(super) fn read<'a>(
    container: &'a Container,
    piece: &Piece,
    extents: Extents,
) -> Result<Cow<'a, [f32]>, WeightsError> {
    let view = container.tensor(&piece.name).ok_or_else(|| WeightsError::NotAssigned(piece.name.clone()))?;
    if view.data_type == DataType::Int8 && matches!(piece.part, Part::Whole) && piece.layout.is_none() {
        return dequantized(container, &piece.name, &view);
    }
    let full = view.shape.to_vec();
    let values = floats(part(view, piece), &piece.name)?;
    let Some(layout) = piece.layout else { return Ok(values) };
    let shape = piece.shape(&full, full.len());
    let last = shape.last().copied().unwrap_or(1);
    Ok(match layout {
        SourceLayout::Transposed | SourceLayout::HeadsOut => transposed(&values, last).into(),
        SourceLayout::InHeads => transposed(&values, shape.iter().skip(1).product()).into(),
        SourceLayout::Heads | SourceLayout::ByAxis | SourceLayout::Grid => values,
        SourceLayout::NeighborPairs => {
            pairs_in_halves(&values, values.len(), last_of(&full), extents.head_width).into()
        }
        SourceLayout::PackedNeighborPairs => {
            pairs_in_halves(&values, values.len() / 3 * 2, last_of(&full), extents.head_width).into()
        }
        SourceLayout::PatchChannelsLast => channels_first(&values, last, extents.patch.area()).into(),
        SourceLayout::Hwio => {
            let places = shape.iter().take(2).product();
            channels_first(&transposed(&values, last), values.len() / last.max(1), places).into()
        }
    })
}

/// What stands beside a matrix in 8 bits: the scale of each of its rows.
pub(in crate::weights) const SCALES: &str = ".scale";

/// The values of a matrix in 8 bits.
fn dequantized<'a>(container: &Container, name: &str, view: &TensorView<'_>) -> Result<Cow<'a, [f32]>, WeightsError> {
    let beside = format!("{name}{SCALES}");
    let scales = container.tensor(&beside).ok_or(WeightsError::NotAssigned(beside.clone()))?;
    let scales = floats(scales, &beside)?;
    let width = view.bytes.len() / scales.len().max(1);
    if view.shape.first() != Some(&scales.len()) || view.bytes.len() != width * scales.len() {
        let found = format!("{} scales for {:?} integers", scales.len(), view.shape);
        return Err(WeightsError::DataType { name: name.to_owned(), found });
    }
    let rows = view.bytes.chunks_exact(width.max(1)).zip(scales.iter());
    let mut values = Vec::with_capacity(view.bytes.len());
    rows.for_each(|(row, &scale)| values.extend(row.iter().map(|&byte| f32::from(byte as i8) * scale)));
    Ok(values.into())
}

/// The bytes of a tensor that belong to a piece.
fn part<'a>(view: TensorView<'a>, piece: &Piece) -> TensorView<'a> {
    let (rows, total) = match &piece.part {
        Part::Whole => return view,
        Part::Stacked(index) if piece.layout == Some(SourceLayout::ByAxis) => {
            let axes = view.shape.first().copied().unwrap_or(1).max(1);
            let width = view.bytes.len() / (axes * piece.total).max(1);
            let starts = (0..axes).map(|axis| (axis * piece.total + index) * width);
            let bytes: Vec<u8> = starts.flat_map(|start| &view.bytes[start..start + width]).copied().collect();
            return TensorView { bytes: bytes.into(), ..view };
        }
        Part::Rows(rows) => (rows.clone(), super::plan::rows_of(view.shape)),
        Part::Stacked(index) => (*index..index + 1, piece.total),
    };
    let width = view.bytes.len() / total.max(1);
    let range = rows.start * width..rows.end * width;
    let bytes = match view.bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
    };
    TensorView { bytes, ..view }
}

/// Some rows of a matrix, one after the other, without touching the others.
#[cfg(feature = "text")]
pub(crate) fn rows(container: &Container, name: &str, wanted: &[usize]) -> Result<Vec<f32>, WeightsError> {
    let view = container.tensor(name).ok_or_else(|| WeightsError::NotAssigned(name.to_owned()))?;
    let width = view.bytes.len() / view.shape.first().copied().unwrap_or(1).max(1);
    let mut values = Vec::new();
    for &row in wanted {
        let bytes = view.bytes.get(row * width..(row + 1) * width);
        let bytes = Cow::Borrowed(bytes.ok_or_else(|| WeightsError::NotAssigned(format!("row {row} of {name}")))?);
        values.extend_from_slice(&floats(TensorView { bytes, ..view.clone() }, name)?);
    }
    Ok(values)
}

/// All values as float32: in place if the file holds aligned float32.
pub(crate) fn floats<'a>(view: TensorView<'a>, name: &str) -> Result<Cow<'a, [f32]>, WeightsError> {
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

/// The values in a row: 1 for a bias.
fn last_of(shape: &[usize]) -> usize {
    if shape.len() > 1 { shape[shape.len() - 1] } else { 1 }
}

/// Heads whose rows, `row` values long, are pairs of neighbors, as heads with the first of all pairs in their first half:
/// of the first `count` values. The rest stays.
pub(crate) fn pairs_in_halves(values: &[f32], count: usize, row: usize, head_width: usize) -> Vec<f32> {
    reordered(values, count, row * head_width, |place| {
        let (channel, column) = (place / row, place % row);
        (channel % (head_width / 2) * 2 + channel / (head_width / 2)) * row + column
    })
}

/// The inverse of [`pairs_in_halves`].
pub(crate) fn halves_in_pairs(values: &[f32], count: usize, row: usize, head_width: usize) -> Vec<f32> {
    reordered(values, count, row * head_width, |place| {
        let (channel, column) = (place / row, place % row);
        (channel % 2 * (head_width / 2) + channel / 2) * row + column
    })
}

/// Whole groups of the first `count` values, in another order within each; `from` is the place of each value before.
fn reordered(values: &[f32], count: usize, group: usize, from: impl Fn(usize) -> usize) -> Vec<f32> {
    let mut out = values.to_vec();
    let groups = values[..count].chunks_exact(group.max(1)).zip(out[..count].chunks_exact_mut(group.max(1)));
    for (values, out) in groups {
        out.iter_mut().enumerate().for_each(|(place, out)| *out = values[from(place)]);
    }
    out
}

/// `[rows, columns]` as `[columns, rows]`, in cache-sized tiles.
pub(crate) fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let columns = columns.max(1);
    let rows = values.len() / columns;
    let mut out = vec![0.0; rows * columns];
    for first_row in (0..rows).step_by(TILE) {
        for first_column in (0..columns).step_by(TILE) {
            for column in first_column..(first_column + TILE).min(columns) {
                for row in first_row..(first_row + TILE).min(rows) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}

/// Patches of `[cell, channel]` as `[channel, cell]`, for each row of `width` values.
pub(crate) fn channels_first(values: &[f32], width: usize, places: usize) -> Vec<f32> {
    let channels = (width / places.max(1)).max(1);
    values.chunks(width.max(1)).flat_map(|row| transposed(row, channels)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        // One head of four channels in rows of two, and a value that stays.
        let neighbors: Vec<f32> = (0..9).map(|value| value as f32).collect();
        let halves = pairs_in_halves(&neighbors, 8, 2, 4);
        assert_eq!(halves, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0, 8.0]);
        assert_eq!(halves_in_pairs(&halves, 8, 2, 4), neighbors);
    }

    #[test]
    fn layouts() {
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        // Two cells of three channels, two rows.
        let rows: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(channels_first(&rows, 6, 2), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
    }
}
