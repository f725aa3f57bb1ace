//! The same preprocessing for images of another size.

use super::super::Filter;
use super::{Preprocess, Step, Target};
use crate::config::Size;

impl Preprocess {
    /// The same steps for images of another size: crop and resize are scaled by the ratio of that size to the one that they
    /// give now. `from` is the model's own size, for steps that give no fixed size.
    #[must_use]
    pub fn for_size(self, from: Size, to: Size) -> Self {
        let from = self.output_size().unwrap_or(from);
        self.at_size(from, to)
    }

    /// The same numbers and the same filter for images of any proportions: in place of all steps, a resize to at most so many
    /// patches. Without a resize, it is bicubic.
    #[must_use]
    pub fn in_patches(mut self, patch: Size, most: usize) -> Self {
        self.steps = vec![self.resize_to(Target::Patches { patch, most })];
        self
    }

    /// The same numbers for a part of an image that the model sees as a whole: in place of all steps, a resize from `window` to
    /// `input` pixels with the same filter, if they differ. Without a resize, it is bicubic.
    #[must_use]
    pub fn of_window(mut self, window: Size, input: Size) -> Self {
        self.steps = if window == input { vec![] } else { vec![self.resize_to(Target::Exact(input))] };
        self
    }

    /// The last resize, to another target.
    fn resize_to(&self, to: Target) -> Step {
        let last = self.steps.iter().rev().find(|step| step.resize().is_some());
        match last {
            Some(Step::ResizeTensor { filter, .. }) => Step::ResizeTensor { to, filter: *filter },
            Some(Step::ResizeNumbers { filter, .. }) => Step::ResizeNumbers { to, filter: *filter },
            Some(Step::Interpolate { whole, .. }) => Step::Interpolate { to, whole: *whole },
            Some(Step::Resize { filter, .. }) => Step::Resize { to, filter: *filter },
            Some(Step::CenterCrop { .. }) | None => Step::Resize { to, filter: Filter::Bicubic },
        }
    }

    /// The same steps for another input size of the model: sizes are scaled by the ratio of the two.
    fn at_size(mut self, from: Size, to: Size) -> Self {
        if from == to {
            return self;
        }
        let scale = |side: usize, from: usize, to: usize| (side as f64 * to as f64 / from as f64).round() as usize;
        let sized = |size: Size| Size {
            height: scale(size.height, from.height, to.height),
            width: scale(size.width, from.width, to.width),
        };
        let short = |side: usize| scale(side, from.height.min(from.width), to.height.min(to.width));
        let long = |side: usize| scale(side, from.height.max(from.width), to.height.max(to.width));
        let patches = |most: usize| scale(most, from.area(), to.area()).max(1);
        for step in &mut self.steps {
            match step {
                Step::CenterCrop { size, .. } => *size = sized(*size),
                Step::Resize { to, .. }
                | Step::ResizeTensor { to, .. }
                | Step::ResizeNumbers { to, .. }
                | Step::Interpolate { to, .. } => {
                    *to = match *to {
                        Target::Exact(size) => Target::Exact(sized(size)),
                        Target::ShortSide(side) => Target::ShortSide(short(side)),
                        Target::ShortSideWithin { short: side, longest } => {
                            Target::ShortSideWithin { short: short(side), longest: long(longest) }
                        }
                        Target::LongSide(side) => Target::LongSide(long(side)),
                        Target::Cover(size) => Target::Cover(sized(size)),
                        Target::Fit(size) => Target::Fit(sized(size)),
                        Target::Patches { patch, most } => Target::Patches { patch, most: patches(most) },
                    }
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const fn size(height: usize, width: usize) -> Size {
        Size { height, width }
    }

    /// Sizes before and after, for patches of 16 and at most 256 of them, by transformers' function.
    const SIZES: [(Size, Size); 7] = [
        (size(480, 640), size(224, 288)),
        (size(640, 480), size(288, 224)),
        (size(1, 1), size(112, 112)),
        (size(333, 1000), size(144, 448)),
        (size(3000, 17), size(2832, 16)),
        (size(224, 224), size(256, 256)),
        (size(1200, 1601), size(224, 288)),
    ];

    #[test]
    fn crop_and_resize_are_scaled_by_the_ratio_of_the_file() {
        let steps = |side: usize| {
            let preprocess = Preprocess::from_vitral(&json!({"torchvision": "vit_b_16", "weights": "IMAGENET1K_V1"}));
            // The model's own size is not what counts: the file's crop is.
            preprocess.expect("a known preset").for_size(Size::square(518), Size::square(side)).to_string()
        };
        assert!(steps(224).starts_with("resize short 256 bilinear | center crop 224"), "{}", steps(224));
        assert!(steps(112).starts_with("resize short 128 bilinear | center crop 112"), "{}", steps(112));
        assert!(steps(518).starts_with("resize short 592 bilinear | center crop 518"), "{}", steps(518));
    }

    #[test]
    fn a_number_of_patches_replaces_resize_and_crop() {
        let preset = Preprocess::from_vitral(&json!({"torchvision": "vit_b_16", "weights": "IMAGENET1K_V1"}));
        let packed = preset.expect("a known preset").in_patches(Size::square(16), 256);
        assert!(packed.to_string().starts_with("resize to at most 256 patches of 16 bilinear | /255"), "{packed}");
        assert_eq!(packed.output_size(), None);
        // As both libraries compute it.
        for (from, expected) in SIZES {
            assert_eq!(packed.output_size_for(from), expected, "{from}");
        }
        let larger = packed.for_size(Size::square(256), Size::square(512)).to_string();
        assert!(larger.starts_with("resize to at most 1024 patches"), "{larger}");
    }

    #[test]
    fn a_window_is_resized_only_if_it_has_another_size() {
        let preset = || Preprocess::from_vitral(&json!({"torchvision": "vit_b_16", "weights": "IMAGENET1K_V1"}));
        let of = |window| preset().expect("a known preset").of_window(size(window, window), size(224, 224)).to_string();
        assert!(of(224).starts_with("/255"), "{}", of(224));
        assert!(of(448).starts_with("resize exactly 224 bilinear | /255"), "{}", of(448));
    }

    #[test]
    fn without_a_fixed_size_the_model_s_own_counts() {
        let steps = json!({
            "channels": "rgb", "steps": [{ "resize": { "to": { "short-side": 256 }, "filter": "bicubic" } }],
            "rescale": "divide255", "normalize": null
        });
        let preprocess = Preprocess::from_vitral(&steps).expect("our own format");
        let sized = preprocess.for_size(Size::square(224), Size::square(448)).to_string();
        assert!(sized.starts_with("resize short 512"), "{sized}");
    }
}
