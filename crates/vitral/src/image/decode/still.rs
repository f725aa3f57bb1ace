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
        Format::Bmp => {
            let (image, note) = read(format, BmpDecoder::new(Cursor::new(bytes)).map_err(fault)?, allowed, options)?;
            (expanded_as_pillow(image, bytes)?, note)
        }
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

/// A BMP of 16 bits a pixel with its samples of 5 or 6 bits expanded to 8 as Pillow does it, rounded down; the decoder
/// rounds to the nearest.
fn expanded_as_pillow(image: RgbImage, bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let number = |at: usize, length: usize| -> u32 {
        let bytes = bytes.get(at..at + length).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
    };
    // Of OS/2's older headers, pixels stand where these numbers do in others.
    const HEADER_LENGTH: usize = 14;
    const BITS_A_PIXEL: usize = 28;
    const COMPRESSION: usize = 30;
    const GREEN_MASK: usize = 58;
    if number(HEADER_LENGTH, 4) < 40 || number(BITS_A_PIXEL, 2) != 16 {
        return Ok(image);
    }
    let bits = match number(COMPRESSION, 4) {
        0 => [5, 5, 5],
        3 | 6 if number(GREEN_MASK, 4) == 0x7E0 => [5, 6, 5],
        3 | 6 if number(GREEN_MASK, 4) == 0x3E0 => [5, 5, 5],
        _ => return Ok(image),
    };
    let (width, height) = (image.width(), image.height());
    let expanded = |(sample, bits): (u8, u32)| {
        let most = (1u32 << bits) - 1;
        let stored = (u32::from(sample) * most + 127) / 255;
        (stored * 255 / most) as u8
    };
    let samples = image.pixels().iter().copied().zip(bits.into_iter().cycle()).map(expanded);
    RgbImage::new(width, height, samples.collect())
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
        _ => {
            let detail = checksum(&detail).unwrap_or(detail);
            ImageError::Corrupt { format: name, detail }
        }
    }
}

/// A wrong checksum in words, in place of the decoder's, which lists the fields of its structures.
fn checksum(detail: &str) -> Option<String> {
    let (_, rest) = detail.split_once("CRC error")?;
    let (_, rest) = rest.split_once("type: ")?;
    let chunk: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    Some(format!("a wrong checksum in its part {chunk}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bitmap of 32 pixels in a row, whose samples count up.
    fn bitmap(masks: Option<[u32; 3]>, pixel: impl Fn(u16) -> u16) -> Vec<u8> {
        let head = 14 + 40 + if masks.is_some() { 12 } else { 0 };
        let mut bytes = b"BM".to_vec();
        bytes.extend([(head + 64u32).to_le_bytes(), [0; 4], head.to_le_bytes()].concat());
        bytes.extend([40u32, 32, 1].map(u32::to_le_bytes).concat());
        bytes.extend([1u16, 16].map(u16::to_le_bytes).concat());
        bytes.extend([if masks.is_some() { 3u32 } else { 0 }, 64, 0, 0, 0, 0].map(u32::to_le_bytes).concat());
        bytes.extend(masks.unwrap_or_default().map(u32::to_le_bytes).concat().iter().take(head as usize - 54));
        bytes.extend((0..32).flat_map(|place| pixel(place).to_le_bytes()));
        bytes
    }

    #[test]
    fn a_wrong_checksum_is_said_in_words() {
        const IEND: usize = 12;
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::new(4, 4).write_to(&mut bytes, image::ImageFormat::Png).expect("a PNG");
        let mut bytes = bytes.into_inner();
        let checksum = bytes.len() - IEND - 1;
        bytes[checksum] ^= 1;
        let said = match decode(Format::Png, &bytes, &DecodeOptions::default()) {
            Ok(_) => panic!("the checksum is wrong"),
            Err(fault) => fault.to_string(),
        };
        assert!(said.contains("found an error: a wrong checksum in its part IDAT; re-save"), "{said}");
    }

    /// Pillow computes `sample * 255 / most` in whole numbers.
    #[test]
    fn sixteen_bits_a_pixel_are_expanded_as_pillow_does_it() {
        let five = bitmap(None, |place| place << 10 | place << 5 | place);
        let found = decode(Format::Bmp, &five, &DecodeOptions::default()).expect("an image").image;
        let expected: Vec<u8> = (0..32u32).flat_map(|place| [(place * 255 / 31) as u8; 3]).collect();
        assert_eq!(found.pixels(), expected);
        let six = bitmap(Some([0xF800, 0x7E0, 0x1F]), |place| place << 11 | (2 * place + 1) << 5 | place);
        let found = decode(Format::Bmp, &six, &DecodeOptions::default()).expect("an image").image;
        let pixel = |place: u32| [place * 255 / 31, (2 * place + 1) * 255 / 63, place * 255 / 31].map(|v| v as u8);
        assert_eq!(found.pixels(), (0..32).flat_map(pixel).collect::<Vec<u8>>());
    }
}
