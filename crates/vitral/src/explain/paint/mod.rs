//! Images of maps.

mod color;
mod sheet;
mod tiles;

pub use color::{COLORS, color};
pub use sheet::sheet;
pub use tiles::{filter_tiles, position_tiles, principal_tiles};

use super::{ExplainError, Map};
use crate::config::Size;
use crate::error::Error;
use crate::image::{Filter, RgbImage, resize};

/// The minimum side of an image for display; smaller ones are enlarged by an integer factor.
const LEAST: usize = 224;

/// An image large enough for display.
pub fn enlarged(image: &RgbImage) -> RgbImage {
    let factor = LEAST.div_ceil(image.height().min(image.width()));
    resize(image, Size { height: image.height() * factor, width: image.width() * factor }, Filter::Nearest)
}

/// A map over its image: colors from dark (minimum) to bright (maximum) at `opacity`, over the image in muted colors.
///
/// # Errors
/// None for a valid image.
pub fn overlay(image: &RgbImage, map: &Map, opacity: f32) -> Result<RgbImage, Error> {
    let image = enlarged(image);
    let map = shown(map).resized(image.size());
    let mut pixels = Vec::with_capacity(image.pixels().len());
    for ((gray, value), original) in image.to_gray().iter().zip(&map.values).zip(image.pixels().chunks_exact(3)) {
        for (over, own) in color(*value).iter().zip(original) {
            // Half gray, half the original color: the image stays recognizable, and its colors are not mistaken for the
            // map's.
            let beneath = 0.5 * f32::from(*gray) + 0.5 * f32::from(*own);
            pixels.push((opacity * f32::from(*over) + (1.0 - opacity) * beneath).round() as u8);
        }
    }
    Ok(RgbImage::new(image.width(), image.height(), pixels)?)
}

/// A map without its image.
///
/// # Errors
/// None for a valid map.
pub fn alone(map: &Map, size: Size) -> Result<RgbImage, Error> {
    let map = shown(map).resized(size);
    Ok(RgbImage::new(size.width, size.height, map.values.iter().flat_map(|&value| color(value)).collect())?)
}

/// A map scaled from 0 to 1 for drawing: with many pixels, one percent at either end is clipped.
pub fn shown(map: &Map) -> Map {
    // Maps over patches have few cells, and each of them matters.
    if map.values.len() > 700 { map.clipped(0.01) } else { map.normalized() }
}

/// An image as PNG.
///
/// # Errors
/// None for a valid image.
pub fn png(image: &RgbImage) -> Result<Vec<u8>, Error> {
    let fault = |fault: String| Error::from(ExplainError::Drawing(fault));
    let side = |side: usize| u32::try_from(side).map_err(|error| fault(error.to_string()));
    let mut bytes = std::io::Cursor::new(Vec::new());
    let (width, height) = (side(image.width())?, side(image.height())?);
    ::image::write_buffer_with_format(
        &mut bytes,
        image.pixels(),
        width,
        height,
        ::image::ExtendedColorType::Rgb8,
        ::image::ImageFormat::Png,
    )
    .map_err(|error| fault(error.to_string()))?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_have_the_size_of_the_image_and_png_its_magic() {
        let image = RgbImage::new(30, 28, vec![90; 30 * 28 * 3]).expect("an image");
        let map = Map::new(Size { height: 2, width: 2 }, vec![0.0, 1.0, 2.0, 3.0]);
        let painted = overlay(&image, &map, 0.6).expect("painted");
        assert_eq!((painted.width(), painted.height()), (240, 224));
        assert_eq!(png(&painted).expect("encoded")[..4], *b"\x89PNG");
        assert_ne!(painted.pixel(0, 0), painted.pixel(223, 239));
    }
}
