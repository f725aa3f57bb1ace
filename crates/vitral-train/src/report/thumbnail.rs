//! Small images inside a page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage as Pixels;
use jpeg_encoder::{ColorType, Encoder};
use vitral::image::RgbImage;

/// A quality at which a small photograph looks as it is, in a tenth of the bytes of PNG.
const QUALITY: u8 = 82;

/// An image as a data URL, its longer side reduced to at most `most` pixels.
pub(crate) fn thumbnail(image: RgbImage, most: u32) -> Option<String> {
    let (width, height) = (image.width() as u32, image.height() as u32);
    let pixels = Pixels::from_raw(width, height, image.into_pixels())?;
    let pixels = match width.max(height) {
        side if side > most => {
            let scaled = |side: u32| (u64::from(side) * u64::from(most) / u64::from(width.max(height))).max(1) as u32;
            image::imageops::thumbnail(&pixels, scaled(width), scaled(height))
        }
        _ => pixels,
    };
    let side = |side: u32| u16::try_from(side).ok();
    let mut bytes = Vec::new();
    let encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.encode(&pixels, side(pixels.width())?, side(pixels.height())?, ColorType::Rgb).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
