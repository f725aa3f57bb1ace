//! What the output depends on, measured by hiding parts of the image: forward passes only.
//!
//! Hidden pixels become 0 after normalization: the mean of the training images.

use vitral_engine::Tensor;
use vitral_engine::random::{mix, uniform};

use super::progress::{Progress, report};
use super::{Layout, Map, Target};
use crate::error::Error;
use crate::load::Model;

/// Images per batch.
const BATCH: usize = 16;

/// The scores of `count` variants of an image; `variant(i)` changes the pixels `[channels, height · width]` of the
/// `i`-th.
pub(super) fn scores(
    model: &Model,
    pixels: &Tensor,
    target: &Target,
    count: usize,
    progress: Progress<'_>,
    variant: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Vec<f64>, Error> {
    use rayon::prelude::*;
    let [_, channels, height, width] = pixels.shape()[..] else { unreachable!("pixels have four dimensions") };
    let (whole, device) = (pixels.to_vec()?, model.parameters.device());
    let mut found = Vec::with_capacity(count);
    for first in (0..count).step_by(BATCH) {
        let size = BATCH.min(count - first);
        let mut variants = whole.repeat(size);
        variants.par_chunks_exact_mut(whole.len()).enumerate().for_each(|(i, out)| variant(first + i, out));
        let batch = device.upload([size, channels, height, width], &variants)?;
        found.extend(target.scores(model, &model.run(&batch, None)?)?);
        report(progress, size)?;
    }
    Ok(found)
}

/// Occlusion (Zeiler & Fergus, arXiv:1311.2901): the loss of score when a square of `window` × `window` patches around
/// each patch is hidden. A map over patches.
///
/// # Errors
/// Those of [`Model::run`].
pub fn occlusion(
    model: &Model,
    pixels: &Tensor,
    layout: &Layout,
    target: &Target,
    window: usize,
    progress: Progress<'_>,
) -> Result<Map, Error> {
    let (grid, stride, image) = (layout.grid, layout.stride, layout.image);
    let around = |at: usize, stride: usize, end: usize| {
        let first = at.saturating_sub((window - 1) / 2);
        (first * stride).min(end)..((at + window / 2 + 1) * stride).min(end)
    };
    // The last variant is the whole image.
    let mut found = scores(model, pixels, target, grid.area() + 1, progress, |patch, out| {
        if patch == grid.area() {
            return;
        }
        let rows = around(patch / grid.width, stride.height, image.height);
        let columns = around(patch % grid.width, stride.width, image.width);
        for plane in out.chunks_exact_mut(image.area()) {
            for row in rows.clone() {
                plane[row * image.width..][columns.clone()].fill(0.0);
            }
        }
    })?;
    let whole = found.pop().unwrap_or_default();
    Ok(Map::new(grid, found.into_iter().map(|score| (whole - score) as f32).collect()))
}

/// How RISE generates its masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RiseOptions {
    /// Number of masks.
    pub masks: usize,
    /// Cells along each side of a mask.
    pub cells: usize,
    /// The fraction of cells that are kept.
    pub keep: f32,
    /// The random seed.
    pub seed: u64,
}

impl Default for RiseOptions {
    /// The paper's: 7 × 7 cells, half of them kept.
    fn default() -> Self {
        RiseOptions { masks: 1000, cells: 7, keep: 0.5, seed: 0 }
    }
}

impl RiseOptions {
    /// The `index`-th mask over `height × width` pixels: cells of 1 and 0, upsampled bilinearly and shifted by less
    /// than a cell.
    pub fn mask(&self, index: usize, height: usize, width: usize) -> Vec<f32> {
        let seed = mix(self.seed ^ mix(index as u64 + 1));
        let side = self.cells + 2;
        let cells: Vec<f32> =
            (0..side * side).map(|i| f32::from(u8::from(uniform(seed, i as u64) < self.keep))).collect();
        let shift = [0, 1].map(|i| uniform(seed, (side * side + i) as u64));
        let along = |at: usize, extent: usize, shift: f32| {
            let place = (at as f32 + 0.5) / extent as f32 * self.cells as f32 + shift;
            let first = (place as usize).min(side - 2);
            (first, place - first as f32)
        };
        let columns: Vec<(usize, f32)> = (0..width).map(|x| along(x, width, shift[1])).collect();
        let mut mask = Vec::with_capacity(height * width);
        for y in 0..height {
            let (row, down) = along(y, height, shift[0]);
            let at = |row: usize, column: usize| cells[row * side + column];
            mask.extend(columns.iter().map(|&(column, right)| {
                let upper = at(row, column) * (1.0 - right) + at(row, column + 1) * right;
                let lower = at(row + 1, column) * (1.0 - right) + at(row + 1, column + 1) * right;
                upper * (1.0 - down) + lower * down
            }));
        }
        mask
    }
}

/// RISE (Petsiuk et al., arXiv:1806.07421): the mean of random masks, each weighted by the score of the image seen
/// through it. A map over pixels.
///
/// Those of [`Model::run`].
/// As [`Model::run`].
pub fn rise(
    model: &Model,
    pixels: &Tensor,
    layout: &Layout,
    target: &Target,
    options: RiseOptions,
    progress: Progress<'_>,
) -> Result<Map, Error> {
    let size = layout.image;
    let found = scores(model, pixels, target, options.masks, progress, |index, out| {
        let mask = options.mask(index, size.height, size.width);
        for plane in out.chunks_exact_mut(size.area()) {
            plane.iter_mut().zip(&mask).for_each(|(pixel, mask)| *pixel *= mask);
        }
    })?;
    let mut sum = vec![0.0f64; size.area()];
    for (index, score) in found.iter().enumerate() {
        let mask = options.mask(index, size.height, size.width);
        sum.iter_mut().zip(mask).for_each(|(sum, mask)| *sum += score * f64::from(mask));
    }
    let scale = 1.0 / (options.masks as f64 * f64::from(options.keep));
    Ok(Map::new(size, sum.into_iter().map(|x| (x * scale) as f32).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_their_fraction_and_differ() {
        let options = RiseOptions { masks: 200, ..RiseOptions::default() };
        let mean = |index| {
            let mask = options.mask(index, 20, 30);
            assert!(mask.iter().all(|x| (0.0..=1.0).contains(x)));
            f64::from(mask.iter().sum::<f32>()) / 600.0
        };
        let means: Vec<f64> = (0..200).map(mean).collect();
        assert!((means.iter().sum::<f64>() / 200.0 - 0.5).abs() < 0.02);
        assert_ne!(options.mask(0, 20, 30), options.mask(1, 20, 30));
    }
}
