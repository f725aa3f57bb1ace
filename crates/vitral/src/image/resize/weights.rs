//! Which source pixels contribute to a target pixel, and with which weights.

use std::ops::Range;

use super::filter::Filter;

/// Fraction bits of Pillow's weights.
const PILLOW: u32 = 32 - 8 - 2;

/// For every target position of a range: where its source pixels start, and their weights in fixed point.
pub(super) struct Weights {
    starts: Vec<usize>,
    lengths: Vec<usize>,
    values: Vec<i32>,
    stride: usize,
    precision: u32,
}

/// For every target position of a range: its first source pixel, and the weights from there on, which add up to 1.
pub(super) fn exact(filter: Filter, from: usize, to: usize, range: Range<usize>) -> Vec<(usize, Vec<f64>)> {
    let (support, shape) = kernel(filter);
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = support * stretch;
    let weights = |target: usize| {
        let center = (target as f64 + 0.5) * scale;
        // A cast to an unsigned integer truncates, and maps negative numbers to 0.
        let start = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let shape = |offset: usize| shape(((offset + start) as f64 - center + 0.5) * (1.0 / stretch));
        let mut weights: Vec<f64> = (0..end - start).map(shape).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        (start, weights)
    };
    range.map(weights).collect()
}

impl Weights {
    /// The weights for resizing `from` pixels to the targets `range` of `to` pixels, by Pillow's `precompute_coeffs`
    /// and `normalize_coeffs_8bpc`.
    pub(super) fn pillow(filter: Filter, from: usize, to: usize, range: Range<usize>) -> Self {
        if from == to {
            return Weights::identity(range);
        }
        Weights::fixed(&exact(filter, from, to, range), PILLOW)
    }

    /// The same in 16 bits, by PyTorch's `_compute_index_ranges_int16_weights`: as many fraction bits as the largest
    /// weight of the whole side leaves, 13 or 14 if the image shrinks little.
    pub(super) fn torch(filter: Filter, from: usize, to: usize, range: Range<usize>) -> Self {
        if from == to {
            return Weights::identity(range);
        }
        let exact = exact(filter, from, to, 0..to);
        let largest = exact.iter().flat_map(|(_, weights)| weights).copied().fold(0.0, f64::max);
        let fits = |precision: u32| ((0.5 + largest * f64::from(1 << precision)) as i64) < 1 << 15;
        let precision = (0..PILLOW).find(|precision| !fits(precision + 1)).unwrap_or(PILLOW);
        Weights::fixed(&exact[range], precision)
    }

    /// Weights that copy.
    fn identity(range: Range<usize>) -> Self {
        let count = range.len();
        let values = vec![1 << PILLOW; count];
        Weights { starts: range.collect(), lengths: vec![1; count], values, stride: 1, precision: PILLOW }
    }

    /// Weights rounded to this many fraction bits.
    fn fixed(exact: &[(usize, Vec<f64>)], precision: u32) -> Self {
        let stride = exact.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let mut weights = Weights {
            starts: exact.iter().map(|(start, _)| *start).collect(),
            lengths: exact.iter().map(|(_, weights)| weights.len()).collect(),
            values: vec![0; exact.len() * stride],
            stride,
            precision,
        };
        for (row, (_, exact)) in exact.iter().enumerate() {
            for (weight, fixed) in exact.iter().zip(&mut weights.values[row * stride..]) {
                let half = if *weight < 0.0 { -0.5 } else { 0.5 };
                *fixed = (half + weight * f64::from(1 << precision)) as i32;
            }
        }
        weights
    }

    /// Fraction bits of a weight.
    pub(super) fn precision(&self) -> u32 {
        self.precision
    }

    /// The number of targets.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The first source pixel of a target, and the weights from there on.
    #[inline(always)]
    pub(super) fn of(&self, target: usize) -> (usize, &[i32]) {
        let first = target * self.stride;
        (self.starts[target], &self.values[first..first + self.lengths[target]])
    }

    /// The source pixels that any target needs.
    pub(super) fn reach(&self) -> Range<usize> {
        let end = (0..self.len()).map(|target| self.starts[target] + self.lengths[target]).max();
        self.starts.iter().copied().min().unwrap_or(0)..end.unwrap_or(0)
    }
}

/// For every target position of a range, the one source pixel under its center, by Pillow's `ImagingScaleAffine`: the
/// position is accumulated, rounding errors included.
pub(super) fn nearest(from: usize, to: usize, range: Range<usize>) -> Vec<usize> {
    let scale = from as f64 / to as f64;
    let mut position = scale * 0.5;
    let mut sources = Vec::with_capacity(range.len());
    for target in 0..range.end {
        if target >= range.start {
            sources.push((position as usize).min(from - 1));
        }
        position += scale;
    }
    sources
}

/// For every target position of a range, the source pixel that PyTorch's `nearest-exact` takes: the position is rounded
/// to 32 bits once, as by the multiply-add that its compilers make of it, then to the nearest pixel.
pub(super) fn nearest_exact(from: usize, to: usize, range: Range<usize>) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    let source = |target: usize| {
        let position = scale.mul_add(target as f32 + 0.5, -0.5);
        ((f64::from(position) + 0.5) as usize).min(from - 1)
    };
    range.map(source).collect()
}

/// A filter's support and its shape.
fn kernel(filter: Filter) -> (f64, fn(f64) -> f64) {
    match filter {
        Filter::Nearest => unreachable!("nearest has no weights"),
        Filter::Box => (0.5, |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }),
        Filter::Bilinear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
        Filter::Hamming => (1.0, hamming),
        Filter::Bicubic => (2.0, bicubic),
        Filter::Lanczos => (3.0, |x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }),
    }
}

fn hamming(x: f64) -> f64 {
    let x = x.abs();
    if x == 0.0 {
        return 1.0;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x * (0.54 + 0.46 * x.cos())
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}
