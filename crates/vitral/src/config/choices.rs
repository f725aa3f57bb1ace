//! What blocks, pooling and head may be, as data.

use serde::{Deserialize, Serialize};

/// The non-linearity of an MLP or a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Exact GELU, by the error function (PyTorch's default; timm, Hugging Face `gelu`).
    Gelu,
    /// GELU's tanh approximation (JAX's default; Hugging Face `gelu_pytorch_tanh`, `gelu_new`).
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, of OpenAI's CLIP.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
}

/// The shape of the MLP in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MlpKind {
    /// `down(activation(up(x)))`.
    Plain,
    /// `down(activation(gate(x)) · up(x))`; with SiLU this is SwiGLU. The gate comes first in the packed weight.
    Gated,
}

/// Which normalization is used throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// LayerNorm (arXiv:1607.06450): mean and variance over the width, with weight and bias.
    Layer,
    /// RMSNorm (arXiv:1910.07467): root mean square over the width, with weight only.
    Rms,
}

/// How a block joins norms, attention, MLP and the residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// `x + attention(norm(x))`, then `x + mlp(norm(x))`: the ViT paper.
    PreNorm,
    /// `norm(x + attention(x))`, then `norm(x + mlp(x))`: the original Transformer.
    PostNorm,
    /// `x + norm(attention(x))`, then `x + norm(mlp(x))`: timm's `ResPostBlock`.
    ResidualPostNorm,
    /// `x + attention(norm(x)) + mlp(norm(x))` with one shared norm and one fused input projection: ViT-22B
    /// (arXiv:2302.05442), timm's `ParallelScalingBlock`.
    ParallelScaling,
    /// Two attentions side by side, then two MLPs side by side (arXiv:2203.09795), timm's `ParallelThingsBlock`.
    ParallelPairs,
}

/// How the tokens become one feature vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The class token (with a distillation head: both tokens, each to its own head).
    Class,
    /// Mean over the patch tokens.
    Mean,
    /// Mean over all tokens, prefix included (lucidrains `pool = 'mean'`).
    MeanAll,
    /// Maximum over the patch tokens.
    Max,
    /// Half the sum of mean and maximum over the patch tokens (timm `avgmax`).
    AverageMax,
    /// Attention pooling by a learned probe (big_vision MAP head, SigLIP, timm `map`).
    Attention,
    /// Class token and mean over patches side by side (DINOv2's linear classifier); features are twice as wide.
    ClassAndMean,
    /// No pooling: features are all tokens.
    None,
}

/// The classifier after pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// One linear map.
    Linear,
    /// Linear, activation, linear.
    Mlp {
        /// Width of the hidden layer.
        width: usize,
        /// Its non-linearity.
        activation: Activation,
    },
}

/// What attention logits are multiplied with, where it is not `head_width^-0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QkScale {
    /// This number.
    Number(f32),
    /// A rule by name.
    Rule(ScaleRule),
}

/// A rule for the scale of attention logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleRule {
    /// `width^-0.5`, of the whole token's width: the first releases of lucidrains' vit-pytorch, and models that follow them.
    Width,
}

/// Rates of everything that is dropped in training. All off in inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropRates {
    /// After the attention projection and inside the MLP.
    pub hidden: f32,
    /// On attention weights.
    pub attention: f32,
    /// After positions are added.
    pub positions: f32,
    /// Before the head.
    pub head: f32,
    /// Drop path (stochastic depth, arXiv:1603.09382) of the last block; earlier blocks get less, linearly.
    pub path: f32,
    /// Fraction of patch tokens left out in training.
    pub patches: f32,
}
