//! Limits on the size of images.

use super::error::ImageError;
use super::format::Format;

/// Limits on the size of images. The header is checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Pixels, width times height. Pillow rejects more than 178,956,970 as a decompression bomb.
    pub max_pixels: u64,
    /// Bytes that decoding may use at once, and that a file may have.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

impl Limits {
    /// As many pixels as Pillow accepts, and 2 GiB.
    pub const DEFAULT: Self = Limits { max_pixels: 178_956_970, max_bytes: 2 << 30 };

    /// As many pixels, and the bytes that decoding them takes: whoever allows more pixels allows their bytes, too.
    #[must_use]
    pub const fn of_pixels(pixels: u64) -> Self {
        // The decoder that takes the most: samples of 16 bits with alpha, and the result.
        const BYTES_PER_PIXEL: u64 = 12;
        let bytes = pixels.saturating_mul(BYTES_PER_PIXEL);
        let least = Limits::DEFAULT.max_bytes;
        Limits { max_pixels: pixels, max_bytes: if bytes > least { bytes } else { least } }
    }

    /// Rejects images of more pixels.
    #[must_use]
    pub const fn max_pixels(mut self, pixels: u64) -> Self {
        self.max_pixels = pixels;
        self
    }

    /// Rejects images whose file, or whose decoding, takes more bytes.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Checks a size; `bytes_per_pixel` is the peak memory use of decoding.
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
            let what = format!("decoding a {} image of {width} × {height}", format.name());
            return Err(ImageError::TooManyBytes { what, needed, limit: self.max_bytes });
        }
        Ok(())
    }
}
