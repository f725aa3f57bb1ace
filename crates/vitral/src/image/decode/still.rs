//! PNG, WebP, BMP and TIFF, decoded by the `image` crate.

use std::io::Cursor;

use image::codecs::{bmp::BmpDecoder, png::PngDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use image::error::{ImageError as Fault, LimitErrorKind};
use image::{ColorType, ImageDecoder};

use crate::image::orientation::Orientation;
use crate::image::{Format, ImageError, Limits, RgbImage};

/// The RGB result, in addition to the file's samples.
const RESULT_BYTES: u64 = 3;

pub(super) fn decode(format: Format, bytes: &[u8], limits: &Limits) -> Result<(RgbImage, Orientation), ImageError> {
    let fault = |error| translate(format, limits, error);
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.max_bytes);
    match format {
        Format::Png => {
            // Checked before the decoder compares it with the memory limit only.
            if let (Some(b"IHDR"), Some(width), Some(height)) = (bytes.get(12..16), side(bytes, 16), side(bytes, 20)) {
                limits.check(format, width, height, RESULT_BYTES)?;
            }
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), allowed.clone()).map_err(fault)?;
            read(format, decoder, allowed, limits)
        }
        Format::WebP => read(format, WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?, allowed, limits),
        Format::Bmp => read(format, BmpDecoder::new(Cursor::new(bytes)).map_err(fault)?, allowed, limits),
        Format::Tiff => read(format, TiffDecoder::new(Cursor::new(bytes)).map_err(fault)?, allowed, limits),
        Format::Jpeg | Format::Gif => unreachable!("{} has a decoder of its own", format.name()),
    }
}

fn read(
    format: Format,
    mut decoder: impl ImageDecoder,
    allowed: image::Limits,
    limits: &Limits,
) -> Result<(RgbImage, Orientation), ImageError> {
    let fault = |error| translate(format, limits, error);
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let sample_bytes = u64::from(color.bytes_per_pixel());
    limits.check(format, width, height, sample_bytes + RESULT_BYTES)?;
    decoder.set_limits(allowed).map_err(fault)?;
    let orientation = match decoder.orientation() {
        Ok(orientation) => Orientation::from_exif(u16::from(orientation.to_exif())),
        Err(_) => Orientation::default(),
    };
    let mut samples = vec![0; width * height * usize::from(color.bytes_per_pixel())];
    decoder.read_image(&mut samples).map_err(fault)?;
    let pixels = to_rgb(color, samples).ok_or_else(|| ImageError::Unsupported {
        format: format.name(),
        detail: format!("samples of type {color:?}"),
    })?;
    Ok((RgbImage::new(width, height, pixels)?, orientation))
}

/// The big-endian width or height in a PNG header.
fn side(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// Converts samples of any integer type to RGB; 16-bit samples are in native byte order.
fn to_rgb(color: ColorType, samples: Vec<u8>) -> Option<Vec<u8>> {
    let wide = |samples: Vec<u8>| -> Vec<u8> {
        samples.chunks_exact(2).map(|pair| (u16::from_ne_bytes([pair[0], pair[1]]) >> 8) as u8).collect()
    };
    let gray = |samples: Vec<u8>, step: usize| samples.iter().step_by(step).flat_map(|&value| [value; 3]).collect();
    let opaque = |samples: Vec<u8>| samples.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Some(match color {
        ColorType::L8 => gray(samples, 1),
        ColorType::La8 => gray(samples, 2),
        ColorType::Rgb8 => samples,
        ColorType::Rgba8 => opaque(samples),
        ColorType::L16 => gray(wide(samples), 1),
        ColorType::La16 => gray(wide(samples), 2),
        ColorType::Rgb16 => wide(samples),
        ColorType::Rgba16 => opaque(wide(samples)),
        _ => return None,
    })
}

fn translate(format: Format, limits: &Limits, error: Fault) -> ImageError {
    let name = format.name();
    let detail = error.to_string();
    match &error {
        Fault::Limits(limit) if matches!(limit.kind(), LimitErrorKind::InsufficientMemory) => {
            ImageError::TooManyBytes {
                what: format!("decoding a {name} image"),
                needed: limits.max_bytes.saturating_add(1),
                limit: limits.max_bytes,
            }
        }
        Fault::Unsupported(_) => ImageError::Unsupported { format: name, detail },
        Fault::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: name, detail }
        }
        _ => ImageError::Corrupt { format: name, detail },
    }
}
