//! What is varied from one showing of an image to the next.
//!
//! Everything is off by default. Operations over 8-bit pixels are Pillow's to the bit, because recipes were tuned on them;
//! every random choice comes from a [`Draws`], so it depends on the seed, the epoch and the image alone.

mod affine;
mod augmix;
mod auto;
mod blur;
mod crop;
mod enhance;
mod erase;
mod hue;
mod jitter;
mod levels;
mod mix;
mod operation;
mod policy;
mod rand;

use serde::{Deserialize, Serialize};
use vitral::config::Size;
use vitral::image::RgbImage;

use crate::draws::Draws;
use crate::error::TrainError;
use crate::labeling::Labeling;

pub use augmix::{AugMix, mixed};
pub use crop::{Crop, Padding, RandomResized};
pub use erase::{Erasing, Filling};
pub use jitter::ColorJitter;
pub use mix::{Blend, Mixing};
pub use operation::Operation;
pub use policy::Policy;
pub use rand::{Choice, RandAugment};

/// How images are varied, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// A part drawn at random. Without, images come as the model's preprocessing cuts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// Probability of left for right.
    pub horizontal_flip: f64,
    /// Probability of upside down.
    pub vertical_flip: f64,
    /// RandAugment and its kin: `rand-m9-mstd0.5-inc1`, `augmix-m3-w3`, `auto`, `trivial`, `three`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Red, green and blue of what a policy moves into view.
    pub fill: [u8; 3],
    /// Brightness, contrast, saturation and hue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    /// Rectangles that are painted over, after normalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasing: Option<Erasing>,
    /// Mixup and cutmix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixing: Option<Mixing>,
    /// The share of every target that is spread over all classes.
    pub label_smoothing: f32,
    /// How often an image comes in an epoch, whose length stays the same (DeiT's repeated augmentation: 3).
    pub repeats: usize,
    /// The last epochs of a run, in which policy, color jitter, erasing and mixing rest, so that a model ends on images
    /// as they are (YOLOX, arXiv:2107.08430, section 2.1; timm's `mixup-off-epoch`).
    #[serde(skip_serializing_if = "is_zero")]
    pub plain_epochs: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Default for Augment {
    fn default() -> Self {
        Augment {
            crop: None,
            horizontal_flip: 0.0,
            vertical_flip: 0.0,
            policy: None,
            fill: [128; 3],
            color_jitter: None,
            erasing: None,
            mixing: None,
            label_smoothing: 0.0,
            repeats: 1,
            plain_epochs: 0,
        }
    }
}

impl Augment {
    /// Refuses numbers out of range.
    ///
    /// # Errors
    /// With the field, what it may be and what it was.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |field: &str, expected: &str, found: String| {
            let fault = format!("expected `{field}` to be {expected}, found {found}");
            Err(TrainError::Recipe { path: "augment".into(), fault })
        };
        let erasing = self.erasing.map_or(0.0, |erasing| erasing.probability);
        let mixing = self.mixing.unwrap_or_default();
        for (field, value) in [
            ("horizontal_flip", self.horizontal_flip),
            ("vertical_flip", self.vertical_flip),
            ("label_smoothing", f64::from(self.label_smoothing)),
            ("erasing.probability", erasing),
            ("mixing.probability", mixing.probability),
            ("mixing.switch_probability", mixing.switch_probability),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(field, "between 0 and 1", value.to_string());
            }
        }
        if !(mixing.mixup >= 0.0 && mixing.cutmix >= 0.0) {
            return wrong("mixing", "of alphas that are not negative", format!("{mixing:?}"));
        }
        if self.repeats == 0 {
            return wrong("repeats", "at least 1", "0".into());
        }
        let rising = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        if let Some(Crop::RandomResized(crop)) = self.crop
            && !(rising(crop.scale) && rising(crop.ratio) && crop.scale[1] <= 1.0)
        {
            return wrong("crop", "of a rising `scale` within (0, 1] and a rising `ratio`", format!("{crop:?}"));
        }
        if let Some(erasing) = self.erasing
            && !(rising(erasing.area) && rising(erasing.aspect) && rising([1.0, erasing.most as f64]))
        {
            return wrong("erasing", "of rising `area` and `aspect`, and `most` at least 1", format!("{erasing:?}"));
        }
        match self.color_jitter {
            Some(jitter) if !jitter.is_valid() => {
                wrong("color_jitter", "of numbers that are not negative, `hue` at most 0.5", format!("{jitter:?}"))
            }
            _ => Ok(()),
        }
    }

    /// What is left of it in the last epochs: crop, flips, smoothing and repetition.
    pub fn plainer(&self) -> Augment {
        Augment { policy: None, color_jitter: None, erasing: None, mixing: None, ..self.clone() }
    }

    /// Whether every image comes as the model's preprocessing shows it.
    pub fn is_still(&self) -> bool {
        let Augment { crop, horizontal_flip, vertical_flip, policy, color_jitter, erasing, .. } = self;
        let flips = *horizontal_flip > 0.0 || *vertical_flip > 0.0;
        !flips && crop.is_none() && policy.is_none() && color_jitter.is_none() && erasing.is_none()
    }

    /// The order of an epoch with every image repeated in place, at its old length.
    pub(crate) fn repeated(&self, order: Vec<usize>) -> Vec<usize> {
        let count = order.len();
        order.into_iter().flat_map(|index| std::iter::repeat_n(index, self.repeats)).take(count).collect()
    }

    /// A part of an image, resized to `size`; `None` where no crop is asked for.
    pub fn cut(&self, image: &RgbImage, size: Size, draws: &mut Draws) -> Option<RgbImage> {
        self.crop.map(|crop| crop.of(image, size, draws))
    }

    /// Flips, the policy, and the color jitter.
    pub fn alter(&self, mut image: RgbImage, draws: &mut Draws) -> RgbImage {
        // Drawn either way, so that one choice does not move the next.
        let (horizontal, vertical) = (draws.happens(self.horizontal_flip), draws.happens(self.vertical_flip));
        if horizontal {
            image = crop::mirrored(&image);
        }
        if vertical {
            image = crop::upside_down(&image);
        }
        if let Some(policy) = &self.policy {
            image = policy.of(image, self.fill, draws);
        }
        match self.color_jitter {
            Some(jitter) => jitter.of(image, draws),
            None => image,
        }
    }

    /// Paints rectangles of a normalized image `[channels, height, width]` over.
    pub fn erase(&self, numbers: &mut [f32], channels: usize, size: Size, draws: &mut Draws) {
        if let Some(erasing) = self.erasing {
            erasing.of(numbers, channels, size, draws);
        }
    }

    /// Appends the target of an image: its labels, smoothed; where there may be several, towards one half, each
    /// class by itself.
    pub fn target(&self, labels: &[usize], classes: usize, labeling: Labeling, targets: &mut Vec<f32>) {
        let spread_over = if labeling == Labeling::Several { 2 } else { classes };
        let off = f64::from(self.label_smoothing) / spread_over as f64;
        let on = 1.0 - f64::from(self.label_smoothing) + off;
        let start = targets.len();
        targets.resize(start + classes, off as f32);
        for &label in labels {
            targets[start + label] = on as f32;
        }
    }

    /// Mixes images `[batch, channels, height, width]` and their targets by pairs.
    pub fn mix(&self, shape: [usize; 4], pixels: &mut [f32], targets: &mut [f32], draws: &mut Draws) {
        if let Some(blend) = self.mixing.and_then(|mixing| mixing.draw([shape[2], shape[3]], draws)) {
            blend.apply(shape, pixels, targets);
        }
    }
}
