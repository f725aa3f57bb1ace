//! Masks: images whose pixels are numbers of classes.

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::decode::{decode_for, guarded, opened};
use super::preprocess::Channels;
use super::{DecodeOptions, Format, Image, ImageError};
use crate::config::Size;

/// A number for each pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    size: Size,
    values: Vec<u16>,
}

impl Mask {
    /// Takes numbers row by row, `[height, width]`.
    ///
    /// # Panics
    /// If there are not as many as pixels, or none.
    pub fn new(size: Size, values: Vec<u16>) -> Self {
        assert!(values.len() == size.area() && !values.is_empty(), "{} numbers of {size} pixels", values.len());
        Mask { size, values }
    }

    /// Height and width.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The numbers, `[height, width]`.
    pub fn values(&self) -> &[u16] {
        &self.values
    }
}

/// Decodes a mask, which is that of the upright image: the samples of a gray PNG or the places in the palette of one with colors, as they are stored, at any
/// depth; or a TIFF or an array (`.npy`, `.npz`, `.safetensors`) of one band.
///
/// # Errors
/// If the bytes are not such an image, or a value is not a whole number from 0 to 65,535.
pub fn decode_mask(bytes: &[u8], options: &DecodeOptions) -> Result<Mask, ImageError> {
    match Format::of(bytes) {
        Some(Format::Png) => guarded(Format::Png, || of_png(bytes, options)),
        Some(format @ (Format::Jpeg | Format::WebP | Format::Gif | Format::Bmp | Format::Pnm)) => {
            Err(ImageError::Mask { found: format!("a {} file", format.name()) })
        }
        _ => of_band(bytes, options),
    }
}

/// Reads and decodes a mask ([`decode_mask`]). Errors name the file.
///
/// # Errors
/// If it cannot be read, or is not a mask.
pub fn open_mask(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Mask, ImageError> {
    opened(path.as_ref(), options, |bytes| decode_mask(bytes, options))
}

fn of_png(bytes: &[u8], options: &DecodeOptions) -> Result<Mask, ImageError> {
    let format = Format::Png;
    let fault = |error: DecodingError| ImageError::Corrupt { format: format.name(), detail: error.to_string() };
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    let (width, height) =
        decoder.read_header_info().map(|info| (info.width as usize, info.height as usize)).map_err(fault)?;
    // Two bytes at most for a sample, and as many for its number.
    options.limits.check(format, width, height, 4)?;
    let mut reader = decoder.read_info().map_err(fault)?;
    let length = reader.output_buffer_size().unwrap_or_default();
    let mut samples = vec![0; length];
    let frame = reader.next_frame(&mut samples).map_err(fault)?;
    if !matches!(frame.color_type, ColorType::Grayscale | ColorType::Indexed) {
        return Err(ImageError::Mask { found: format!("pixels of type {:?}", frame.color_type) });
    }
    let row = |row: &[u8]| -> Vec<u16> {
        let bits = match frame.bit_depth {
            BitDepth::Sixteen => {
                return row.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            }
            BitDepth::One => 1,
            BitDepth::Two => 2,
            BitDepth::Four => 4,
            BitDepth::Eight => 8,
        };
        // The first pixel is in the highest bits of a byte.
        let at = |pixel: usize| (row[pixel * bits / 8] >> (8 - bits - pixel * bits % 8)) & (0xff >> (8 - bits));
        (0..width).map(|pixel| u16::from(at(pixel))).collect()
    };
    Ok(Mask::new(Size { height, width }, samples.chunks_exact(frame.line_size).take(height).flat_map(row).collect()))
}

/// A TIFF or an array of one band.
fn of_band(bytes: &[u8], options: &DecodeOptions) -> Result<Mask, ImageError> {
    let Image::Bands(image) = decode_for(bytes, Channels::Bands(1), options)?.into_image() else {
        return Err(ImageError::Mask { found: "an image in color".into() });
    };
    let whole = |value: f32| (value.fract() == 0.0 && (0.0..=65535.0).contains(&value)).then_some(value as u16);
    let values: Option<Vec<u16>> = image.values().iter().map(|&value| whole(value)).collect();
    match values {
        Some(values) => Ok(Mask::new(image.size(), values)),
        None => {
            let odd = image.values().iter().find(|&&value| whole(value).is_none()).copied().unwrap_or_default();
            Err(ImageError::Mask { found: format!("the value {odd}") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(color: ColorType, depth: BitDepth, size: Size, bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, size.width as u32, size.height as u32);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette((0..=255).flat_map(|index: u8| [index, 7, 255 - index]).collect::<Vec<u8>>());
        }
        encoder.write_header().expect("a header").write_image_data(bytes).expect("pixels");
        file
    }

    fn read(bytes: &[u8]) -> Result<Vec<u16>, String> {
        let mask = decode_mask(bytes, &DecodeOptions::default());
        mask.map(|mask| mask.values().to_vec()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn samples_are_as_they_are_stored() {
        let size = Size { height: 2, width: 3 };
        for color in [ColorType::Grayscale, ColorType::Indexed] {
            let bytes = [0, 1, 255, 3, 20, 254];
            assert_eq!(read(&png(color, BitDepth::Eight, size, &bytes)), Ok(bytes.map(u16::from).to_vec()));
            let packed = png(color, BitDepth::Two, size, &[0b00_01_10_00, 0b11_10_01_00]);
            assert_eq!(read(&packed), Ok(vec![0, 1, 2, 3, 2, 1]), "{color:?}");
            let packed = png(color, BitDepth::One, size, &[0b0110_0000, 0b1000_0000]);
            assert_eq!(read(&packed), Ok(vec![0, 1, 1, 1, 0, 0]), "{color:?}");
        }
        let words = png(ColorType::Grayscale, BitDepth::Sixteen, size, &[0, 1, 1, 0, 255, 255, 0, 0, 0, 9, 2, 2]);
        assert_eq!(read(&words), Ok(vec![1, 256, 65535, 0, 9, 514]));
    }

    #[test]
    fn colors_are_refused() {
        let fault = read(&png(ColorType::Rgb, BitDepth::Eight, Size::square(1), &[1, 2, 3])).expect_err("colors");
        assert!(fault.contains("Rgb") && fault.contains("number"), "{fault}");
        assert!(read(b"\x89PNG\r\n\x1a\ncut").is_err());
    }
}
