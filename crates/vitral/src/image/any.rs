//! An image of either kind: in color, or of bands.

use super::preprocess::Channels;
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
