//! PNG, WebP and BMP, decoded by the `image` crate.

use std::io::Cursor;

use image::codecs::{bmp::BmpDecoder, png::PngDecoder, webp::WebPDecoder};
use image::error::{ImageError as Fault, LimitErrorKind};
use image::{ColorType, ImageDecoder};

use super::metadata;
use crate::config::Size;
use crate::image::as_stored::AsStored;
use crate::image::depth::{self, Note, SampleRange};
use crate::image::options::DecodeOptions;
use crate::image::orientation::Orientation;
use crate::image::{BandImage, Format, ImageError, Limits, RgbImage};

/// The RGB result, in addition to the file's samples.
const RESULT_BYTES: u64 = 3;

pub(super) fn decode(format: Format, bytes: &[u8], options: &DecodeOptions) -> Result<AsStored, ImageError> {
    let limits = &options.limits;
    let fault = |error| translate(format, limits, error);
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.max_bytes);
    let (image, note) = match format {
        Format::Png => {
            // Checked before the decoder compares it with the memory limit only.
            if let (Some(b"IHDR"), Some(width), Some(height)) = (bytes.get(12..16), side(bytes, 16), side(bytes, 20)) {
                limits.check(format, width, height, RESULT_BYTES)?;
            }
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), allowed.clone()).map_err(fault)?;
            read(format, decoder, allowed, options)?
        }
        Format::WebP => read(format, WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?, allowed, options)?,
        Format::Bmp => read(format, BmpDecoder::new(Cursor::new(bytes)).map_err(fault)?, allowed, options)?,
        _ => unreachable!("{} has a decoder of its own", format.name()),
    };
    let orientation = match format {
        Format::Png => metadata::of_png(bytes),
        Format::WebP => metadata::of_webp(bytes),
        _ => Orientation::default(),
    };
    Ok(AsStored { image, orientation, note })
}

/// The samples of a PNG as they are stored, alpha among them; a palette is expanded.
pub(super) fn png_bands(bytes: &[u8], options: &DecodeOptions) -> Result<(BandImage, Orientation), ImageError> {
    const FORMAT: Format = Format::Png;
    let limits = &options.limits;
    let fault = |error| translate(FORMAT, limits, error);
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.max_bytes);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), allowed).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let bands = usize::from(color.channel_count());
    limits.check(FORMAT, width, height, u64::from(color.bytes_per_pixel()) + 4 * bands as u64)?;
    let mut samples = vec![0; width * height * usize::from(color.bytes_per_pixel())];
    decoder.read_image(&mut samples).map_err(fault)?;
    let (numbers, full): (Vec<f32>, f32) = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => {
            (samples.iter().copied().map(f32::from).collect(), 255.0)
        }
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
            let word = |pair: &[u8]| f32::from(u16::from_ne_bytes([pair[0], pair[1]]));
            (samples.chunks_exact(2).map(word).collect(), 65535.0)
        }
        _ => {
            let detail = format!("samples of type {color:?}");
            return Err(ImageError::Unsupported { format: FORMAT.name(), detail });
        }
    };
    let plane = |band: usize| numbers.iter().skip(band).step_by(bands).copied();
    let image = BandImage::new(Size { height, width }, bands, (0..bands).flat_map(plane).collect(), full)?;
    Ok((image, metadata::of_png(bytes)))
}

fn read(
    format: Format,
    mut decoder: impl ImageDecoder,
    allowed: image::Limits,
    options: &DecodeOptions,
) -> Result<(RgbImage, Option<Note>), ImageError> {
    let limits = &options.limits;
    let fault = |error| translate(format, limits, error);
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let sample_bytes = u64::from(color.bytes_per_pixel());
    limits.check(format, width, height, sample_bytes + RESULT_BYTES)?;
    decoder.set_limits(allowed).map_err(fault)?;
    let mut samples = vec![0; width * height * usize::from(color.bytes_per_pixel())];
    decoder.read_image(&mut samples).map_err(fault)?;
    let (pixels, note) = to_rgb(color, samples, options.sample_range).ok_or_else(|| ImageError::Unsupported {
        format: format.name(),
        detail: format!("samples of type {color:?}"),
    })?;
    Ok((RgbImage::new(width, height, pixels)?, note))
}

/// The big-endian width or height in a PNG header.
fn side(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// Converts samples of any integer type to RGB; 16-bit samples are in native byte order.
fn to_rgb(color: ColorType, samples: Vec<u8>, range: SampleRange) -> Option<(Vec<u8>, Option<Note>)> {
    let (stored, used, wide) = match color {
        ColorType::L8 => (1, 1, false),
        ColorType::La8 => (2, 1, false),
        ColorType::Rgb8 => (3, 3, false),
        ColorType::Rgba8 => (4, 3, false),
        ColorType::L16 => (1, 1, true),
        ColorType::La16 => (2, 1, true),
        ColorType::Rgb16 => (3, 3, true),
        ColorType::Rgba16 => (4, 3, true),
        _ => return None,
    };
    let (colors, note) = if wide {
        let word = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair[1]]);
        let pixels = samples.chunks_exact(2 * stored);
        let words: Vec<u16> = pixels.flat_map(|pixel| pixel[..2 * used].chunks_exact(2).map(word)).collect();
        depth::reduce(&words, 16, range)
    } else if stored == used {
        (samples, None)
    } else {
        (samples.chunks_exact(stored).flat_map(|pixel| &pixel[..used]).copied().collect(), None)
    };
    match used {
        1 => Some((colors.iter().flat_map(|&value| [value; 3]).collect(), note)),
        _ => Some((colors, note)),
    }
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
