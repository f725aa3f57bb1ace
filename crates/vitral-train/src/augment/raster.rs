//! What crops and flips need of an image, whether in color or of bands.

use vitral::config::Size;
use vitral::image::resize::Window;
use vitral::image::{BandImage, Filter, RgbImage, resize};

/// An image that can be cut, resized and put together anew from its rows and columns.
pub trait Raster: Clone {
    /// Height and width.
    fn size(&self) -> Size;
    /// A region of it.
    fn cut(&self, window: Window) -> Self;
    /// Resized.
    fn resized(&self, size: Size, filter: Filter) -> Self;
    /// The image made of these rows and columns; where there is `None`, it is 0.
    fn gathered(&self, rows: &[Option<usize>], columns: &[Option<usize>]) -> Self;
}

impl Raster for RgbImage {
    fn size(&self) -> Size {
        RgbImage::size(self)
    }

    fn cut(&self, window: Window) -> Self {
        let Size { height, width } = window.size;
        let mut pixels = Vec::with_capacity(height * width * 3);
        for row in window.top..window.top + height {
            let start = (row * self.width() + window.left) * 3;
            pixels.extend_from_slice(&self.pixels()[start..start + width * 3]);
        }
        RgbImage::new(width, height, pixels).expect("a filled window")
    }

    fn resized(&self, size: Size, filter: Filter) -> Self {
        resize(self, size, filter)
    }

    fn gathered(&self, rows: &[Option<usize>], columns: &[Option<usize>]) -> Self {
        let pixel = |row: Option<usize>, column: Option<usize>| {
            row.zip(column).map_or([0; 3], |(row, column)| self.pixel(row, column))
        };
        let mut pixels = Vec::with_capacity(rows.len() * columns.len() * 3);
        for &row in rows {
            columns.iter().for_each(|&column| pixels.extend(pixel(row, column)));
        }
        RgbImage::new(columns.len(), rows.len(), pixels).expect("a filled crop")
    }
}

impl Raster for BandImage {
    fn size(&self) -> Size {
        BandImage::size(self)
    }

    fn cut(&self, window: Window) -> Self {
        BandImage::cut(self, window)
    }

    fn resized(&self, size: Size, filter: Filter) -> Self {
        BandImage::resized(self, size, filter)
    }

    fn gathered(&self, rows: &[Option<usize>], columns: &[Option<usize>]) -> Self {
        BandImage::gathered(self, rows, columns)
    }
}

/// Flips left to right.
pub(super) fn mirrored<R: Raster>(image: &R) -> R {
    let Size { height, width } = image.size();
    let (rows, columns): (Vec<_>, Vec<_>) = ((0..height).map(Some).collect(), (0..width).rev().map(Some).collect());
    image.gathered(&rows, &columns)
}

/// Flips upside down.
pub(super) fn upside_down<R: Raster>(image: &R) -> R {
    let Size { height, width } = image.size();
    let (rows, columns): (Vec<_>, Vec<_>) = ((0..height).rev().map(Some).collect(), (0..width).map(Some).collect());
    image.gathered(&rows, &columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_cut_and_turned_like_colors() {
        let pixels: Vec<u8> = (0..4 * 5 * 3).collect();
        let color = RgbImage::new(5, 4, pixels).expect("an image");
        let bands = BandImage::from_rgb(&color);
        let same = |color: RgbImage, bands: BandImage| assert_eq!(BandImage::from_rgb(&color), bands);
        same(mirrored(&color), mirrored(&bands));
        same(upside_down(&color), upside_down(&bands));
        let window = Window { top: 1, left: 2, size: Size { height: 2, width: 3 } };
        same(Raster::cut(&color, window), Raster::cut(&bands, window));
        let (rows, columns) = ([None, Some(3)], [Some(0), None, Some(4)]);
        same(Raster::gathered(&color, &rows, &columns), Raster::gathered(&bands, &rows, &columns));
    }
}
