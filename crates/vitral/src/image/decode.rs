//! From bytes to upright RGB, as Pillow's `open`, `exif_transpose` and `convert("RGB")` do it.
//!
//! The format is told by content, never by name. Palettes are expanded, gray is replicated, alpha is dropped (not
//! blended), the high byte of 16-bit samples is kept, inks (CMYK, YCCK) become light as Pillow computes it, and the
//! EXIF orientation is applied. Of an animation, the first frame is taken.
//!
//! One difference is deliberate: Pillow clips 16-bit gray to white above 255, which destroys the image; here its high
//! byte is kept, as for 16-bit color.

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
