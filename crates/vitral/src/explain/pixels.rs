//! What the output depends on, pixel by pixel: gradients with respect to the input, and their means.
//!
//! All return `[channels, height, width]` for one image; [`over_channels`] makes a map of it.

use vitral_engine::Tensor;
use vitral_engine::random::normal;

use super::progress::{Progress, report};
use super::{Map, Target, Wanted};
use crate::config::Size;
use crate::error::Error;
use crate::load::Model;
use crate::numbers::{largest, smallest};

/// Images per batch.
const BATCH: usize = 8;

/// The gradient of the target with respect to the pixels (Simonyan et al., arXiv:1312.6034).
///
/// # Errors
/// Those of [`Model::gradients`].
pub fn gradient(model: &Model, pixels: &Tensor, target: &Target) -> Result<Vec<f32>, Error> {
    let pass = model.gradients(pixels, target, Wanted::Pixels)?;
    match pass.pixels {
        Some(gradient) => Ok(gradient.to_vec()?),
        None => Ok(vec![0.0; pixels.shape().count()]),
    }
}

/// The mean gradient over variants of an image; `variant(i)` returns the pixels of the `i`-th of `count`.
fn mean_gradient(
    model: &Model,
    pixels: &Tensor,
    target: &Target,
    count: usize,
    progress: Progress<'_>,
    variant: impl Fn(usize, &mut [f32]),
) -> Result<Vec<f64>, Error> {
    let one = pixels.shape().count();
    let [_, channels, height, width] = pixels.shape()[..] else { unreachable!("pixels have four dimensions") };
    let mut sum = vec![0.0f64; one];
    for first in (0..count).step_by(BATCH) {
        let size = BATCH.min(count - first);
        let mut variants = vec![0.0; size * one];
        variants.chunks_exact_mut(one).enumerate().for_each(|(i, out)| variant(first + i, out));
        let batch = model.parameters.device().upload([size, channels, height, width], &variants)?;
        for gradient in gradient(model, &batch, target)?.chunks_exact(one) {
            sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += f64::from(*gradient));
        }
        report(progress, size)?;
    }
    sum.iter_mut().for_each(|sum| *sum /= count as f64);
    Ok(sum)
}

/// Integrated gradients, and how well they satisfy completeness.
#[derive(Clone, Debug)]
pub struct Integrated {
    /// `[channels, height, width]`.
    pub values: Vec<f32>,
    /// The expected sum of all values: the target's value for the image minus that for the baseline.
    pub expected: f64,
    /// Their actual sum.
    pub sum: f64,
}

/// Integrated gradients (Sundararajan et al., arXiv:1703.01365): the path from `baseline` to the image in `steps` equal
/// parts, with the gradient at the midpoint of each.
///
/// # Errors
/// Those of [`Model::gradients`], and if `progress` stops it.
pub fn integrated(
    model: &Model,
    pixels: &Tensor,
    target: &Target,
    baseline: &Tensor,
    steps: usize,
    progress: Progress<'_>,
) -> Result<Integrated, Error> {
    let (from, to) = (baseline.to_vec()?, pixels.to_vec()?);
    let mean = mean_gradient(model, pixels, target, steps, progress, |step, out| {
        let share = ((step as f64 + 0.5) / steps as f64) as f32;
        out.iter_mut().zip(from.iter().zip(&to)).for_each(|(out, (from, to))| *out = from + share * (to - from));
    })?;
    let values: Vec<f64> =
        mean.iter().zip(from.iter().zip(&to)).map(|(g, (from, to))| g * f64::from(to - from)).collect();
    let answer = |pixels: &Tensor| -> Result<f64, Error> { Ok(target.values(model, &model.run(pixels, None)?)?[0]) };
    Ok(Integrated {
        expected: answer(pixels)? - answer(baseline)?,
        sum: values.iter().sum(),
        values: values.into_iter().map(|x| x as f32).collect(),
    })
}

/// SmoothGrad (Smilkov et al., arXiv:1706.03825): the mean gradient over `samples` copies of the image with Gaussian
/// noise, whose standard deviation is `noise` times the range of the pixels.
///
/// # Errors
/// Those of [`Model::gradients`], and if `progress` stops it.
pub fn smooth(
    model: &Model,
    pixels: &Tensor,
    target: &Target,
    (samples, noise, seed): (usize, f32, u64),
    progress: Progress<'_>,
) -> Result<Vec<f32>, Error> {
    let values = pixels.to_vec()?;
    let low = smallest(values.iter().copied());
    let high = largest(values.iter().copied());
    let deviation = noise * (high - low);
    let mean = mean_gradient(model, pixels, target, samples, progress, |sample, out| {
        let first = (sample * values.len()) as u64;
        for (i, (out, value)) in out.iter_mut().zip(&values).enumerate() {
            *out = value + deviation * normal(seed, first + i as u64);
        }
    })?;
    Ok(mean.into_iter().map(|x| x as f32).collect())
}

/// How channels are combined into one value per pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// The sum: for values that add up to the output.
    Sum,
    /// The largest magnitude: for gradients, whose sign means little.
    Greatest,
}

/// `[channels, height, width]` as a map over pixels.
pub fn over_channels(values: &[f32], size: Size, how: Channels) -> Map {
    let mut map = vec![0.0f32; size.area()];
    for plane in values.chunks_exact(size.area()) {
        for (map, value) in map.iter_mut().zip(plane) {
            match how {
                Channels::Sum => *map += value,
                Channels::Greatest => *map = map.max(value.abs()),
            }
        }
    }
    Map::new(size, map)
}
