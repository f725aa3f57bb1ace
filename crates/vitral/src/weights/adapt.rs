//! Weights brought to another form of the model: position grids resampled to another image size.

use crate::config::{PositionResample, Size};

/// Resamples a grid of vectors, `[height, width, channels]`, as PyTorch's `interpolate` (or, for
/// [`PositionResample::LinearAligned`], SciPy's `zoom` of order 1) does.
///
/// # Panics
/// When `grid` does not have `from.area() * channels` values.
pub fn resample(grid: &[f32], from: Size, to: Size, channels: usize, kernel: PositionResample) -> Vec<f32> {
    assert_eq!(grid.len(), from.area() * channels, "a grid of {from} positions of width {channels}");
    if from == to {
        return grid.to_vec();
    }
    // Along the rows first, then along the columns, as PyTorch does.
    let across = axis(from.width, to.width, kernel);
    let mut rows = vec![0.0; from.height * to.width * channels];
    for row in 0..from.height {
        for (column, taps) in across.iter().enumerate() {
            let target = &mut rows[(row * to.width + column) * channels..][..channels];
            for &(source, weight) in taps {
                add_scaled(target, &grid[(row * from.width + source) * channels..][..channels], weight);
            }
        }
    }
    let line = to.width * channels;
    let mut out = vec![0.0; to.height * line];
    for (row, taps) in axis(from.height, to.height, kernel).iter().enumerate() {
        let target = &mut out[row * line..][..line];
        for &(source, weight) in taps {
            add_scaled(target, &rows[source * line..][..line], weight);
        }
    }
    out
}

/// Resamples position embeddings: the first `prefix` of them stay, the rest is a grid.
pub fn resample_positions(
    positions: &[f32],
    prefix: usize,
    from: Size,
    to: Size,
    channels: usize,
    kernel: PositionResample,
) -> Vec<f32> {
    let (kept, grid) = positions.split_at(prefix * channels);
    let mut out = kept.to_vec();
    out.extend(resample(grid, from, to, channels, kernel));
    out
}

fn add_scaled(target: &mut [f32], source: &[f32], weight: f32) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += weight * source;
    }
}

/// For each target place along one axis, the source places it is made from and their weights.
fn axis(from: usize, to: usize, kernel: PositionResample) -> Vec<Vec<(usize, f32)>> {
    match kernel {
        PositionResample::Bicubic => (0..to).map(|place| cubic_taps(place, from, to)).collect(),
        PositionResample::BicubicAntialias => (0..to).map(|place| smoothed_taps(place, from, to)).collect(),
        PositionResample::LinearAligned => (0..to).map(|place| linear_taps(place, from, to)).collect(),
    }
}

/// Keys' cubic kernel.
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// Four neighbours, a = −0.75; beyond the border its value repeats.
fn cubic_taps(place: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
    let centre = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let base = centre.floor();
    let last = from as f64 - 1.0;
    (-1..=2)
        .map(|step| {
            let source = base + f64::from(step);
            (source.clamp(0.0, last) as usize, cubic(centre - source, -0.75) as f32)
        })
        .collect()
}

/// As many neighbours as the reduction asks for, a = −0.5; beyond the border nothing, weights rescaled to sum to one.
fn smoothed_taps(place: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
    let scale = from as f64 / to as f64;
    let widening = scale.max(1.0);
    let support = 2.0 * widening;
    let centre = (place as f64 + 0.5) * scale;
    let first = (centre - support + 0.5).max(0.0) as usize;
    let end = ((centre + support + 0.5) as usize).min(from);
    let weights: Vec<f64> = (first..end).map(|source| cubic((source as f64 - centre + 0.5) / widening, -0.5)).collect();
    let sum: f64 = weights.iter().sum();
    (first..end).zip(weights).map(|(source, weight)| (source, (weight / sum) as f32)).collect()
}

/// Two neighbours, first and last place of both axes on each other.
fn linear_taps(place: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
    let centre = if to > 1 { (place * (from - 1)) as f64 / (to - 1) as f64 } else { 0.0 };
    let first = (centre.floor() as usize).min(from - 1);
    let part = (centre - first as f64) as f32;
    vec![(first, 1.0 - part), ((first + 1).min(from - 1), part)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one() {
        for kernel in [PositionResample::Bicubic, PositionResample::BicubicAntialias, PositionResample::LinearAligned] {
            for (from, to) in [(1, 5), (5, 1), (7, 9), (9, 4), (3, 14), (14, 3)] {
                for taps in axis(from, to, kernel) {
                    let sum: f32 = taps.iter().map(|(_, weight)| weight).sum();
                    assert!((sum - 1.0).abs() < 1e-6, "{kernel:?} {from} to {to}: {sum}");
                    assert!(taps.iter().all(|(source, _)| *source < from));
                }
            }
        }
    }
}
