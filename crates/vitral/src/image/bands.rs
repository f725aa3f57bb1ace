//! Images of any number of bands: what satellites, microscopes and scanners record.

use super::depth::SampleRange;
use super::resize::{Window, interpolate, resample_numbers};
use super::{Filter, ImageError, RgbImage};
use crate::config::Size;

/// The most bands that an image may have.
pub const MOST_BANDS: usize = 1024;

/// The share of a band's samples that is shown as black, and as white.
const CUT: f64 = 0.02;

/// An upright image of any number of bands, as the numbers that its file stores: `[bands, height, width]`.
#[derive(Clone, PartialEq)]
pub struct BandImage {
    size: Size,
    bands: usize,
    values: Vec<f32>,
    full: f32,
}

impl BandImage {
    /// Takes the values `[bands, height, width]`. `full` is the largest value of the type that they were stored in: 255 for
    /// bytes, 65,535 for 16 bits, and 1 for real numbers.
    ///
    /// # Errors
    /// If their number does not match, there are none, or a value is not finite.
    pub fn new(size: Size, bands: usize, values: Vec<f32>, full: f32) -> Result<Self, ImageError> {
        let expected = size.height.checked_mul(size.width).and_then(|area| area.checked_mul(bands));
        if expected != Some(values.len()) || values.is_empty() || bands > MOST_BANDS {
            return Err(ImageError::BandValues { bands, most: MOST_BANDS, size, found: values.len() });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (band, place) = (at / size.area(), at % size.area());
            let (row, column, found) = (place / size.width, place % size.width, values[at]);
            return Err(ImageError::NotFinite { band: band + 1, row, column, found });
        }
        Ok(BandImage { size, bands, values, full })
    }

    /// The three bands of an image in color.
    pub fn from_rgb(image: &RgbImage) -> Self {
        let plane = |band: usize| image.pixels().iter().skip(band).step_by(3).map(|&value| f32::from(value));
        BandImage { size: image.size(), bands: 3, values: (0..3).flat_map(plane).collect(), full: 255.0 }
    }

    /// Height and width.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The number of bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// The values, `[bands, height, width]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The largest value of the type that the samples were stored in; 1 for real numbers.
    pub fn full(&self) -> f32 {
        self.full
    }

    /// The bands one after the other, each `[height, width]`.
    pub fn planes(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.size.area())
    }

    /// The same samples, stored in a type with this largest value.
    pub(super) fn with_full(self, full: f32) -> Self {
        BandImage { full, ..self }
    }

    /// The same image with each band replaced by what `change` makes of it, all of size `to`.
    pub(super) fn changed(&self, to: Size, change: impl FnMut(&[f32]) -> Vec<f32>) -> Self {
        let values: Vec<f32> = self.planes().flat_map(change).collect();
        assert_eq!(values.len(), self.bands * to.area(), "bands of {to}");
        BandImage { size: to, bands: self.bands, values, full: self.full }
    }

    /// The image with the largest value that samples of more than 8 bits are expected to have; larger ones are cut off.
    pub(super) fn ranged(mut self, range: SampleRange) -> Self {
        if self.full <= 255.0 || range == SampleRange::Full {
            return self;
        }
        let largest = self.values.iter().fold(0.0, |most: f32, &value| most.max(value));
        self.full = range.largest(self.full, largest);
        self.values.iter_mut().for_each(|value| *value = value.min(self.full));
        self
    }

    /// Resized to `size`, each band by itself, in floating point: Pillow's filters, antialiased, without rounding, as
    /// PyTorch's `interpolate` with `antialias=True` does it.
    pub fn resized(&self, size: Size, filter: Filter) -> Self {
        if size == self.size {
            return self.clone();
        }
        self.changed(size, |plane| resample_numbers(plane, self.size, size, filter))
    }

    /// Resized to `size` by linear interpolation between the four nearest samples, each band by itself, without antialiasing.
    pub(super) fn interpolated(&self, size: Size) -> Self {
        self.changed(size, |plane| interpolate(plane, 1, self.size, size))
    }

    /// A part of the image.
    ///
    /// # Panics
    /// If it is empty or extends outside the image.
    pub fn cut(&self, window: Window) -> Self {
        let rows: Vec<Option<usize>> = (window.top..window.top + window.size.height).map(Some).collect();
        let columns: Vec<Option<usize>> = (window.left..window.left + window.size.width).map(Some).collect();
        self.gathered(&rows, &columns)
    }

    /// The image made of these rows and columns; where there is `None`, it is 0.
    ///
    /// # Panics
    /// If there are none, or one is outside the image.
    pub fn gathered(&self, rows: &[Option<usize>], columns: &[Option<usize>]) -> Self {
        let to = Size { height: rows.len(), width: columns.len() };
        assert!(to.area() > 0, "an empty part of {}", self.size);
        self.changed(to, |plane| {
            let value = |row: Option<usize>, column: Option<usize>| {
                row.zip(column).map_or(0.0, |(row, column)| plane[row * self.size.width + column])
            };
            rows.iter().flat_map(|&row| columns.iter().map(move |&column| value(row, column))).collect()
        })
    }

    /// Three bands, by their numbers from 0, as red, green and blue; each is stretched so that its lowest 2 % are black and
    /// its highest 2 % full.
    ///
    /// # Errors
    /// If the image has fewer bands.
    pub fn shown(&self, bands: [usize; 3]) -> Result<RgbImage, ImageError> {
        if let Some(&band) = bands.iter().find(|&&band| band >= self.bands) {
            return Err(ImageError::NoSuchBand { band: band + 1, bands: self.bands });
        }
        let stretched = bands.map(|band| stretched(&self.values[band * self.size.area()..][..self.size.area()]));
        let pixels = (0..self.size.area()).flat_map(|at| [0, 1, 2].map(|color| stretched[color][at])).collect();
        RgbImage::new(self.size.width, self.size.height, pixels)
    }

    /// The image as it is shown if nobody says which bands: its first three, or the first alone in gray.
    pub fn to_rgb(&self) -> RgbImage {
        let bands = if self.bands < 3 { [0; 3] } else { [0, 1, 2] };
        self.shown(bands).expect("bands that there are")
    }
}

impl std::fmt::Debug for BandImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BandImage({} bands of {})", self.bands, self.size)
    }
}

/// A band in bytes.
fn stretched(plane: &[f32]) -> Vec<u8> {
    let mut sorted = plane.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let cut = ((sorted.len() - 1) as f64 * CUT) as usize;
    let (mut low, mut high) = (sorted[cut], sorted[sorted.len() - 1 - cut]);
    if low == high {
        // A few bright spots on an even ground.
        (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    }
    let span = if high > low { f64::from(high) - f64::from(low) } else { 1.0 };
    let byte = |&value: &f32| ((f64::from(value) - f64::from(low)) / span * 255.0).clamp(0.0, 255.0).round() as u8;
    plane.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bands: usize, size: Size) -> BandImage {
        let values = (0..bands * size.area()).map(|value| value as f32).collect();
        BandImage::new(size, bands, values, 65535.0).expect("values")
    }

    #[test]
    fn values_must_be_as_many_as_said_and_finite() {
        let size = Size { height: 1, width: 2 };
        assert!(BandImage::new(size, 2, vec![0.0; 3], 1.0).is_err());
        let fault = BandImage::new(size, 2, vec![0.0, 0.0, 0.0, f32::NAN], 1.0).expect_err("not a number").to_string();
        assert!(fault.contains("band 2") && fault.contains("column 1"), "{fault}");
    }

    #[test]
    fn parts_are_of_every_band() {
        let whole = image(2, Size { height: 2, width: 3 });
        let part = whole.cut(Window { top: 1, left: 1, size: Size { height: 1, width: 2 } });
        assert_eq!(part.values(), [4.0, 5.0, 10.0, 11.0]);
        let padded = whole.gathered(&[None, Some(0)], &[Some(2), None]);
        assert_eq!(padded.values(), [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 8.0, 0.0]);
    }

    #[test]
    fn each_shown_band_is_stretched() {
        let whole = image(4, Size { height: 1, width: 3 });
        assert_eq!(whole.shown([3, 0, 1]).expect("bands").pixels(), [0, 0, 0, 128, 128, 128, 255, 255, 255]);
        assert!(whole.shown([4, 0, 0]).is_err());
        let even = BandImage::new(Size::square(1), 1, vec![7.0], 1.0).expect("a value");
        assert_eq!(even.to_rgb().pixels(), [0, 0, 0]);
    }

    #[test]
    fn a_range_cuts_off_and_changes_the_full_value() {
        let ranged = image(1, Size { height: 1, width: 300 }).ranged(SampleRange::Bits(8));
        assert_eq!((ranged.full(), ranged.values()[299]), (255.0, 255.0));
        assert_eq!(image(1, Size { height: 1, width: 300 }).ranged(SampleRange::Auto).full(), 511.0);
    }
}
