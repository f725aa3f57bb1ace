//! Augmentation policies by name.

use std::fmt;

use serde::{Deserialize, Serialize};
use vitral::image::{Filter, RgbImage};

use super::{AugMix, Operation, RandAugment, auto};
use crate::draws::Draws;

/// A policy that selects operations for an image, written as in timm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Policy {
    /// `rand-…`: RandAugment.
    Rand(RandAugment),
    /// `augmix-…`: AugMix.
    Mix(AugMix),
    /// `auto`: the ImageNet policy of AutoAugment (timm's `original`).
    Auto,
    /// `trivial`: one operation at a random strength (TrivialAugment, arXiv:2103.10158, wide).
    Trivial,
    /// `three`: grayscale, solarize or blur, one of the three (3-augment of DeiT III, arXiv:2204.07118).
    Three,
}

impl TryFrom<String> for Policy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" | "original" => Ok(Policy::Auto),
            "trivial" => Ok(Policy::Trivial),
            "three" | "3a" => Ok(Policy::Three),
            _ if text.starts_with("rand") => text.parse().map(Policy::Rand),
            _ if text.starts_with("augmix") => text.parse().map(Policy::Mix),
            _ => Err(format!(
                "expected one of the policies `rand-…`, `augmix-…`, `auto`, `trivial` and `three`, found `{text}`"
            )),
        }
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> String {
        policy.to_string()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Rand(settings) => settings.fmt(f),
            Policy::Mix(settings) => settings.fmt(f),
            Policy::Auto => f.write_str("auto"),
            Policy::Trivial => f.write_str("trivial"),
            Policy::Three => f.write_str("three"),
        }
    }
}

impl Policy {
    pub(super) fn of(&self, image: RgbImage, fill: [u8; 3], draws: &mut Draws) -> RgbImage {
        match self {
            Policy::Rand(settings) => settings.of(image, fill, draws),
            Policy::Mix(settings) => settings.of(image, fill, draws),
            Policy::Auto => auto::of(image, fill, draws),
            Policy::Trivial => trivial(draws).apply(image, Filter::Nearest, fill),
            Policy::Three => {
                let operation = match draws.below(3) {
                    0 => Operation::Solarize(128),
                    1 => Operation::Color(0.0),
                    _ => Operation::GaussianBlur(draws.between(0.1, 2.0)),
                };
                operation.apply(image, Filter::Bilinear, fill)
            }
        }
    }
}

/// torchvision's `TrivialAugmentWide`: one operation at one of 31 strengths.
fn trivial(draws: &mut Draws) -> Operation {
    let (choice, bin) = (draws.below(14), draws.below(31));
    let level = bin as f64 / 30.0;
    let sign = if draws.happens(0.5) { -1.0 } else { 1.0 };
    let factor = 1.0 + sign * level * 0.99;
    match choice {
        0 => Operation::Identity,
        // torchvision converts the level to an angle whose tangent is the level.
        1 => Operation::ShearX(sign * level * 0.99),
        2 => Operation::ShearY(sign * level * 0.99),
        3 => Operation::TranslateX((sign * level * 32.0).trunc()),
        4 => Operation::TranslateY((sign * level * 32.0).trunc()),
        5 => Operation::Rotate(sign * level * 135.0),
        6 => Operation::Brightness(factor),
        7 => Operation::Color(factor),
        8 => Operation::Contrast(factor),
        9 => Operation::Sharpness(factor),
        10 => Operation::Posterize(8 - (bin as f64 / 5.0).round_ties_even() as u32),
        11 => Operation::Solarize((255.0 - level * 255.0).ceil() as u32),
        12 => Operation::AutoContrast,
        _ => Operation::Equalize,
    }
}
