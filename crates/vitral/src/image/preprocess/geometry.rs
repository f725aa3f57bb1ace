//! The sizes of images between steps, and where a pixel goes.

use super::super::ImageError;
use super::{Halving, Preprocess, Step, Target};
use crate::config::Size;

/// The most pixels that an image may have between two steps; parts dropped by a crop are never computed, but count.
const MOST_PIXELS: usize = 1 << 28;

impl Target {
    /// The size that an image of size `from` is resized to.
    pub fn of(self, from: Size) -> Size {
        let (short, long) = (from.height.min(from.width), from.height.max(from.width));
        let oriented = |short, long| {
            if from.width <= from.height {
                Size { height: long, width: short }
            } else {
                Size { height: short, width: long }
            }
        };
        let in_proportion = |to: Size, ratio: fn(f64, f64) -> f64| {
            let (height, width) = (from.height as f64, from.width as f64);
            let ratio = ratio(height / to.height as f64, width / to.width as f64);
            let round = |side: f64| (side / ratio).round_ties_even() as usize;
            Size { height: round(height).max(1), width: round(width).max(1) }
        };
        match self {
            Target::Exact(size) => size,
            Target::ShortSide(length) => oriented(length, length.saturating_mul(long) / short),
            Target::LongSide(length) => oriented((length.saturating_mul(short) / long).max(1), length),
            Target::Cover(size) => in_proportion(size, f64::min),
            Target::Fit(size) => in_proportion(size, f64::max),
            Target::Patches { patch, most } => in_patches(from, patch, most),
            Target::ShortSideWithin { short: wanted, longest } => {
                if (long as f64 / short as f64) * wanted as f64 <= longest as f64 {
                    return oriented(wanted, wanted.saturating_mul(long) / short);
                }
                let exact = longest as f64 * short as f64 / long as f64;
                let wanted = exact.round_ties_even() as usize;
                if wanted == short {
                    return from;
                }
                oriented(wanted.max(1), (exact * long as f64 / short as f64) as usize)
            }
        }
    }

    /// The size, if it is the same for every image.
    fn fixed(self) -> Option<Size> {
        match self {
            Target::Exact(size) => Some(size),
            _ => None,
        }
    }
}

/// The size of at most so many whole patches, found by halving the range of scales as both libraries do.
fn in_patches(from: Size, patch: Size, most: usize) -> Size {
    const NEAR: f64 = 1e-5;
    let at = |scale: f64| {
        let side = |side: usize, patch: usize| {
            let patch = patch.max(1);
            ((side as f64 * scale / patch as f64).ceil() as usize * patch).max(patch)
        };
        Size { height: side(from.height, patch.height), width: side(from.width, patch.width) }
    };
    let (mut low, mut high) = (NEAR / 10.0, 100.0);
    while high - low >= NEAR {
        let scale = (low + high) / 2.0;
        let Size { height, width } = at(scale);
        let patches = (height / patch.height.max(1)).saturating_mul(width / patch.width.max(1));
        if patches <= most { low = scale } else { high = scale }
    }
    at(low)
}

impl Step {
    /// Rejects a size after this step that is empty or enormous.
    pub(super) fn check_size(&self, from: Size, to: Size) -> Result<(), ImageError> {
        let area = to.height.saturating_mul(to.width);
        if area == 0 || area > MOST_PIXELS {
            let to = format!("{}×{}", to.height, to.width);
            return Err(ImageError::Elongated { from, to, step: self.to_string(), limit: MOST_PIXELS });
        }
        Ok(())
    }

    /// The size of an image of size `from` after this step.
    pub(super) fn size_of(&self, from: Size) -> Size {
        match self {
            Step::Resize { to, .. }
            | Step::ResizeTensor { to, .. }
            | Step::ResizeNumbers { to, .. }
            | Step::Interpolate { to, .. } => to.of(from),
            Step::CenterCrop { size, .. } => *size,
        }
    }
}

impl Halving {
    /// Where a crop of length `to` begins in a side of length `from`; if negative, the amount of padding before it.
    pub(super) fn offset(self, from: usize, to: usize) -> isize {
        let spare = from as isize - to as isize;
        match self {
            Halving::Down => spare.div_euclid(2),
            Halving::TowardZero => spare / 2,
            Halving::Even if spare < 0 => -(-spare / 2),
            Halving::Even => (spare as f64 / 2.0).round_ties_even() as isize,
        }
    }
}

impl Preprocess {
    /// The size of every tensor, if fixed: that of the last crop or exact resize. `None` if it depends on the image.
    pub fn output_size(&self) -> Option<Size> {
        self.steps.iter().fold(None, |_, step| match step {
            Step::Resize { to, .. }
            | Step::ResizeTensor { to, .. }
            | Step::ResizeNumbers { to, .. }
            | Step::Interpolate { to, .. } => to.fixed(),
            Step::CenterCrop { size, .. } => Some(*size),
        })
    }

    /// The size of the tensor for an image of size `from`.
    pub fn output_size_for(&self, from: Size) -> Size {
        self.steps.iter().fold(from, |size, step| step.size_of(size))
    }

    /// Where a pixel (row and column) of an image of size `from` is after the steps; `None` if a crop drops it.
    pub fn locate(&self, from: Size, pixel: [usize; 2]) -> Option<[usize; 2]> {
        let [mut row, mut column] = pixel;
        let mut size = from;
        for step in &self.steps {
            match step {
                Step::Resize { to, .. }
                | Step::ResizeTensor { to, .. }
                | Step::ResizeNumbers { to, .. }
                | Step::Interpolate { to, .. } => {
                    let to = to.of(size);
                    (row, column) = (row * to.height / size.height.max(1), column * to.width / size.width.max(1));
                    size = to;
                }
                Step::CenterCrop { size: to, halving, .. } => {
                    row = row.checked_add_signed(-halving.offset(size.height, to.height))?;
                    column = column.checked_add_signed(-halving.offset(size.width, to.width))?;
                    size = *to;
                }
            }
            if row >= size.height || column >= size.width {
                return None;
            }
        }
        Some([row, column])
    }
}
