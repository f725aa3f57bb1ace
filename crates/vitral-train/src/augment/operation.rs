//! A single operation with its argument, as chosen by policies.

use serde::{Deserialize, Serialize};
use vitral::image::{Filter, RgbImage};

use super::{affine, blur, enhance, hue, levels};

/// An operation on 8-bit pixels, identical to Pillow's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Nothing.
    Identity,
    /// Stretches every channel to 0–255.
    AutoContrast,
    /// Equalizes the histogram of every channel.
    Equalize,
    /// Inverts every level.
    Invert,
    /// Rotates counter-clockwise, by degrees.
    Rotate(f64),
    /// Keeps this many high bits.
    Posterize(u32),
    /// Inverts levels from this one on.
    Solarize(u32),
    /// Adds this to levels below 128.
    SolarizeAdd(u32),
    /// Saturation; 1 is no change.
    Color(f64),
    /// Contrast; 1 is no change.
    Contrast(f64),
    /// Brightness; 1 is no change.
    Brightness(f64),
    /// Sharpness; 1 is no change.
    Sharpness(f64),
    /// Hue shift, as a fraction of the circle.
    Hue(f64),
    /// Horizontal shear, in pixels per row.
    ShearX(f64),
    /// Vertical shear, in pixels per column.
    ShearY(f64),
    /// Shift to the left, as a fraction of the width.
    TranslateXRel(f64),
    /// Shift upwards, as a fraction of the height.
    TranslateYRel(f64),
    /// Shift to the left, in pixels.
    TranslateX(f64),
    /// Shift upwards, in pixels.
    TranslateY(f64),
    /// Gaussian blur with a standard deviation in pixels.
    GaussianBlur(f64),
}

impl Operation {
    /// Applies the operation. `filter` and `fill` are for operations that move pixels.
    pub fn apply(self, image: RgbImage, filter: Filter, fill: [u8; 3]) -> RgbImage {
        let (width, height) = (image.width() as f64, image.height() as f64);
        let moved = |matrix| affine::transform(&image, matrix, filter, fill);
        match self {
            Operation::Identity => image,
            Operation::AutoContrast => levels::auto_contrast(image),
            Operation::Equalize => levels::equalize(image),
            Operation::Invert => levels::each(image, |level| 255 - level),
            Operation::Rotate(degrees) => affine::rotate(&image, degrees, filter, fill),
            Operation::Posterize(bits) if bits >= 8 => image,
            Operation::Posterize(bits) => levels::each(image, |level| level & !((1u32 << (8 - bits)) - 1) as u8),
            Operation::Solarize(from) => {
                levels::each(image, |level| if u32::from(level) < from { level } else { 255 - level })
            }
            Operation::SolarizeAdd(more) => levels::each(image, |level| match level {
                0..128 => (u32::from(level) + more).min(255) as u8,
                _ => level,
            }),
            Operation::Color(factor) => enhance::color(&image, factor),
            Operation::Contrast(factor) => enhance::contrast(&image, factor),
            Operation::Brightness(factor) => enhance::brightness(&image, factor),
            Operation::Sharpness(factor) => enhance::sharpness(&image, factor),
            Operation::Hue(share) => hue::turn(image, share),
            Operation::ShearX(factor) => moved([1.0, factor, 0.0, 0.0, 1.0, 0.0]),
            Operation::ShearY(factor) => moved([1.0, 0.0, 0.0, factor, 1.0, 0.0]),
            Operation::TranslateXRel(share) => moved([1.0, 0.0, share * width, 0.0, 1.0, 0.0]),
            Operation::TranslateYRel(share) => moved([1.0, 0.0, 0.0, 0.0, 1.0, share * height]),
            Operation::TranslateX(pixels) => moved([1.0, 0.0, pixels, 0.0, 1.0, 0.0]),
            Operation::TranslateY(pixels) => moved([1.0, 0.0, 0.0, 0.0, 1.0, pixels]),
            Operation::GaussianBlur(deviation) => blur::gaussian(image, deviation),
        }
    }
}
