//! From bytes to upright RGB, like Pillow's `open`, `exif_transpose` and `convert("RGB")`.
//!
//! The format is recognized by content, never by name. Palettes are expanded, gray is replicated, alpha is dropped (not
//! blended), 16-bit samples are reduced to their high byte, CMYK and YCCK are converted to RGB with Pillow's formulas,
//! and the EXIF orientation is applied. For animations, the first frame is used.
//!
//! One difference is deliberate: Pillow clips 16-bit gray to white above 255, which destroys the image; here it is
//! reduced to its high byte, like 16-bit color.

mod gif;
mod still;

use std::path::Path;

use super::format::Format;
use super::limits::Limits;
use super::orientation::Orientation;
use super::{ImageError, RgbImage, jpeg};

/// Decodes the bytes of an image file.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    let format = Format::of(bytes).ok_or_else(|| ImageError::UnknownFormat {
        length: bytes.len(),
        start: bytes.iter().take(8).map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" "),
    })?;
    let (image, orientation) = match format {
        Format::Jpeg => jpeg::decode(bytes, limits)?,
        Format::Gif => (gif::decode(bytes, limits)?, Orientation::default()),
        _ => still::decode(format, bytes, limits)?,
    };
    Ok(orientation.apply(image))
}

/// Reads and decodes an image file. Errors name the file.
pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<RgbImage, ImageError> {
    let path = path.as_ref();
    let read = |source| ImageError::Read { path: path.to_path_buf(), source };
    let within = |source| ImageError::InFile { path: path.to_path_buf(), source: Box::new(source) };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if length > limits.max_bytes {
        let what = "reading the file".to_string();
        return Err(within(ImageError::TooManyBytes { what, needed: length, limit: limits.max_bytes }));
    }
    let bytes = std::fs::read(path).map_err(read)?;
    decode(&bytes, limits).map_err(within)
}
