//! An image of either kind: in color, or of bands.

use super::preprocess::Channels;
use super::resize::Window;
use super::{BandImage, ImageError, RgbImage};
use crate::config::Size;

/// An image, decoded as a model needs it.
#[derive(Clone, Debug, PartialEq)]
pub enum Image {
    /// Red, green and blue in 8 bits, for models that take color or brightness.
    Rgb(RgbImage),
    /// Any number of bands, for models that take those.
    Bands(BandImage),
}

/// An image of either kind that belongs to somebody else.
#[derive(Clone, Copy, Debug)]
pub enum ImageView<'a> {
    /// Red, green and blue in 8 bits.
    Rgb(&'a RgbImage),
    /// Any number of bands.
    Bands(&'a BandImage),
}

/// What can be given to a model as an image: an [`RgbImage`], a [`BandImage`], or an [`Image`], which is either.
pub trait AsImage {
    /// The image.
    fn view(&self) -> ImageView<'_>;
}

impl AsImage for RgbImage {
    fn view(&self) -> ImageView<'_> {
        ImageView::Rgb(self)
    }
}

impl AsImage for BandImage {
    fn view(&self) -> ImageView<'_> {
        ImageView::Bands(self)
    }
}

impl AsImage for Image {
    fn view(&self) -> ImageView<'_> {
        match self {
            Image::Rgb(image) => ImageView::Rgb(image),
            Image::Bands(image) => ImageView::Bands(image),
        }
    }
}

impl<T: AsImage> AsImage for &T {
    fn view(&self) -> ImageView<'_> {
        (*self).view()
    }
}

impl ImageView<'_> {
    /// Height and width.
    pub fn size(&self) -> Size {
        match self {
            ImageView::Rgb(image) => image.size(),
            ImageView::Bands(image) => image.size(),
        }
    }

    /// A copy of a part of the image. Beyond its right and lower edges, the last pixels are repeated.
    ///
    /// # Panics
    /// If the part is empty.
    pub fn part(&self, window: Window) -> Image {
        let size = self.size();
        let within =
            |start: usize, length: usize, whole: usize| (start..start + length).map(move |at| at.min(whole - 1));
        let rows = within(window.top, window.size.height, size.height);
        let columns = within(window.left, window.size.width, size.width);
        match self {
            ImageView::Rgb(image) => {
                let inside = window.size.width.min(size.width.saturating_sub(window.left));
                let mut pixels = Vec::with_capacity(3 * window.size.area());
                for row in rows {
                    let line = &image.pixels()[3 * row * size.width..][..3 * size.width];
                    pixels.extend_from_slice(&line[3 * window.left.min(size.width)..][..3 * inside]);
                    let last = &line[3 * (size.width - 1)..];
                    (inside..window.size.width).for_each(|_| pixels.extend_from_slice(last));
                }
                let part = RgbImage::new(window.size.width, window.size.height, pixels);
                Image::Rgb(part.expect("pixels for each place of the part"))
            }
            ImageView::Bands(image) => {
                let rows: Vec<Option<usize>> = rows.map(Some).collect();
                let columns: Vec<Option<usize>> = columns.map(Some).collect();
                Image::Bands(image.gathered(&rows, &columns))
            }
        }
    }
}

impl Image {
    /// Height and width.
    pub fn size(&self) -> Size {
        self.view().size()
    }

    /// Bytes of its pixels.
    pub fn bytes(&self) -> u64 {
        match self {
            Image::Rgb(image) => image.pixels().len() as u64,
            Image::Bands(image) => 4 * image.values().len() as u64,
        }
    }

    /// The image in color: of bands, the first three, or the first alone ([`BandImage::to_rgb`]).
    pub fn into_rgb(self) -> RgbImage {
        match self {
            Image::Rgb(image) => image,
            Image::Bands(image) => image.to_rgb(),
        }
    }

    /// The image for a model that takes these channels. Color can be three bands; nothing else is converted.
    ///
    /// # Errors
    /// If the model takes other bands than the image has.
    pub fn for_channels(self, channels: Channels) -> Result<Self, ImageError> {
        match (channels, self) {
            (Channels::Bands(3), Image::Rgb(image)) => Ok(Image::Bands(BandImage::from_rgb(&image))),
            (Channels::Bands(expected), Image::Rgb(_)) => {
                Err(ImageError::Bands { expected, found: "red, green and blue".into() })
            }
            (Channels::Bands(expected), Image::Bands(image)) if image.bands() != expected => {
                Err(ImageError::Bands { expected, found: image.bands().to_string() })
            }
            (Channels::Rgb | Channels::Gray, Image::Bands(image)) => Err(ImageError::NotColor { bands: image.bands() }),
            (_, image) => Ok(image),
        }
    }
}

impl From<RgbImage> for Image {
    fn from(image: RgbImage) -> Self {
        Image::Rgb(image)
    }
}

impl From<BandImage> for Image {
    fn from(image: BandImage) -> Self {
        Image::Bands(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_beyond_the_image_repeat_its_last_pixels() {
        let bytes: Vec<u8> = (0..2 * 3 * 3).collect();
        let color = RgbImage::new(3, 2, bytes).expect("an image");
        let bands = BandImage::from_rgb(&color);
        let whole = Size { height: 2, width: 3 };
        for (top, left, height, width) in [(0, 0, 2, 3), (1, 2, 1, 1), (0, 1, 4, 5), (1, 5, 2, 2)] {
            let window = Window { top, left, size: Size { height, width } };
            let (Image::Rgb(part), Image::Bands(same)) = (color.view().part(window), bands.view().part(window)) else {
                panic!("parts of the kind of the whole")
            };
            assert_eq!((part.size(), BandImage::from_rgb(&part)), (window.size, same), "{window:?}");
            for row in 0..height {
                for column in 0..width {
                    let at = ((top + row).min(whole.height - 1), (left + column).min(whole.width - 1));
                    assert_eq!(part.pixel(row, column), color.pixel(at.0, at.1), "{window:?} {row} {column}");
                }
            }
        }
    }
}
