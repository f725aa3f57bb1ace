//! Images of maps.

mod canvas;
mod color;
mod legend;
mod sheet;
mod tiles;

pub use color::{COLORS, color};
pub use legend::{Caption, Legend, principal_legend};
pub use sheet::{Sheet, Tile};
pub use tiles::{filter_tiles, position_tiles, principal_tiles};

use super::{ExplainError, Layout, Map};
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

/// Maps with more values than this are clipped. Maps over patches have few, and each of them matters.
const MANY: usize = 700;
/// The fraction of values that is clipped at either end.
const CLIPPED: f32 = 0.01;

/// A map scaled from 0 to 1 for drawing: with many pixels, one percent at either end is clipped.
pub fn shown(map: &Map) -> Map {
    if map.values.len() > MANY { map.clipped(CLIPPED) } else { map.normalized() }
}

/// The values that are drawn in the darkest and in the brightest color.
pub fn range(map: &Map) -> (f32, f32) {
    if map.values.len() > MANY { map.range_without(CLIPPED) } else { map.range() }
}

/// The colors of an outline, from the outside: seen on dark and on bright ground, and none of the color map's.
const OUTLINE: [[u8; 3]; 4] = [[0, 0, 0], [0, 255, 200], [0, 255, 200], [0, 0, 0]];

/// An image of any size with one of its patches outlined.
#[must_use]
pub fn outlined(image: &RgbImage, layout: &Layout, patch: usize) -> RgbImage {
    let area = layout.area_of(patch);
    let scaled = |place: usize, whole: usize, model: usize| (place * whole / model.max(1)).min(whole);
    let row = |place: usize| scaled(place, image.height(), layout.image.height);
    let column = |place: usize| scaled(place, image.width(), layout.image.width);
    let (top, bottom) = (row(area.top), row(area.top + area.size.height));
    let (left, right) = (column(area.left), column(area.left + area.size.width));
    let (width, height) = (image.width(), image.height());
    let mut pixels = image.pixels().to_vec();
    for (inwards, color) in OUTLINE.into_iter().enumerate() {
        // Around the patch, so that the patch itself stays visible; inside at the edges of the image.
        let out = OUTLINE.len() - inwards;
        let (top, left) = (top.saturating_sub(out), left.saturating_sub(out));
        let (bottom, right) = ((bottom + out).min(height), (right + out).min(width));
        for y in top..bottom {
            for x in left..right {
                if y == top || y + 1 == bottom || x == left || x + 1 == right {
                    pixels[(y * width + x) * 3..][..3].copy_from_slice(&color);
                }
            }
        }
    }
    RgbImage::new(width, height, pixels).expect("as many pixels as before")
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

    #[test]
    fn outlines_are_around_their_patch_and_inside_the_image() {
        let side = |side| Size { height: side, width: side };
        let layout = Layout { prefix: 1, grid: side(4), image: side(16), stride: side(4) };
        let image = RgbImage::new(64, 64, vec![90; 64 * 64 * 3]).expect("an image");
        for patch in 0..16 {
            let found = outlined(&image, &layout, patch);
            let changed = (0..64 * 64).filter(|i| found.pixel(i / 64, i % 64) != [90; 3]).count();
            assert!(changed > 60, "{patch}: {changed}");
            let center = [8 + 16 * (patch / 4), 8 + 16 * (patch % 4)];
            assert_eq!(found.pixel(center[0], center[1]), [90; 3]);
        }
        let middle = outlined(&image, &layout, 5);
        assert_eq!((middle.pixel(13, 20), middle.pixel(12, 20)), (OUTLINE[1], OUTLINE[0]));
    }

    #[test]
    fn the_range_is_that_of_the_colors() {
        let map = Map::new(Size { height: 1, width: 1000 }, (0..1000).map(|x| x as f32).collect());
        let (low, high) = range(&map);
        let shown = shown(&map).values;
        assert_eq!((shown[low as usize], shown[high as usize]), (0.0, 1.0));
        assert!(low > 5.0 && high < 995.0);
        assert_eq!(range(&Map::new(Size { height: 1, width: 2 }, vec![3.0, -1.0])), (-1.0, 3.0));
    }
}
