//! How pixels become tokens, as data.

use serde::{Deserialize, Serialize};

/// How pixels become tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// Non-overlapping patches, embedded by one linear map.
    Patches,
    /// A ResNetV2 (weight-standardized convolutions, group norm), then patches of its feature map: the hybrid. Its
    /// blocks apply the norm before the residual is added and the activation after.
    Hybrid(ResNetV2),
    /// A whole ResNetV2 without a patch embedding: the cells of its feature map are the tokens. Its blocks apply norm
    /// and activation before each convolution, and a last norm and activation follow. With no blocks after it and mean
    /// pooling it is BiT's classifier (arXiv:1912.11370), which the ViT paper compares with.
    #[serde(rename = "resnet")]
    ResNet(ResNetV2),
    /// A ResNet-D with batch norm, then patches of its feature map: timm's hybrids on `resnet26d` and `resnet50d`.
    #[serde(rename = "resnet-d")]
    ResNetD(ResNetD),
    /// A few small convolutions, then patches of their feature map.
    Convolutional(ConvolutionalStem),
}

/// Small convolutions in place of a large patch (arXiv:2106.14881, arXiv:2104.05704): each is 3×3 with standardized
/// weights, followed by 3×3 max pooling if it has a stride, group norm and ReLU. For small images and little data,
/// where a plain patch embedding trains slowly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvolutionalStem {
    /// The layers, in order.
    pub layers: Vec<StemLayer>,
    /// Channels per group of the group norm.
    pub group_width: usize,
}

/// One convolution of a [`ConvolutionalStem`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StemLayer {
    /// Output channels.
    pub channels: usize,
    /// Factor by which height and width shrink; 1 for none.
    pub stride: usize,
}

impl ConvolutionalStem {
    /// Factor by which all layers together shrink height and width.
    pub fn stride(&self) -> usize {
        self.layers.iter().fold(1, |stride, layer| stride.saturating_mul(layer.stride))
    }
}

/// A ResNet-D (arXiv:1812.01187): three 3×3 convolutions in place of the large one, and means over 2×2 cells before the
/// shortcuts' convolutions. Its batch norms use the statistics that they were given, in training as well: weights and
/// biases learn, running means and variances stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetD {
    /// Blocks in each stage: `[2, 2, 2, 2]` for `resnet26d`.
    pub layers: Vec<usize>,
    /// Channels of the first two convolutions, 32 in published models; the third has twice as many.
    pub root_width: usize,
    /// Channels between the 1×1 convolutions of the first stage, 64 in published models; each later stage has twice as
    /// many, and its output four times those.
    pub stage_width: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f32,
}

impl ResNetD {
    /// Channels between the 1×1 convolutions of a stage, counted from 0.
    pub fn middle_channels(&self, stage: usize) -> usize {
        self.stage_width.saturating_mul(1 << stage.min(32))
    }

    /// Output channels of a stage, counted from 0.
    pub fn stage_channels(&self, stage: usize) -> usize {
        self.middle_channels(stage).saturating_mul(4)
    }

    /// Factor by which the whole ResNet shrinks height and width: the root by 4, and every stage but the first by 2.
    pub fn stride(&self) -> usize {
        4 << self.layers.len().saturating_sub(1).min(32)
    }
}

/// A ResNetV2: weight-standardized convolutions with group norm (ViT paper, section 3.1; BiT, arXiv:1912.11370).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetV2 {
    /// Blocks in each stage: `[3, 4, 9]` for R50+ViT-B/16, `[3, 4, 6, 3]` for R50. Empty: only the root.
    pub layers: Vec<usize>,
    /// Width multiplier over 64 channels in the root and 256 in the first stage; each later stage has twice as many.
    pub width_factor: f32,
    /// The first convolution.
    #[serde(default)]
    pub root: Root,
    /// How images and feature maps are padded.
    #[serde(alias = "same_padding")]
    pub padding: Border,
    /// Number of groups of the group norm, 32 in every published model.
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
    /// 7×7 with stride 2, then 3×3 max pooling with stride 2, as in the papers.
    #[default]
    Large,
    /// 3×3 with stride 1 and no pooling, as in ResNets for small images (CIFAR).
    Small,
}

/// How a [`ResNetV2`] pads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", from = "BorderForm")]
pub enum Border {
    /// Like TensorFlow and JAX (SAME): an odd cell is added at the end.
    Same,
    /// Like PyTorch, equal on all sides; padding never wins in max pooling.
    Symmetric,
    /// Like `Symmetric`, but max pooling pads with zeros, which may win: BiT.
    Fixed,
}

/// How padding is written in a file; `true` and `false` are the older names of `same` and `symmetric`.
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

    /// Output channels of a stage, counted from 0.
    pub fn stage_channels(&self, stage: usize) -> usize {
        self.channels(256usize.saturating_mul(1 << stage.min(32)))
    }

    /// Channels of the feature map.
    pub fn feature_channels(&self) -> usize {
        self.layers.len().checked_sub(1).map_or_else(|| self.root_channels(), |last| self.stage_channels(last))
    }

    /// Factor by which the whole ResNet shrinks height and width: the root, and every stage but the first.
    pub fn stride(&self) -> usize {
        let root = match self.root {
            Root::Large => 4,
            Root::Small => 1,
        };
        root << self.layers.len().saturating_sub(1).min(32)
    }

    /// Channels between the 1×1 convolutions of a block with this many outputs.
    pub fn middle_channels(outputs: usize) -> usize {
        divisible(outputs as f64 / 4.0)
    }

    fn channels(&self, base: usize) -> usize {
        divisible(base as f64 * f64::from(self.width_factor))
    }
}

/// The nearest multiple of 8, rounded as timm does: at least 8, and at most a tenth lost.
fn divisible(exact: f64) -> usize {
    let rounded = (((exact + 4.0) / 8.0) as usize * 8).max(8);
    if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
}
