//! AutoAugment's policy for ImageNet (arXiv:1805.09501).

use vitral::image::{Filter, RgbImage};

use super::{Choice, Operation};
use crate::draws::Draws;

/// An operation, its probability, and its magnitude.
pub(super) type Step = (Choice, f64, f64);

use Choice::{AutoContrast, Color, Contrast, Equalize, Invert, Posterize, Rotate, Sharpness, ShearX, Solarize};

/// The 25 pairs of the paper's table 9.
#[rustfmt::skip]
pub(super) const PAIRS: [[Step; 2]; 25] = [
    [(Posterize, 0.4, 8.0), (Rotate, 0.6, 9.0)],
    [(Solarize, 0.6, 5.0), (AutoContrast, 0.6, 5.0)],
    [(Equalize, 0.8, 8.0), (Equalize, 0.6, 3.0)],
    [(Posterize, 0.6, 7.0), (Posterize, 0.6, 6.0)],
    [(Equalize, 0.4, 7.0), (Solarize, 0.2, 4.0)],
    [(Equalize, 0.4, 4.0), (Rotate, 0.8, 8.0)],
    [(Solarize, 0.6, 3.0), (Equalize, 0.6, 7.0)],
    [(Posterize, 0.8, 5.0), (Equalize, 1.0, 2.0)],
    [(Rotate, 0.2, 3.0), (Solarize, 0.6, 8.0)],
    [(Equalize, 0.6, 8.0), (Posterize, 0.4, 6.0)],
    [(Rotate, 0.8, 8.0), (Color, 0.4, 0.0)],
    [(Rotate, 0.4, 9.0), (Equalize, 0.6, 2.0)],
    [(Equalize, 0.0, 7.0), (Equalize, 0.8, 8.0)],
    [(Invert, 0.6, 4.0), (Equalize, 1.0, 8.0)],
    [(Color, 0.6, 4.0), (Contrast, 1.0, 8.0)],
    [(Rotate, 0.8, 8.0), (Color, 1.0, 2.0)],
    [(Color, 0.8, 8.0), (Solarize, 0.8, 7.0)],
    [(Sharpness, 0.4, 7.0), (Invert, 0.6, 8.0)],
    [(ShearX, 0.6, 5.0), (Equalize, 1.0, 9.0)],
    [(Color, 0.4, 0.0), (Equalize, 0.6, 3.0)],
    [(Equalize, 0.4, 7.0), (Solarize, 0.2, 4.0)],
    [(Solarize, 0.6, 5.0), (AutoContrast, 0.6, 5.0)],
    [(Invert, 0.6, 4.0), (Equalize, 1.0, 8.0)],
    [(Color, 0.6, 4.0), (Contrast, 1.0, 8.0)],
    [(Equalize, 0.8, 8.0), (Equalize, 0.6, 3.0)],
];

/// Applies one of the pairs, each of its operations with its probability.
pub(super) fn of(mut image: RgbImage, fill: [u8; 3], draws: &mut Draws) -> RgbImage {
    for (choice, probability, magnitude) in PAIRS[draws.below(PAIRS.len())] {
        let (carried_out, negative) = (draws.happens(probability), draws.happens(0.5));
        let filter = if draws.happens(0.5) { Filter::Bilinear } else { Filter::Bicubic };
        if carried_out {
            image = at(choice, magnitude, negative).apply(image, filter, fill);
        }
    }
    image
}

/// The operation; posterizing keeps 4 bits more than in RandAugment.
pub(super) fn at(choice: Choice, magnitude: f64, negative: bool) -> Operation {
    match choice.at(magnitude, false, negative) {
        Operation::Posterize(bits) => Operation::Posterize(bits + 4),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_match_the_paper() {
        assert_eq!(at(Posterize, 8.0, false), Operation::Posterize(7));
        assert_eq!(at(Posterize, 6.0, false), Operation::Posterize(6));
        assert_eq!(at(Solarize, 5.0, true), Operation::Solarize(128));
        assert_eq!(at(Rotate, 9.0, true), Operation::Rotate(-27.0));
        assert!(PAIRS.iter().flatten().all(|(_, probability, magnitude)| *probability <= 1.0 && *magnitude <= 10.0));
    }
}
