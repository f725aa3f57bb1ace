//! From a component's samples to the image's resolution.
//!
//! For factors of two, libjpeg interpolates ("fancy upsampling"): a new sample is a quarter of the way to its neighbor,
//! and sums that end in a half are alternately rounded down and up. Other factors repeat samples, and so do rows of one
//! or two samples.

use super::super::ImageError;
use super::fault::unsupported;
use super::kernels::Kernels;

/// How a component is upsampled to the image's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upsampling {
    /// It already has that size.
    None,
    /// Interpolated horizontally.
    Columns,
    /// Interpolated vertically.
    Rows,
    /// Interpolated both ways, rounded once.
    Both,
    /// Each sample repeated.
    Repeat {
        /// Horizontal factor.
        across: usize,
        /// Vertical factor.
        down: usize,
    },
}

impl Upsampling {
    /// From the image's and the component's sampling factors, and the samples per row.
    pub(super) fn new(across: (usize, usize), down: (usize, usize), width: usize) -> Result<Self, ImageError> {
        if !across.0.is_multiple_of(across.1) || !down.0.is_multiple_of(down.1) {
            let (across, down) = (format!("{}/{}", across.0, across.1), format!("{}/{}", down.0, down.1));
            return Err(unsupported(format!("a component enlarged {across} times across and {down} times down")));
        }
        let wide = width > 2;
        Ok(match (across.0 / across.1, down.0 / down.1) {
            (1, 1) => Upsampling::None,
            (2, 1) if wide => Upsampling::Columns,
            (1, 2) => Upsampling::Rows,
            (2, 2) if wide => Upsampling::Both,
            (across, down) => Upsampling::Repeat { across, down },
        })
    }

    /// Whether a row of the image is computed from two rows of samples.
    pub(super) fn mixes_rows(self) -> bool {
        matches!(self, Upsampling::Rows | Upsampling::Both)
    }

    /// The rows of samples that a row of the image is computed from: the one it is in, and its neighbor (which may be
    /// outside).
    pub(super) fn sources(self, row: usize) -> (usize, isize) {
        match self {
            Upsampling::None | Upsampling::Columns => (row, row as isize),
            Upsampling::Rows | Upsampling::Both => {
                let near = row / 2;
                (near, if row.is_multiple_of(2) { near as isize - 1 } else { near as isize + 1 })
            }
            Upsampling::Repeat { down, .. } => (row / down, (row / down) as isize),
        }
    }

    /// Computes a row of the image; `lower` says that it is the lower of the two rows in `near`.
    #[inline(always)]
    pub(super) fn make<K: Kernels>(self, kernels: K, near: &[u8], far: &[u8], lower: bool, row: &mut [u8]) {
        match self {
            Upsampling::None => row[..near.len()].copy_from_slice(near),
            Upsampling::Columns => kernels.columns(near, row),
            Upsampling::Rows => {
                let bias = if lower { 2 } else { 1 };
                for ((out, &near), &far) in row.iter_mut().zip(near).zip(far) {
                    *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Upsampling::Both => kernels.both(near, far, row),
            Upsampling::Repeat { across, .. } => {
                for (out, &sample) in row.chunks_exact_mut(across).zip(near) {
                    out.fill(sample);
                }
            }
        }
    }
}

/// [`Upsampling::Columns`]: two samples for each of `near`.
#[inline(always)]
pub(super) fn columns(near: &[u8], row: &mut [u8]) {
    let between = |[left, this, right]: [u16; 3]| between(this, left, right, 1, 2, 2);
    let at = |index: usize| u16::from(near[index]);
    let last = near.len() - 1;
    let ends = [[at(0), at(0), at(1)], [at(last - 1), at(last), at(last)]].map(between);
    for (pair, near) in row[2..].chunks_exact_mut(2).zip(near.windows(3)) {
        pair.copy_from_slice(&between([0, 1, 2].map(|index| u16::from(near[index]))));
    }
    set_ends(row, last, ends);
}

/// [`Upsampling::Both`]: two samples for each of `near`, mixed with `far`.
#[inline(always)]
pub(super) fn both(near: &[u8], far: &[u8], row: &mut [u8]) {
    let between = |[left, this, right]: [u16; 3]| between(this, left, right, 8, 7, 4);
    let mix = |near: u8, far: u8| 3 * u16::from(near) + u16::from(far);
    let at = |index: usize| mix(near[index], far[index]);
    let last = near.len() - 1;
    let ends = [[at(0), at(0), at(1)], [at(last - 1), at(last), at(last)]].map(between);
    for ((pair, near), far) in row[2..].chunks_exact_mut(2).zip(near.windows(3)).zip(far.windows(3)) {
        pair.copy_from_slice(&between([0, 1, 2].map(|index| mix(near[index], far[index]))));
    }
    set_ends(row, last, ends);
}

/// The pairs with a neighbor on only one side.
#[inline(always)]
fn set_ends(row: &mut [u8], last: usize, [first, end]: [[u8; 2]; 2]) {
    row[..2].copy_from_slice(&first);
    row[2 * last..2 * last + 2].copy_from_slice(&end);
}

/// The two samples that replace one, interpolated toward its neighbors.
#[inline(always)]
fn between(this: u16, left: u16, right: u16, left_bias: u16, right_bias: u16, shift: u32) -> [u8; 2] {
    let first = (3 * this + left + left_bias) >> shift;
    let second = (3 * this + right + right_bias) >> shift;
    (first | (second << 8)).to_le_bytes()
}
