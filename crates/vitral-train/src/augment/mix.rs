//! Mixup (arXiv:1710.09412) and cutmix (arXiv:1905.04899), per batch as in timm.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;

/// How images of a batch are mixed: each with the image in the mirrored position of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixing {
    /// Alpha of mixup's Beta distribution; 0 disables mixup.
    pub mixup: f64,
    /// Alpha of cutmix's Beta distribution; 0 disables cutmix.
    pub cutmix: f64,
    /// Probability that a batch is mixed at all.
    pub probability: f64,
    /// Probability of cutmix, if both are enabled.
    pub switch_probability: f64,
}

impl Default for Mixing {
    fn default() -> Self {
        Mixing { mixup: 0.0, cutmix: 0.0, probability: 1.0, switch_probability: 0.5 }
    }
}

/// The mixing of one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blend {
    /// Each image is blended with its partner.
    Mixup {
        /// Weight of the image itself.
        keep: f64,
    },
    /// A rectangle of each image is replaced with the partner's.
    Cutmix {
        /// First row and the row after the last.
        rows: [usize; 2],
        /// First column and the column after the last.
        columns: [usize; 2],
    },
}

impl Mixing {
    /// Draws the mixing of a batch of images of this height and width.
    pub fn draw(&self, [height, width]: [usize; 2], draws: &mut Draws) -> Option<Blend> {
        if !(self.mixup > 0.0 || self.cutmix > 0.0) || !draws.happens(self.probability) {
            return None;
        }
        let switched = draws.happens(self.switch_probability);
        if self.cutmix <= 0.0 || self.mixup > 0.0 && !switched {
            return Some(Blend::Mixup { keep: draws.beta(self.mixup) });
        }
        let keep = draws.beta(self.cutmix);
        let center = [draws.below(height), draws.below(width)];
        Some(Blend::cutmix([height, width], keep, center))
    }
}

impl Blend {
    /// A rectangle around a center that leaves the fraction `keep` of the image, clipped to the image.
    pub fn cutmix([height, width]: [usize; 2], keep: f64, center: [usize; 2]) -> Self {
        let ratio = (1.0 - keep).sqrt();
        let range = |side: usize, center: usize| {
            let cut = (side as f64 * ratio) as usize;
            [center.saturating_sub(cut / 2), (center + cut.div_ceil(2)).min(side)]
        };
        Blend::Cutmix { rows: range(height, center[0]), columns: range(width, center[1]) }
    }

    /// The weight of the first image in its target.
    pub fn share(&self, [height, width]: [usize; 2]) -> f64 {
        match *self {
            Blend::Mixup { keep } => keep,
            Blend::Cutmix { rows, columns } => {
                let area = (rows[1] - rows[0]) * (columns[1] - columns[0]);
                1.0 - area as f64 / (height * width) as f64
            }
        }
    }

    /// Mixes images `[batch, channels, height, width]` and their targets.
    pub fn apply(&self, shape: [usize; 4], pixels: &mut [f32], targets: &mut [f32]) {
        let [batch, channels, height, width] = shape;
        let share = self.share([height, width]);
        let blend = |values: &mut [f32], keep: f64| {
            let (keep, give) = (keep as f32, (1.0 - keep) as f32);
            pairs(values, batch, |a, b| (*a, *b) = (*a * keep + *b * give, *b * keep + *a * give));
        };
        match *self {
            Blend::Mixup { keep } => blend(pixels, keep),
            Blend::Cutmix { rows, columns } => {
                let length = channels * height * width;
                for first in 0..batch / 2 {
                    let (before, after) = pixels.split_at_mut((batch - 1 - first) * length);
                    let (a, b) = (&mut before[first * length..][..length], &mut after[..length]);
                    for channel in 0..channels {
                        for row in rows[0]..rows[1] {
                            let start = (channel * height + row) * width;
                            let part = start + columns[0]..start + columns[1];
                            a[part.clone()].swap_with_slice(&mut b[part]);
                        }
                    }
                }
            }
        }
        blend(targets, share);
    }
}

/// Calls `each` on the values of every image and its partner. The middle image of an odd batch stays as it is.
fn pairs(values: &mut [f32], batch: usize, each: impl Fn(&mut f32, &mut f32)) {
    let length = values.len() / batch;
    for first in 0..batch / 2 {
        let (before, after) = values.split_at_mut((batch - 1 - first) * length);
        before[first * length..][..length].iter_mut().zip(&mut after[..length]).for_each(|(a, b)| each(a, b));
    }
}
