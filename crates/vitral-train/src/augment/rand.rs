//! RandAugment (arXiv:1909.13719) in timm's notation: `rand-m9-mstd0.5-inc1`.

use std::fmt;
use std::str::FromStr;

use vitral::image::{Filter, RgbImage};

use super::Operation;
use crate::draws::Draws;

/// An operation whose argument depends on the magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// See [`Operation::AutoContrast`].
    AutoContrast,
    /// See [`Operation::Equalize`].
    Equalize,
    /// See [`Operation::Invert`].
    Invert,
    /// Up to 30 degrees in either direction.
    Rotate,
    /// Keeps up to 4 bits fewer.
    Posterize,
    /// Threshold from 256 down to 0.
    Solarize,
    /// Adds up to 110.
    SolarizeAdd,
    /// Saturation.
    Color,
    /// Contrast.
    Contrast,
    /// Brightness.
    Brightness,
    /// Sharpness.
    Sharpness,
    /// Up to 0.3 in either direction.
    ShearX,
    /// Up to 0.3 in either direction.
    ShearY,
    /// Up to 0.45 in either direction.
    TranslateXRel,
    /// Up to 0.45 in either direction.
    TranslateYRel,
}

const CHOICES: [Choice; 15] = [
    Choice::AutoContrast,
    Choice::Equalize,
    Choice::Invert,
    Choice::Rotate,
    Choice::Posterize,
    Choice::Solarize,
    Choice::SolarizeAdd,
    Choice::Color,
    Choice::Contrast,
    Choice::Brightness,
    Choice::Sharpness,
    Choice::ShearX,
    Choice::ShearY,
    Choice::TranslateXRel,
    Choice::TranslateYRel,
];

/// RandAugment's settings, named by timm's letters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandAugment {
    /// `m`: magnitude, out of 10.
    pub magnitude: f64,
    /// `n`: operations per image.
    pub count: usize,
    /// `mstd`: standard deviation of the magnitude; if infinite, the magnitude is uniform from 0 to `m`.
    pub deviation: f64,
    /// `mmax`: maximum magnitude.
    pub most: f64,
    /// `inc`: whether the strength of every operation increases with the magnitude.
    pub increasing: bool,
    /// `p`: probability that a chosen operation is applied.
    pub probability: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        RandAugment { magnitude: 10.0, count: 2, deviation: 0.0, most: 10.0, increasing: false, probability: 0.5 }
    }
}

impl FromStr for RandAugment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('-');
        let wrong = |found: &str| {
            format!("expected RandAugment as `rand-m9-n2-mstd0.5-mmax10-inc1-p0.5`, found `{found}` in `{text}`")
        };
        if parts.next() != Some("rand") {
            return Err(wrong(text));
        }
        let mut settings = RandAugment::default();
        for part in parts {
            let digits = part.find(|letter: char| letter.is_ascii_digit()).ok_or_else(|| wrong(part))?;
            let (key, value) = part.split_at(digits);
            let value: f64 = value.parse().map_err(|_| wrong(part))?;
            match key {
                "m" => settings.magnitude = value,
                "n" if (1.0..=100.0).contains(&value) => settings.count = value as usize,
                "mstd" => settings.deviation = if value > 100.0 { f64::INFINITY } else { value },
                "mmax" => settings.most = value,
                "inc" => settings.increasing = value != 0.0,
                "p" if value <= 1.0 => settings.probability = value,
                _ => return Err(wrong(part)),
            }
        }
        Ok(settings)
    }
}

impl fmt::Display for RandAugment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = RandAugment::default();
        write!(f, "rand-m{}-n{}", self.magnitude, self.count)?;
        if self.deviation > 0.0 {
            write!(f, "-mstd{}", self.deviation.min(101.0))?;
        }
        if self.most != default.most {
            write!(f, "-mmax{}", self.most)?;
        }
        if self.probability != default.probability {
            write!(f, "-p{}", self.probability)?;
        }
        write!(f, "-inc{}", u8::from(self.increasing))
    }
}

impl RandAugment {
    pub(super) fn of(&self, mut image: RgbImage, fill: [u8; 3], draws: &mut Draws) -> RgbImage {
        for _ in 0..self.count {
            let choice = CHOICES[draws.below(CHOICES.len())];
            let (carried_out, negative) = (draws.happens(self.probability), draws.happens(0.5));
            let filter = if draws.happens(0.5) { Filter::Bilinear } else { Filter::Bicubic };
            let magnitude = match self.deviation {
                deviation if deviation.is_infinite() => draws.between(0.0, self.magnitude),
                deviation => self.magnitude + deviation * draws.normal(),
            };
            if carried_out {
                let operation = choice.at(magnitude.min(self.most).max(0.0), self.increasing, negative);
                image = operation.apply(image, filter, fill);
            }
        }
        image
    }
}

impl Choice {
    /// The operation at a magnitude, out of 10; `negative` selects the other direction if there is one.
    pub fn at(self, magnitude: f64, increasing: bool, negative: bool) -> Operation {
        let level = magnitude / 10.0;
        let signed = |value: f64| if negative { -value } else { value };
        let enhanced = match increasing {
            true => (1.0 + signed(level * 0.9)).max(0.1),
            false => level * 1.8 + 0.1,
        };
        let bits = ((level * 4.0) as u32).min(8);
        let threshold = ((level * 256.0) as u32).min(256);
        match self {
            Choice::AutoContrast => Operation::AutoContrast,
            Choice::Equalize => Operation::Equalize,
            Choice::Invert => Operation::Invert,
            Choice::Rotate => Operation::Rotate(signed(level * 30.0)),
            Choice::Posterize => Operation::Posterize(if increasing { 4u32.saturating_sub(bits) } else { bits }),
            Choice::Solarize => Operation::Solarize(if increasing { 256 - threshold } else { threshold }),
            Choice::SolarizeAdd => Operation::SolarizeAdd(((level * 110.0) as u32).min(128)),
            Choice::Color => Operation::Color(enhanced),
            Choice::Contrast => Operation::Contrast(enhanced),
            Choice::Brightness => Operation::Brightness(enhanced),
            Choice::Sharpness => Operation::Sharpness(enhanced),
            Choice::ShearX => Operation::ShearX(signed(level * 0.3)),
            Choice::ShearY => Operation::ShearY(signed(level * 0.3)),
            Choice::TranslateXRel => Operation::TranslateXRel(signed(level * 0.45)),
            Choice::TranslateYRel => Operation::TranslateYRel(signed(level * 0.45)),
        }
    }
}
