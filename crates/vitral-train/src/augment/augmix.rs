//! AugMix (arXiv:1912.02781) in timm's notation: `augmix-m3-w3`.

use std::fmt;
use std::str::FromStr;

use vitral::image::{Filter, RgbImage};

use super::{Choice, Operation, enhance};
use crate::draws::Draws;

/// Operations that a chain can contain.
const CHOICES: [Choice; 13] = [
    Choice::AutoContrast,
    Choice::Color,
    Choice::Contrast,
    Choice::Brightness,
    Choice::Sharpness,
    Choice::Equalize,
    Choice::Rotate,
    Choice::Posterize,
    Choice::Solarize,
    Choice::ShearX,
    Choice::ShearY,
    Choice::TranslateXRel,
    Choice::TranslateYRel,
];

/// The maximum magnitude.
const MOST: f64 = 10.0;

/// Mixes the image with several chains of operations. Settings are named by timm's letters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugMix {
    /// `m`: magnitude, out of 10.
    pub magnitude: f64,
    /// `w`: number of chains.
    pub width: usize,
    /// `d`: operations per chain; one to three if not set.
    pub depth: Option<usize>,
    /// `a`: both parameters of the distributions that weights are drawn from.
    pub alpha: f64,
    /// `mstd`: standard deviation of the magnitude; if infinite, the magnitude is uniform from 0 to `m`.
    pub deviation: f64,
}

impl Default for AugMix {
    fn default() -> Self {
        AugMix { magnitude: 3.0, width: 3, depth: None, alpha: 1.0, deviation: f64::INFINITY }
    }
}

impl FromStr for AugMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('-');
        let wrong =
            |found: &str| format!("expected AugMix as `augmix-m3-w3-d2-a1-mstd0.5`, found `{found}` in `{text}`");
        if parts.next() != Some("augmix") {
            return Err(wrong(text));
        }
        let mut settings = AugMix::default();
        for part in parts {
            let digits = part.find(|letter: char| letter.is_ascii_digit()).ok_or_else(|| wrong(part))?;
            let (key, value) = part.split_at(digits);
            let value: f64 = value.parse().map_err(|_| wrong(part))?;
            let count = (1.0..=100.0).contains(&value).then_some(value as usize);
            match (key, count) {
                ("m", _) => settings.magnitude = value,
                ("w", Some(width)) => settings.width = width,
                ("d", Some(depth)) => settings.depth = Some(depth),
                ("a", _) if value > 0.0 => settings.alpha = value,
                ("mstd", _) => settings.deviation = if value > 100.0 { f64::INFINITY } else { value },
                _ => return Err(wrong(part)),
            }
        }
        Ok(settings)
    }
}

impl fmt::Display for AugMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "augmix-m{}-w{}", self.magnitude, self.width)?;
        if let Some(depth) = self.depth {
            write!(f, "-d{depth}")?;
        }
        if self.alpha != 1.0 {
            write!(f, "-a{}", self.alpha)?;
        }
        if self.deviation.is_finite() {
            write!(f, "-mstd{}", self.deviation)?;
        }
        Ok(())
    }
}

impl AugMix {
    pub(super) fn of(&self, image: RgbImage, fill: [u8; 3], draws: &mut Draws) -> RgbImage {
        // The weights of the chains are Dirichlet distributed: gammas divided by their sum.
        let gammas: Vec<f64> = (0..self.width).map(|_| draws.gamma(self.alpha)).collect();
        let sum = gammas.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let share = draws.beta(self.alpha) as f32;
        let chains: Vec<(f32, Vec<(Operation, Filter)>)> =
            gammas.iter().map(|gamma| ((gamma / sum) as f32, self.chain(draws))).collect();
        mixed(&image, &chains, share, fill)
    }

    fn chain(&self, draws: &mut Draws) -> Vec<(Operation, Filter)> {
        let depth = self.depth.unwrap_or_else(|| 1 + draws.below(3));
        let link = |_| {
            let choice = CHOICES[draws.below(CHOICES.len())];
            let negative = draws.happens(0.5);
            let filter = if draws.happens(0.5) { Filter::Bilinear } else { Filter::Bicubic };
            let magnitude = match self.deviation {
                deviation if deviation.is_infinite() => draws.between(0.0, self.magnitude),
                deviation => self.magnitude + deviation * draws.normal(),
            };
            (choice.at(magnitude.clamp(0.0, MOST), true, negative), filter)
        };
        (0..depth).map(link).collect()
    }
}

/// `(1 − share) · image + share · Σ weight · chain(image)`, each chain with its weight; rounded down where timm does.
pub fn mixed(image: &RgbImage, chains: &[(f32, Vec<(Operation, Filter)>)], share: f32, fill: [u8; 3]) -> RgbImage {
    let mut sum = vec![0.0f32; image.pixels().len()];
    for (weight, chain) in chains {
        let link = |image: RgbImage, &(operation, filter): &(Operation, Filter)| operation.apply(image, filter, fill);
        let end = chain.iter().fold(image.clone(), link);
        sum.iter_mut().zip(end.pixels()).for_each(|(sum, &level)| *sum += weight * f32::from(level));
    }
    let levels = sum.into_iter().map(|level| level.clamp(0.0, 255.0) as u8).collect();
    let chains = RgbImage::new(image.width(), image.height(), levels).expect("as many levels as the image has");
    let before = image.pixels();
    enhance::blend(&chains, f64::from(share), |at, channel| before[at * 3 + channel])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_timms_notation() {
        for text in ["augmix-m3-w3", "augmix-m5-w4-d2", "augmix-m3-w2-d1-a0.5-mstd0.5"] {
            assert_eq!(text.parse::<AugMix>().expect("known").to_string(), text);
        }
        assert_eq!("augmix".parse(), Ok(AugMix::default()));
        for text in ["augmix-b1", "augmix-w0", "augmix-m", "augmix-x3", "rand-m9"] {
            assert!(text.parse::<AugMix>().is_err(), "{text}");
        }
    }
}
