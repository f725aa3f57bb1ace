//! From bytes to upright RGB, as Pillow's `open`, `exif_transpose` and `convert("RGB")` do it.
//!
//! The format is told by content, never by name. Palettes are expanded, grey is replicated, alpha is dropped (not
//! blended), the high byte of 16-bit samples is kept, inks (CMYK, YCCK) become light as Pillow computes it, and the
//! EXIF orientation is applied. Of an animation, the first frame is taken.
//!
//! One difference is deliberate: Pillow clips 16-bit grey to white above 255, which destroys the picture; here its high
//! byte is kept, as for 16-bit colour.

mod gif;
pub(super) mod orientation;
mod still;

use std::path::Path;

use super::{ImageError, RgbImage, jpeg};
use orientation::Orientation;

/// How large a picture may be. The header is held against it before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pixels, width times height. Pillow refuses above 178,956,970 as a decompression bomb.
    pub max_pixels: u64,
    /// Bytes that decoding may hold at once, and that a file may have.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_pixels: 178_956_970, max_bytes: 2 << 30 }
    }
}

impl Limits {
    /// Refuses a size; `bytes_per_pixel` is what decoding holds at its widest.
    pub(super) fn check(
        &self,
        format: Format,
        width: usize,
        height: usize,
        bytes_per_pixel: u64,
    ) -> Result<(), ImageError> {
        if width == 0 || height == 0 {
            let detail = format!("a size of {width} × {height}");
            return Err(ImageError::Corrupt { format: format.name(), detail });
        }
        let pixels = (width as u64).saturating_mul(height as u64);
        if pixels > self.max_pixels {
            return Err(ImageError::TooManyPixels { format: format.name(), width, height, limit: self.max_pixels });
        }
        let needed = pixels.saturating_mul(bytes_per_pixel);
        if needed > self.max_bytes {
            let what = format!("decoding a {} picture of {width} × {height}", format.name());
            return Err(ImageError::TooManyBytes { what, needed, limit: self.max_bytes });
        }
        Ok(())
    }
}

/// A format of picture files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG: baseline and progressive; grey, YCbCr, RGB, CMYK, YCCK.
    Jpeg,
    /// PNG; of an APNG, the default picture.
    Png,
    /// WebP, lossy and lossless; of an animation, the first frame.
    WebP,
    /// GIF, first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF, first page.
    Tiff,
}

impl Format {
    /// The format that the first bytes of a file announce.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'B', b'M', ..] => Some(Format::Bmp),
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some(Format::Tiff),
            _ => None,
        }
    }

    /// The name people know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
        }
    }
}

/// Decodes the bytes of a picture file.
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

/// Reads and decodes a picture file. Errors name the file.
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
