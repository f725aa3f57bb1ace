//! The two passes: along rows, then along columns.
//!
//! Written as plain loops over arrays; `pulp` compiles them once more for AVX2 and chooses at run time, so that they
//! become vector code without a line of `unsafe` here.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::weights::{PRECISION, Weights};

/// Half a unit, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// Both passes over the source rows `rows`.
pub(super) fn resample<const CHANNELS: usize>(
    pixels: &[u8],
    width: usize,
    rows: Range<usize>,
    across: &Weights,
    down: &Weights,
) -> Vec<u8> {
    Arch::new().dispatch(Passes::<CHANNELS> { pixels, width, rows, across, down })
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

struct Passes<'a, const CHANNELS: usize> {
    pixels: &'a [u8],
    width: usize,
    rows: Range<usize>,
    across: &'a Weights,
    down: &'a Weights,
}

impl<const CHANNELS: usize> WithSimd for Passes<'_, CHANNELS> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        let stride = self.width * CHANNELS;
        let narrow = self.across.len() * CHANNELS;
        let mut between = vec![0u8; self.rows.len() * narrow];
        // One pixel is read as four bytes, so a row needs room after its last pixel.
        let mut row = vec![0u8; stride + 4];
        for (source, target) in self.rows.clone().zip(between.chunks_exact_mut(narrow)) {
            row[..stride].copy_from_slice(&self.pixels[source * stride..(source + 1) * stride]);
            along_row::<CHANNELS>(&row, self.across, target);
        }
        let mut out = vec![0u8; self.down.len() * narrow];
        let mut sums = vec![0i32; narrow];
        for (index, target) in out.chunks_exact_mut(narrow).enumerate() {
            let (start, weights) = self.down.of(index);
            let first = (start - self.rows.start) * narrow;
            down_columns(&between[first..first + weights.len() * narrow], weights, &mut sums, target);
        }
        out
    }
}

/// Each target pixel is a weighted sum of neighbouring source pixels; four lanes hold its channels.
#[inline(always)]
fn along_row<const CHANNELS: usize>(row: &[u8], across: &Weights, target: &mut [u8]) {
    for (index, pixel) in target.chunks_exact_mut(CHANNELS).enumerate() {
        let (start, weights) = across.of(index);
        let source = &row[start * CHANNELS..(start + weights.len()) * CHANNELS + 4 - CHANNELS];
        let mut sums = [HALF; 4];
        for (tap, &weight) in weights.iter().enumerate() {
            let bytes: [u8; 4] = source[tap * CHANNELS..tap * CHANNELS + 4].try_into().expect("four bytes");
            for (sum, byte) in sums.iter_mut().zip(bytes) {
                *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight));
            }
        }
        for (byte, sum) in pixel.iter_mut().zip(sums) {
            *byte = clip(sum);
        }
    }
}

/// Each target row is a weighted sum of whole source rows.
#[inline(always)]
fn down_columns(source: &[u8], weights: &[i32], sums: &mut [i32], target: &mut [u8]) {
    sums.fill(HALF);
    for (row, &weight) in source.chunks_exact(target.len()).zip(weights) {
        for (sum, &byte) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight));
        }
    }
    for (byte, &sum) in target.iter_mut().zip(sums.iter()) {
        *byte = clip(sum);
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
