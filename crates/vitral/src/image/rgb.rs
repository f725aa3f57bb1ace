//! The image type: upright, interleaved, 8 bits per channel.

use super::ImageError;
use crate::config::Size;

/// An upright image: red, green and blue interleaved, 8 bits each, row by row.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// Takes interleaved RGB pixels; their number must be `width · height · 3`, and not zero.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ImageError> {
        let expected = width.checked_mul(height).and_then(|area| area.checked_mul(3));
        if expected != Some(pixels.len()) || pixels.is_empty() {
            return Err(ImageError::PixelCount { width, height, found: pixels.len() });
        }
        Ok(RgbImage { width, height, pixels })
    }

    /// Gray pixels, replicated into the three channels.
    pub fn from_gray(width: usize, height: usize, gray: &[u8]) -> Result<Self, ImageError> {
        Self::new(width, height, gray.iter().flat_map(|&value| [value; 3]).collect())
    }

    /// The width.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Height and width.
    pub fn size(&self) -> Size {
        Size { height: self.height, width: self.width }
    }

    /// The bytes, `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Returns the owned bytes, `[height, width, 3]`.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Red, green and blue at a row and a column.
    pub fn pixel(&self, row: usize, column: usize) -> [u8; 3] {
        let start = (row * self.width + column) * 3;
        [self.pixels[start], self.pixels[start + 1], self.pixels[start + 2]]
    }

    /// Brightness, `[height, width]`, by Pillow's `convert("L")`: ITU-R 601-2 luma in 16-bit fixed point.
    pub fn to_gray(&self) -> Vec<u8> {
        let luma =
            |p: &[u8]| (19595 * u32::from(p[0]) + 38470 * u32::from(p[1]) + 7471 * u32::from(p[2]) + 0x8000) >> 16;
        self.pixels.chunks_exact(3).map(|pixel| luma(pixel) as u8).collect()
    }
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbImage({})", self.size())
    }
}
