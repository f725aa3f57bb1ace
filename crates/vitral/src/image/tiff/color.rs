//! From samples of 8 bits to RGB, in the integer arithmetic of Pillow and libtiff.

use super::codec::Compression;
use super::directory::{Directory, tag};
use super::fault::corrupt;
use super::lab;
use super::layout::{Color, Layout};
use crate::image::ImageError;
use crate::image::jpeg::light;

/// Makes RGB of a pixel's colors, and the alpha that they were multiplied by, if there is one.
pub(super) fn to_rgb(samples: Vec<u8>, layout: &Layout, directory: &Directory) -> Result<Vec<u8>, ImageError> {
    let gray = |inverted: bool, samples: &[u8]| {
        let turn = if inverted { 255 } else { 0 };
        samples.iter().flat_map(|&value| [value ^ turn; 3]).collect()
    };
    let triples = |convert: &mut dyn FnMut([u8; 3]) -> [u8; 3]| {
        samples.chunks_exact(3).flat_map(|pixel| convert([pixel[0], pixel[1], pixel[2]])).collect()
    };
    Ok(match (layout.color, layout.associated_alpha) {
        (Color::Gray { white_is_zero }, None) => gray(white_is_zero && layout.bits <= 16, &samples),
        (Color::Gray { .. }, Some(_)) => {
            // Pillow does not convert such gray to RGB; it is divided as colors are.
            samples.chunks_exact(2).flat_map(|pixel| [divided(pixel[0], pixel[1]); 3]).collect()
        }
        (Color::Rgb, None) => samples,
        (Color::Rgb, Some(_)) => {
            let opaque = |pixel: &[u8]| [0, 1, 2].map(|channel| divided(pixel[channel], pixel[3]));
            samples.chunks_exact(4).flat_map(opaque).collect()
        }
        (Color::Palette, _) => {
            let palette = palette(layout, directory)?;
            samples.iter().flat_map(|&index| palette[usize::from(index)]).collect()
        }
        (Color::Cmyk, _) => {
            let paper = |pixel: &[u8]| light([0, 1, 2].map(|channel| 255 - pixel[channel]), 255 - pixel[3]);
            samples.chunks_exact(4).flat_map(paper).collect()
        }
        // A JPEG decoder has converted them.
        (Color::YCbCr, _) if layout.compression == Compression::Jpeg && !layout.planar => samples,
        (Color::YCbCr, _) => {
            let conversion =
                match layout.compression == Compression::None && layout.subsampling == (1, 1) && !layout.planar {
                    true => Conversion::of_pillow(),
                    false => Conversion::of_libtiff(directory)?,
                };
            triples(&mut |pixel| conversion.red_green_blue(pixel))
        }
        (Color::Lab, _) => lab::to_rgb(&samples),
    })
}

/// A color before it was multiplied by an alpha.
fn divided(color: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        alpha => (u32::from(color) * 255 / u32::from(alpha)).min(255) as u8,
    }
}

/// The colors of all indices; those that the file does not define are black.
fn palette(layout: &Layout, directory: &Directory) -> Result<[[u8; 3]; 256], ImageError> {
    let values = directory.numbers(tag::COLOR_MAP, 3 * 256)?;
    let count = values.len() / 3;
    if count == 0 {
        return Err(corrupt(format!("no palette for indices of {} bits", layout.bits)));
    }
    let mut palette = [[0; 3]; 256];
    for (index, color) in palette.iter_mut().take(count).enumerate() {
        *color = [0, 1, 2].map(|channel| (values[channel * count + index] >> 8) as u8);
    }
    Ok(palette)
}

/// YCbCr to RGB, by tables.
struct Conversion {
    brightness: [i32; 256],
    red: [i32; 256],
    green: [[i32; 256]; 2],
    blue: [i32; 256],
    /// Bits after the binary point of the green parts.
    shift: u32,
}

impl Conversion {
    fn table(value: impl Fn(i32) -> i32) -> [i32; 256] {
        std::array::from_fn(|index| value(index as i32))
    }

    /// The one that Pillow uses for uncompressed files: parts in 64ths, rounded toward zero, then down.
    fn of_pillow() -> Self {
        let part = |factor: f64| move |value: i32| (factor * 64.0 * f64::from(value - 128) + 0.5) as i32;
        let (red, blue) = (part(1.402), part(1.772));
        Conversion {
            brightness: Self::table(|value| value),
            red: Self::table(|value| red(value) >> 6),
            green: [Self::table(part(-0.34414)), Self::table(part(-0.71414))],
            blue: Self::table(|value| blue(value) >> 6),
            shift: 6,
        }
    }

    /// The one that libtiff uses: with the file's coefficients and range, in 16-bit fixed point.
    fn of_libtiff(directory: &Directory) -> Result<Self, ImageError> {
        let coefficients = directory.reals(tag::YCBCR_COEFFICIENTS).unwrap_or([0.299, 0.587, 0.114]);
        let range: [f32; 6] =
            directory.reals(tag::REFERENCE_BLACK_WHITE).unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        let [red, green, blue] = coefficients;
        if coefficients.iter().chain(&range).any(|value| !value.is_finite()) || green == 0.0 {
            return Err(corrupt(format!("YCbCr coefficients {coefficients:?} with the range {range:?}")));
        }
        const HALF: i32 = 1 << 15;
        let fixed = |value: f32| (f64::from(value.clamp(0.0, 2.0) * 65536.0) + 0.5) as i32;
        let (of_red, of_blue) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let (red_cr, blue_cb) = (fixed(of_red), fixed(of_blue));
        let (green_cr, green_cb) = (-fixed(red * of_red / green), -fixed(blue * of_blue / green));
        let scaled = |value: i32, black: f32, white: f32, most: f32| {
            let span = if white == black { 1.0 } else { white - black };
            let moved = value as f32 - (black as i32) as f32;
            (moved * most / span).clamp(-4096.0, 4096.0) as i32
        };
        let cb = |value: i32| scaled(value - 128, range[2] - 128.0, range[3] - 128.0, 127.0);
        let cr = |value: i32| scaled(value - 128, range[4] - 128.0, range[5] - 128.0, 127.0);
        let product = |factor: i32, value: i32| factor.wrapping_mul(value);
        Ok(Conversion {
            brightness: Self::table(|value| scaled(value, range[0], range[1], 255.0)),
            red: Self::table(|value| product(red_cr, cr(value)).wrapping_add(HALF) >> 16),
            green: [
                Self::table(|value| product(green_cb, cb(value)).wrapping_add(HALF)),
                Self::table(|value| product(green_cr, cr(value))),
            ],
            blue: Self::table(|value| product(blue_cb, cb(value)).wrapping_add(HALF) >> 16),
            shift: 16,
        })
    }

    fn red_green_blue(&self, [y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let (y, cb, cr) = (self.brightness[usize::from(y)], usize::from(cb), usize::from(cr));
        let green = self.green[0][cb].wrapping_add(self.green[1][cr]) >> self.shift;
        [y + self.red[cr], y + green, y + self.blue[cb]].map(|value| value.clamp(0, 255) as u8)
    }
}
