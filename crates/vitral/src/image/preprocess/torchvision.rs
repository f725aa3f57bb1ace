//! torchvision's `ImageClassification` preset.

use super::super::{Filter, ImageError};
use super::{Channels, Halving, IMAGENET_MEAN, IMAGENET_STD, Normalize, Preprocess, Rescale, Step, Target};
use crate::config::Size;

/// The parameters of torchvision's `ImageClassification` preset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageClassification {
    /// The short side after resizing.
    pub resize_size: usize,
    /// Both sides of the crop.
    pub crop_size: usize,
    /// The filter.
    pub interpolation: Filter,
    /// The mean.
    pub mean: [f32; 3],
    /// The standard deviation.
    pub std: [f32; 3],
}

impl ImageClassification {
    const fn new(resize_size: usize, crop_size: usize, interpolation: Filter) -> Self {
        ImageClassification { resize_size, crop_size, interpolation, mean: IMAGENET_MEAN, std: IMAGENET_STD }
    }
}

/// torchvision's Vision Transformers, their weights, and the preset of each.
const PRESETS: [(&str, &str, ImageClassification); 10] = {
    use Filter::{Bicubic, Bilinear};
    [
        ("vit_b_16", "IMAGENET1K_V1", ImageClassification::new(256, 224, Bilinear)),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", ImageClassification::new(384, 384, Bicubic)),
        ("vit_b_16", "IMAGENET1K_SWAG_LINEAR_V1", ImageClassification::new(224, 224, Bicubic)),
        ("vit_b_32", "IMAGENET1K_V1", ImageClassification::new(256, 224, Bilinear)),
        // Not 256: the short side of this one is 242.
        ("vit_l_16", "IMAGENET1K_V1", ImageClassification::new(242, 224, Bilinear)),
        ("vit_l_16", "IMAGENET1K_SWAG_E2E_V1", ImageClassification::new(512, 512, Bicubic)),
        ("vit_l_16", "IMAGENET1K_SWAG_LINEAR_V1", ImageClassification::new(224, 224, Bicubic)),
        ("vit_l_32", "IMAGENET1K_V1", ImageClassification::new(256, 224, Bilinear)),
        ("vit_h_14", "IMAGENET1K_SWAG_E2E_V1", ImageClassification::new(518, 518, Bicubic)),
        ("vit_h_14", "IMAGENET1K_SWAG_LINEAR_V1", ImageClassification::new(224, 224, Bicubic)),
    ]
};

impl Preprocess {
    /// The transform of a published torchvision model, such as `vit_b_16` with `IMAGENET1K_V1`.
    pub fn from_torchvision(model: &str, weights: &str) -> Result<Self, ImageError> {
        match PRESETS.iter().find(|(name, of, _)| (*name, *of) == (model, weights)) {
            Some((_, _, preset)) => Ok(Self::from_image_classification(preset)),
            None => Err(ImageError::UnknownProcessor {
                found: format!("{model} {weights}"),
                place: "torchvision's weights",
                known: PRESETS.map(|(name, of, _)| format!("`{name} {of}`")).join(", "),
            }),
        }
    }

    /// The transform of torchvision's `ImageClassification` with these parameters.
    pub fn from_image_classification(preset: &ImageClassification) -> Self {
        let size = Size::square(preset.crop_size);
        Preprocess {
            channels: Channels::Rgb,
            steps: vec![
                Step::Resize { to: Target::ShortSide(preset.resize_size), filter: preset.interpolation },
                Step::CenterCrop { size, halving: Halving::Even, fill: [0; 3] },
            ],
            rescale: Some(Rescale::Divide255),
            normalize: Some(Normalize { mean: preset.mean.to_vec(), std: preset.std.to_vec() }),
        }
    }
}
