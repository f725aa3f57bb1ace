//! Resampling position embeddings to another grid.

use vitral_engine::ops::resample;

use crate::config::{PositionResample, Size};

/// Resamples position embeddings: the first `prefix` are kept, the rest is a grid `[height, width, channels]`.
///
/// # Panics
/// If there are not `prefix + from.area()` positions.
pub fn resample_positions(
    positions: &[f32],
    prefix: usize,
    from: Size,
    to: Size,
    channels: usize,
    kernel: PositionResample,
) -> Vec<f32> {
    assert_eq!(positions.len(), (prefix + from.area()) * channels, "{prefix} and {from} positions of width {channels}");
    let (kept, grid) = positions.split_at(prefix * channels);
    let [rows, columns] = kernel.axes(from, to);
    let mut out = kept.to_vec();
    out.extend(resample(grid, channels, &rows, &columns));
    out
}
