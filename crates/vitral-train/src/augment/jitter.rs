//! Color jitter, as in torchvision.

use serde::{Deserialize, Serialize};
use vitral::image::RgbImage;

use super::{enhance, hue};
use crate::draws::Draws;

/// Maximum deviation of brightness, contrast and saturation from 1, and of hue from 0; applied in random order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// Brightness.
    pub brightness: f64,
    /// Contrast.
    pub contrast: f64,
    /// Saturation.
    pub saturation: f64,
    /// Hue, as a fraction of the circle.
    pub hue: f64,
}

impl ColorJitter {
    pub(super) fn is_valid(&self) -> bool {
        let ColorJitter { brightness, contrast, saturation, hue } = *self;
        [brightness, contrast, saturation, hue].into_iter().all(|value| value >= 0.0) && hue <= 0.5
    }

    pub(super) fn of(&self, mut image: RgbImage, draws: &mut Draws) -> RgbImage {
        let mut order = [0, 1, 2, 3];
        for last in (1..4).rev() {
            order.swap(last, draws.below(last + 1));
        }
        let mut factor = |range: f64| draws.between((1.0 - range).max(0.0), 1.0 + range);
        let factors = [factor(self.brightness), factor(self.contrast), factor(self.saturation)];
        let turn = draws.between(-self.hue, self.hue);
        for step in order {
            image = match step {
                0 if self.brightness > 0.0 => enhance::brightness(&image, factors[0]),
                1 if self.contrast > 0.0 => enhance::contrast(&image, factors[1]),
                2 if self.saturation > 0.0 => enhance::color(&image, factors[2]),
                3 if self.hue > 0.0 => hue::turn(image, turn),
                _ => image,
            };
        }
        image
    }
}
