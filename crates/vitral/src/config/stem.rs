//! What turns pixels into tokens, as data.

use serde::{Deserialize, Serialize};

/// What turns pixels into tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// Non-overlapping patches through one linear map.
    Patches,
    /// A ResNetV2 (weight-standardized convolutions, group norm), then patches of its feature map: the hybrid. Its blocks
    /// norm before the residual is added and activate after.
    Hybrid(ResNetV2),
    /// A whole ResNetV2, and no patch embedding: the cells of its feature map are the tokens. Its blocks norm and activate
    /// before each convolution, and a last norm and activation follow. With no blocks after it and the mean for pooling it
    /// is BiT's classifier (arXiv:1912.11370), which the ViT paper compares with.
    #[serde(rename = "resnet")]
    ResNet(ResNetV2),
    /// A few small convolutions, then patches of their feature map.
    Convolutional(ConvolutionalStem),
}

/// Small convolutions in place of a large patch (arXiv:2106.14881, arXiv:2104.05704): each of 3×3 pixels with
/// standardized weights, then a maximum over 3×3 cells where it has a stride, group norm and ReLU. For small images and
/// little data, where patches alone learn slowly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvolutionalStem {
    /// One after the other.
    pub layers: Vec<StemLayer>,
    /// Channels that are normed together.
    pub group_width: usize,
}

/// One convolution of a [`ConvolutionalStem`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StemLayer {
    /// Channels that come out.
    pub channels: usize,
    /// What height and width are divided by; 1 for nothing.
    pub stride: usize,
}

impl ConvolutionalStem {
    /// What all layers together divide height and width by.
    pub fn stride(&self) -> usize {
        self.layers.iter().fold(1, |stride, layer| stride.saturating_mul(layer.stride))
    }
}

/// A ResNetV2: weight-standardized convolutions with group norm (ViT paper, section 3.1; BiT, arXiv:1912.11370).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetV2 {
    /// Blocks in each stage: `[3, 4, 9]` for R50+ViT-B/16, `[3, 4, 6, 3]` for R50. Empty: only the root.
    pub layers: Vec<usize>,
    /// Width multiplier over 64 channels of the root and 256 of the first stage; each later stage has twice as many.
    pub width_factor: f32,
    /// The convolution that stands first.
    #[serde(default)]
    pub root: Root,
    /// What lies around images and feature maps.
    #[serde(alias = "same_padding")]
    pub padding: Border,
    /// Group-norm groups, 32 in every published model.
    pub groups: usize,
    /// Epsilon of the weight standardization.
    pub standardization_epsilon: f32,
    /// Epsilon of the group norms.
    pub norm_epsilon: f32,
}

/// The first convolution of a [`ResNetV2`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// 7×7 with stride 2, then a maximum over 3×3 with stride 2: the papers'.
    #[default]
    Large,
    /// 3×3 with stride 1 and no maximum, as ResNets for small images (CIFAR) begin.
    Small,
}

/// How a [`ResNetV2`] pads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", from = "BorderForm")]
pub enum Border {
    /// As TensorFlow and JAX do (SAME): the odd cell at the end.
    Same,
    /// As PyTorch does, alike on all sides; the border of the maximum never wins.
    Symmetric,
    /// As `Symmetric`, but the border of the maximum holds zeros, which may win: BiT.
    Fixed,
}

/// How a border is written; `true` and `false` were `same` and `symmetric`.
#[derive(Deserialize)]
#[serde(untagged)]
enum BorderForm {
    Same(bool),
    Name(BorderName),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum BorderName {
    Same,
    Symmetric,
    Fixed,
}

impl From<BorderForm> for Border {
    fn from(form: BorderForm) -> Self {
        match form {
            BorderForm::Same(true) | BorderForm::Name(BorderName::Same) => Border::Same,
            BorderForm::Same(false) | BorderForm::Name(BorderName::Symmetric) => Border::Symmetric,
            BorderForm::Name(BorderName::Fixed) => Border::Fixed,
        }
    }
}

impl ResNetV2 {
    /// Channels of the root.
    pub fn root_channels(&self) -> usize {
        self.channels(64)
    }

    /// Channels that a stage gives, from 0.
    pub fn stage_channels(&self, stage: usize) -> usize {
        self.channels(256usize.saturating_mul(1 << stage.min(32)))
    }

    /// Channels of the feature map.
    pub fn feature_channels(&self) -> usize {
        self.layers.len().checked_sub(1).map_or_else(|| self.root_channels(), |last| self.stage_channels(last))
    }

    /// What the whole divides height and width by: the root, and every stage but the first.
    pub fn stride(&self) -> usize {
        let root = match self.root {
            Root::Large => 4,
            Root::Small => 1,
        };
        root << self.layers.len().saturating_sub(1).min(32)
    }

    /// Channels between the 1×1 convolutions of a block that gives so many.
    pub fn middle_channels(outputs: usize) -> usize {
        divisible(outputs as f64 / 4.0)
    }

    fn channels(&self, base: usize) -> usize {
        divisible(base as f64 * f64::from(self.width_factor))
    }
}

/// The nearest multiple of 8, as timm rounds channels: at least 8, and no more than a tenth lost.
fn divisible(exact: f64) -> usize {
    let rounded = (((exact + 4.0) / 8.0) as usize * 8).max(8);
    if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
}
