//! Everything a checkpoint decides about its input, as data.
//!
//! A [`Preprocess`] turns an image into the tensor `[channels, height, width]` that a model was trained on. It is read
//! from the model's own files and stored beside the weights; nothing in it is guessed.

mod apply;
mod backend;
mod bands;
mod display;
mod fields;
mod geometry;
mod huggingface;
mod scale;
mod sized;
mod timm;
mod torchvision;
mod vitral;

pub use backend::Backend;
pub use torchvision::ImageClassification;

use serde::{Deserialize, Serialize};

use super::Filter;
use crate::config::Size;

/// ImageNet's mean.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// One half, which maps [0, 1] to [−1, 1]: the ViT paper's own models.
pub const HALF: [f32; 3] = [0.5, 0.5, 0.5];
/// CLIP's mean.
pub const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's standard deviation.
pub const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// How an image becomes a tensor: steps over 8-bit pixels, in order, then scale, mean and standard deviation over
/// floats. Images of bands are floats from the beginning: resizes do not round, and start from the samples as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// The channels of a pixel.
    pub channels: Channels,
    /// Steps over 8-bit pixels, in order.
    pub steps: Vec<Step>,
    /// The conversion of 0 to 255 to the values that are normalized; if absent, they stay 0 to 255. Of bands, the conversion of
    /// the samples as stored.
    pub rescale: Option<Rescale>,
    /// Mean and standard deviation of every channel; if absent, values are not normalized.
    pub normalize: Option<Normalize>,
}

/// The channels of a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Brightness, by Pillow's `convert("L")`, computed before any step.
    Gray,
    /// So many bands, as the file stores them ([`decode_for`](super::decode_for)).
    Bands(usize),
}

impl Channels {
    /// What a number of channels means if nothing else is said: brightness, color, or bands.
    pub const fn of_count(count: usize) -> Self {
        match count {
            1 => Channels::Gray,
            3 => Channels::Rgb,
            bands => Channels::Bands(bands),
        }
    }

    /// The number of channels.
    pub const fn count(self) -> usize {
        match self {
            Channels::Rgb => 3,
            Channels::Gray => 1,
            Channels::Bands(bands) => bands,
        }
    }
}

/// A step over 8-bit pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Resamples like Pillow.
    Resize {
        /// The target size.
        to: Target,
        /// The filter.
        filter: Filter,
    },
    /// Resamples like PyTorch's `interpolate` of a tensor of bytes, antialiased: the same filters, other rounding (Hugging
    /// Face's processors on torchvision).
    ResizeTensor {
        /// The target size.
        to: Target,
        /// The filter.
        filter: Filter,
    },
    /// Resamples with the same filters but without rounding to 8 bits, for images rescaled to floats before the resize
    /// (Hugging Face's DINOv3). It must be the last step.
    ResizeNumbers {
        /// The target size.
        to: Target,
        /// The filter.
        filter: Filter,
    },
    /// Interpolates between the four nearest pixels, without antialiasing, in floats: TensorFlow's `tf.image.resize` as
    /// Google's JAX code calls it.
    Interpolate {
        /// The target size.
        to: Target,
        /// Whether the results are rounded down to 8 bits, as in `big_vision`. If not, it must be the last step.
        whole: bool,
    },
    /// Crops the center. A side that is too short is padded.
    CenterCrop {
        /// The size of the crop.
        size: Size,
        /// How an odd difference is halved.
        halving: Halving,
        /// Red, green and blue of the padding; for gray, the first.
        fill: [u8; 3],
    },
}

impl Step {
    /// The target size and the filter of a resize, whatever its arithmetic.
    pub fn resize(&self) -> Option<(Target, Filter)> {
        match self {
            Step::Interpolate { to, .. } => Some((*to, Filter::Bilinear)),
            Step::Resize { to, filter } | Step::ResizeTensor { to, filter } | Step::ResizeNumbers { to, filter } => {
                Some((*to, *filter))
            }
            Step::CenterCrop { .. } => None,
        }
    }
}

/// The size that an image is resized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// This size, regardless of aspect ratio.
    Exact(Size),
    /// The short side to this length, the long side in proportion, rounded down.
    ShortSide(usize),
    /// The short side to this length unless the long side would exceed its limit, as computed by Hugging Face.
    ShortSideWithin {
        /// The short side.
        short: usize,
        /// The maximum length of the long side.
        longest: usize,
    },
    /// The long side to this length, the short side in proportion, rounded down.
    LongSide(usize),
    /// The smallest size with the image's aspect ratio that covers this one, rounded half to even: timm's
    /// `ResizeKeepRatio`.
    Cover(Size),
    /// The largest size with the image's aspect ratio that fits into this one, rounded half to even: timm's
    /// `ResizeKeepRatio` with `longest`.
    Fit(Size),
    /// The largest size of whole patches, at most so many, that an image of these proportions fills, each side rounded up:
    /// Hugging Face's SigLIP 2 and timm's `ResizeToSequence` (NaFlex).
    Patches {
        /// Height and width of a patch.
        patch: Size,
        /// The most patches.
        most: usize,
    },
}

/// How a center crop halves the difference between a side and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halving {
    /// Rounded down, also below zero: Hugging Face on Pillow.
    Down,
    /// Rounded toward zero: Hugging Face on torchvision.
    TowardZero,
    /// Rounded half to even; padding before the image is half of the difference, rounded down: torchvision and timm.
    Even,
}

/// How an 8-bit value becomes a float.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rescale {
    /// `value · factor + offset`: multiplied in 64 bits and rounded to 32, then the offset added (Hugging Face on Pillow).
    Multiply {
        /// The factor, usually 1/255.
        factor: f64,
        /// The offset, 0 or −1.
        offset: f32,
    },
    /// `value / 255` in 32 bits (torchvision's `ToTensor`).
    Divide255,
    /// Divided by the largest value of the type that the file stores, in 32 bits: 255 for bytes, 65,535 for unsigned and 32,767
    /// for signed integers of 16 bits; real numbers stay as they are (torchvision's `to_dtype` with `scale=True`).
    TypeRange,
    /// Like [`Rescale::Multiply`], in 32 bits; without an offset, mean and standard deviation are divided by the factor
    /// instead (Hugging Face on torchvision).
    Fused {
        /// The factor, usually 1/255.
        factor: f64,
        /// The offset, 0 or −1.
        offset: f32,
    },
}

impl Rescale {
    /// Factor and offset of `value · factor + offset` for bytes, whatever the arithmetic.
    pub fn line(self) -> (f64, f32) {
        match self {
            Rescale::Multiply { factor, offset } | Rescale::Fused { factor, offset } => (factor, offset),
            Rescale::Divide255 | Rescale::TypeRange => (1.0 / 255.0, 0.0),
        }
    }
}

/// `(value − mean) / std`, channel by channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// The mean, one value per channel.
    pub mean: Vec<f32>,
    /// The standard deviation, one value per channel.
    pub std: Vec<f32>,
}
