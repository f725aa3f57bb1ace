//! The two passes: along rows, then along columns.
//!
//! Plain loops over arrays; `pulp` also compiles them for AVX2 and chooses at run time, so that they are vectorized
//! without any `unsafe` here.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::weights::Weights;

/// Both passes.
pub(super) fn resample<const CHANNELS: usize>(
    pixels: &[u8],
    width: usize,
    across: &Weights,
    down: &Weights,
    columns_first: bool,
) -> Vec<u8> {
    if columns_first {
        // Only the columns needed by the second pass.
        let reach = across.reach();
        let bytes = reach.start * CHANNELS..reach.end * CHANNELS;
        let between = Arch::new().dispatch(DownColumns { pixels, stride: width * CHANNELS, bytes, first: 0, down });
        let rows = 0..down.len();
        Arch::new().dispatch(AlongRows::<CHANNELS> {
            pixels: &between,
            width: reach.len(),
            left: reach.start,
            rows,
            across,
        })
    } else {
        // Only the rows needed by the second pass.
        let rows = down.reach();
        let first = rows.start;
        let between = Arch::new().dispatch(AlongRows::<CHANNELS> { pixels, width, left: 0, rows, across });
        let stride = across.len() * CHANNELS;
        Arch::new().dispatch(DownColumns { pixels: &between, stride, bytes: 0..stride, first, down })
    }
}

/// One source pixel for each target pixel.
pub(super) fn gather<const CHANNELS: usize>(pixels: &[u8], width: usize, rows: &[usize], columns: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * columns.len() * CHANNELS);
    for &row in rows {
        let row = &pixels[row * width * CHANNELS..(row + 1) * width * CHANNELS];
        for &column in columns {
            out.extend_from_slice(&row[column * CHANNELS..(column + 1) * CHANNELS]);
        }
    }
    out
}

/// How many rows are processed together: their pixels in one column are stored together, four lanes each, and share its
/// weight.
const ROWS: usize = 8;

/// The pass that changes the width, over the rows `rows`.
struct AlongRows<'a, const CHANNELS: usize> {
    pixels: &'a [u8],
    width: usize,
    /// The column at which `pixels` begins.
    left: usize,
    rows: Range<usize>,
    across: &'a Weights,
}

impl<const CHANNELS: usize> WithSimd for AlongRows<'_, CHANNELS> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        let stride = self.width * CHANNELS;
        let narrow = self.across.len() * CHANNELS;
        let mut out = vec![0u8; self.rows.len() * narrow];
        let mut columns = vec![[0u8; ROWS * 4]; self.width];
        let source = &self.pixels[self.rows.start * stride..self.rows.end * stride];
        let precision = self.across.precision();
        for (source, target) in source.chunks(ROWS * stride).zip(out.chunks_mut(ROWS * narrow)) {
            for (row, bytes) in source.chunks_exact(stride).enumerate() {
                for (lanes, pixel) in columns.iter_mut().zip(bytes.chunks_exact(CHANNELS)) {
                    lanes[row * 4..row * 4 + CHANNELS].copy_from_slice(pixel);
                }
            }
            for index in 0..self.across.len() {
                let (start, weights) = self.across.of(index);
                let start = start - self.left;
                let sums = weighted(&columns[start..start + weights.len()], weights, precision);
                for (row, line) in target.chunks_exact_mut(narrow).enumerate() {
                    line[index * CHANNELS..(index + 1) * CHANNELS].copy_from_slice(&sums[row * 4..row * 4 + CHANNELS]);
                }
            }
        }
        out
    }
}

/// The weighted sum of neighboring columns, lane by lane.
#[inline(always)]
fn weighted(columns: &[[u8; ROWS * 4]], weights: &[i32], precision: u32) -> [u8; ROWS * 4] {
    let mut sums = [half(precision); ROWS * 4];
    for (lanes, &weight) in columns.iter().zip(weights) {
        for (sum, &byte) in sums.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight));
        }
    }
    sums.map(|sum| clip(sum, precision))
}

/// The pass that changes the height, over the bytes `bytes` of every row.
struct DownColumns<'a> {
    pixels: &'a [u8],
    stride: usize,
    bytes: Range<usize>,
    /// The row at which `pixels` begins.
    first: usize,
    down: &'a Weights,
}

/// How many neighboring bytes are summed at once: their sums stay in registers.
const LANES: usize = 32;

impl WithSimd for DownColumns<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        let precision = self.down.precision();
        let mut out = vec![0u8; self.down.len() * self.bytes.len()];
        for (index, target) in out.chunks_exact_mut(self.bytes.len()).enumerate() {
            let (start, weights) = self.down.of(index);
            let mut at = (start - self.first) * self.stride + self.bytes.start;
            let mut chunks = target.chunks_exact_mut(LANES);
            for target in &mut chunks {
                let mut sums = [half(precision); LANES];
                for (tap, &weight) in weights.iter().enumerate() {
                    let source: &[u8; LANES] =
                        self.pixels[at + tap * self.stride..][..LANES].try_into().expect("lanes");
                    for (sum, &byte) in sums.iter_mut().zip(source) {
                        *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight));
                    }
                }
                for (byte, sum) in target.iter_mut().zip(sums) {
                    *byte = clip(sum, precision);
                }
                at += LANES;
            }
            for (lane, byte) in chunks.into_remainder().iter_mut().enumerate() {
                let tap = |(tap, &weight): (usize, &i32)| {
                    i32::from(self.pixels[at + lane + tap * self.stride]).wrapping_mul(weight)
                };
                *byte = clip(weights.iter().enumerate().map(tap).fold(half(precision), i32::wrapping_add), precision);
            }
        }
        out
    }
}

/// One half in fixed point, so that the shift rounds.
#[inline(always)]
fn half(precision: u32) -> i32 {
    1 << precision >> 1
}

#[inline(always)]
fn clip(sum: i32, precision: u32) -> u8 {
    (sum >> precision).clamp(0, 255) as u8
}
