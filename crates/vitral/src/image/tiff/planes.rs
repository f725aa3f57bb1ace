//! The bands of an image, gathered from its strips or tiles.

use super::chunks::Place;
use super::layout::{Kind, Layout};
use super::samples::Row;
use crate::image::{Format, ImageError, Limits};

/// The numbers of all bands, each band by itself.
pub(super) struct Planes {
    width: usize,
    height: usize,
    values: Vec<f32>,
    /// Bands that are complete.
    done: usize,
}

impl Planes {
    /// Allocates `bands` of the size of a page, if the limits allow it.
    pub(super) fn new(layout: &Layout, bands: usize, limits: &Limits) -> Result<Self, ImageError> {
        let (width, height) = (layout.width, layout.height);
        limits.check(Format::Tiff, width, height, 4 * bands as u64)?;
        Ok(Planes { width, height, values: vec![0.0; width * height * bands], done: 0 })
    }

    /// Puts rows of a strip or tile of a page in their place; `plane` is counted from the page's first band.
    pub(super) fn put(&mut self, layout: &Layout, plane: usize, place: Place, rows: &[u8], stride: usize) {
        let (stored, area) = (layout.interleaved(), self.width * self.height);
        for (index, bytes) in rows.chunks_exact(stride).take(place.height).enumerate() {
            let row = Row { bytes, bits: layout.bits, kind: layout.kind };
            let start = (place.top + index) * self.width + place.left;
            for sample in 0..stored {
                let band = self.done + if layout.planar { plane } else { sample };
                let out = &mut self.values[band * area + start..][..place.width];
                out.iter_mut().enumerate().for_each(|(column, out)| *out = row.number(column * stored + sample));
            }
        }
    }

    /// Ends a page.
    pub(super) fn end_page(&mut self, layout: &Layout) {
        self.done += layout.samples;
    }

    /// `[bands, height, width]`.
    pub(super) fn finish(self) -> Vec<f32> {
        self.values
    }
}

/// The largest value of a page's samples; 1 for real numbers.
pub(super) fn full(layout: &Layout) -> f32 {
    match layout.kind {
        Kind::Float => 1.0,
        Kind::Signed => ((1u32 << (layout.bits - 1)) - 1) as f32,
        Kind::Unsigned => ((1u32 << layout.bits) - 1) as f32,
    }
}

/// Whether a page continues the bands of another one.
pub(super) fn alike(a: &Layout, b: &Layout) -> bool {
    (a.width, a.height, a.bits, a.kind) == (b.width, b.height, b.bits, b.kind)
}
