//! Data augmentation.
//!
//! Everything is off by default. Operations on 8-bit pixels are bit-identical to Pillow's, because recipes were tuned
//! with it; every random choice comes from a [`Draws`], so it depends only on the seed, the epoch and the image.

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
mod raster;

use std::ops::Range;

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
pub use raster::Raster;

/// Data augmentation, applied in the order of the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Random crop. Without it, images are cropped by the model's preprocessing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// Probability of a left-right flip.
    pub horizontal_flip: f64,
    /// Probability of an upside-down flip.
    pub vertical_flip: f64,
    /// RandAugment and similar policies: `rand-m9-mstd0.5-inc1`, `augmix-m3-w3`, `auto`, `trivial`, `three`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Red, green and blue fill for pixels from outside the image.
    pub fill: [u8; 3],
    /// Brightness, contrast, saturation and hue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    /// Erasing of rectangles, after normalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasing: Option<Erasing>,
    /// Mixup and cutmix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixing: Option<Mixing>,
    /// The fraction of every target that is spread over all classes.
    pub label_smoothing: f32,
    /// If given, targets above it count as 1 and all others as 0, after mixing: with 0, an image mixed of two shows both of
    /// their classes (DeiT III, ResNet strikes back; timm's `bce_target_thresh`). For a binary loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_threshold: Option<f32>,
    /// Repetitions of an image in an epoch, whose length stays the same (DeiT's repeated augmentation: 3).
    pub repeats: usize,
    /// Number of final epochs without policy, color jitter, erasing and mixing, so that training ends on unaltered
    /// images (YOLOX, arXiv:2107.08430, section 2.1; timm's `mixup-off-epoch`).
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
            target_threshold: None,
            repeats: 1,
            plain_epochs: 0,
        }
    }
}

impl Augment {
    /// Rejects values out of range.
    ///
    /// # Errors
    /// If a field is out of range, with its name, the allowed range and the value.
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
            ("target_threshold", f64::from(self.target_threshold.unwrap_or(0.0))),
            ("erasing.probability", erasing),
            ("mixing.probability", mixing.probability),
            ("mixing.switch_probability", mixing.switch_probability),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(field, "between 0 and 1", value.to_string());
            }
        }
        if !(mixing.mixup >= 0.0 && mixing.cutmix >= 0.0) {
            let found = format!("`mixup` = {} and `cutmix` = {}", mixing.mixup, mixing.cutmix);
            return wrong("mixing", "a pair of non-negative alphas", found);
        }
        if self.repeats == 0 {
            return wrong("repeats", "at least 1", "0".into());
        }
        let rising = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        if let Some(Crop::RandomResized(crop)) = self.crop
            && !(rising(crop.scale) && rising(crop.ratio) && crop.scale[1] <= 1.0)
        {
            return wrong(
                "crop",
                "a crop with increasing `scale` within (0, 1] and increasing `ratio`",
                format!("`scale` = {:?} and `ratio` = {:?}", crop.scale, crop.ratio),
            );
        }
        if let Some(erasing) = self.erasing
            && !(rising(erasing.area) && rising(erasing.aspect) && rising([1.0, erasing.most as f64]))
        {
            return wrong(
                "erasing",
                "a setting with increasing `area` and `aspect`, and `most` at least 1",
                format!("`area` = {:?}, `aspect` = {:?} and `most` = {}", erasing.area, erasing.aspect, erasing.most),
            );
        }
        match self.color_jitter {
            Some(jitter) if !jitter.is_valid() => {
                let [brightness, contrast, saturation, hue] =
                    [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue];
                let found = format!(
                    "`brightness` = {brightness}, `contrast` = {contrast}, `saturation` = {saturation}, `hue` = {hue}"
                );
                wrong("color_jitter", "non-negative, with `hue` at most 0.5", found)
            }
            _ => Ok(()),
        }
    }

    /// Rejects what is defined for colors in 8 bits alone: policies and color jitter.
    ///
    /// # Errors
    /// If one of them is set, with its name.
    pub fn check_bands(&self) -> Result<(), TrainError> {
        let field = match self {
            Augment { policy: Some(_), .. } => "policy",
            Augment { color_jitter: Some(_), .. } => "color_jitter",
            _ => return Ok(()),
        };
        let fault = format!(
            "`{field}` changes colors in 8 bits, and the images have bands; leave it out (crops, flips, erasing and mixing \
             work on bands)"
        );
        Err(TrainError::Recipe { path: "augment".into(), fault })
    }

    /// The augmentation in the final epochs: only crop, flips, smoothing and repetition.
    pub fn plainer(&self) -> Augment {
        Augment { policy: None, color_jitter: None, erasing: None, mixing: None, ..self.clone() }
    }

    /// Whether every image is only preprocessed, without augmentation.
    pub fn is_still(&self) -> bool {
        let Augment { crop, horizontal_flip, vertical_flip, policy, color_jitter, erasing, .. } = self;
        let flips = *horizontal_flip > 0.0 || *vertical_flip > 0.0;
        !flips && crop.is_none() && policy.is_none() && color_jitter.is_none() && erasing.is_none()
    }

    /// The order of an epoch with every image repeated in place, with the length unchanged.
    pub(crate) fn repeated(&self, order: Vec<usize>) -> Vec<usize> {
        let count = order.len();
        order.into_iter().flat_map(|index| std::iter::repeat_n(index, self.repeats)).take(count).collect()
    }

    /// A random crop of an image, resized to `size`; `None` if there is no random crop.
    pub fn cut<R: Raster>(&self, image: &R, size: Size, draws: &mut Draws) -> Option<R> {
        self.crop.map(|crop| crop.of(image, size, draws))
    }

    /// Applies flips.
    pub fn flip<R: Raster>(&self, mut image: R, draws: &mut Draws) -> R {
        // Always drawn, so that one setting does not affect the next.
        let (horizontal, vertical) = (draws.happens(self.horizontal_flip), draws.happens(self.vertical_flip));
        if horizontal {
            image = raster::mirrored(&image);
        }
        if vertical {
            image = raster::upside_down(&image);
        }
        image
    }

    /// Applies flips, the policy, and color jitter.
    pub fn alter(&self, image: RgbImage, draws: &mut Draws) -> RgbImage {
        let mut image = self.flip(image, draws);
        if let Some(policy) = &self.policy {
            image = policy.of(image, self.fill, draws);
        }
        match self.color_jitter {
            Some(jitter) => jitter.of(image, draws),
            None => image,
        }
    }

    /// Erases rectangles of a normalized image `[channels, height, width]`.
    pub fn erase(&self, numbers: &mut [f32], channels: usize, size: Size, draws: &mut Draws) {
        if let Some(erasing) = self.erasing {
            erasing.of(numbers, channels, size, draws);
        }
    }

    /// Appends the target of an image: its labels, smoothed. With multi-label data, every class is smoothed towards one
    /// half, independently.
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

    /// Whether images may be mixed.
    pub(crate) fn mixes(&self) -> bool {
        self.mixing.is_some_and(|mixing| mixing.mixup > 0.0 || mixing.cutmix > 0.0)
    }

    /// Applies the threshold to targets that are mixed.
    pub(crate) fn decide(&self, targets: &mut [f32]) {
        if let Some(threshold) = self.target_threshold {
            targets.iter_mut().for_each(|target| *target = f32::from(u8::from(*target > threshold)));
        }
    }

    /// Mixes images `[batch, channels, height, width]` and their targets in pairs, all in the same way, each with another
    /// of its group. Groups are runs of images.
    pub fn mix(
        &self,
        shape: [usize; 4],
        groups: &[Range<usize>],
        pixels: &mut [f32],
        targets: &mut [f32],
        draws: &mut Draws,
    ) {
        let [batch, channels, height, width] = shape;
        let Some(blend) = self.mixing.and_then(|mixing| mixing.draw([height, width], draws)) else { return };
        let (of_image, of_target) = (channels * height * width, targets.len() / batch.max(1));
        for group in groups.iter().filter(|group| !group.is_empty()) {
            let part = |each: usize| group.start * each..group.end * each;
            let shape = [group.len(), channels, height, width];
            blend.apply(shape, &mut pixels[part(of_image)], &mut targets[part(of_target)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_above_the_threshold_count_in_full() {
        let mut targets = [0.0, 0.3, 0.7, 1.0];
        Augment::default().decide(&mut targets);
        assert_eq!(targets, [0.0, 0.3, 0.7, 1.0]);
        Augment { target_threshold: Some(0.0), ..Augment::default() }.decide(&mut targets);
        assert_eq!(targets, [0.0, 1.0, 1.0, 1.0]);
    }
}
