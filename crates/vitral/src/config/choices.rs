//! The choices for blocks, pooling and head, as data.

use serde::{Deserialize, Serialize};

/// The activation function of an MLP or a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Exact GELU, by the error function (PyTorch's default; timm, Hugging Face `gelu`).
    Gelu,
    /// GELU's tanh approximation (JAX's default; Hugging Face `gelu_pytorch_tanh`, `gelu_new`).
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, from OpenAI's CLIP.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Whether it is tanh, which files leave out for pre-logits.
    pub(crate) fn is_tanh(&self) -> bool {
        *self == Activation::Tanh
    }
}

/// The structure of the MLP in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MlpKind {
    /// `down(activation(up(x)))`.
    Plain,
    /// `down(activation(gate(x)) · up(x))`; with SiLU this is SwiGLU. The gate comes first in the packed weight.
    Gated,
}

/// The normalization used throughout the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// LayerNorm (arXiv:1607.06450): mean and variance over the width, with weight and bias.
    Layer,
    /// RMSNorm (arXiv:1910.07467): root mean square over the width, with weight only.
    Rms,
}

/// How a block combines norms, attention, MLP and the residual connection.
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
    /// The class token (with a distillation head: both tokens, each with its own head).
    Class,
    /// Mean over the patch tokens.
    Mean,
    /// Mean over all tokens, prefix included (lucidrains `pool = 'mean'`).
    MeanAll,
    /// Maximum over the patch tokens.
    Max,
    /// The average of the mean and the maximum over the patch tokens (timm `avgmax`).
    AverageMax,
    /// Attention pooling by a learned probe (big_vision MAP head, SigLIP, timm `map`).
    Attention,
    /// Class token and mean over patches, concatenated (DINOv2's linear classifier); features are twice as wide.
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
        /// Its activation function.
        activation: Activation,
    },
    /// Classes are directions, as in CLIP's zero-shot classification (arXiv:2103.00020): features, mapped to a shared space if
    /// there is one, are brought to the length √width by a root-mean-square norm, and a linear map follows.
    Cosine {
        /// Width of the space that features are mapped to, without a bias.
        space: Option<usize>,
    },
}

/// What the logits say about an image, and so how they become what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// One of the classes: probabilities by softmax. With a single class there is nothing to choose from, and its
    /// probability is the sigmoid.
    #[default]
    SingleLabel,
    /// Any number of the classes: a probability for each by sigmoid.
    MultiLabel,
    /// Numbers: the logits themselves.
    Regression,
    /// No classes: coordinates in a space shared with other models, as of CLIP's two towers.
    Embedding,
}

impl Problem {
    /// The name in our files and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Problem::SingleLabel => "single-label",
            Problem::MultiLabel => "multi-label",
            Problem::Regression => "regression",
            Problem::Embedding => "embedding",
        }
    }

    /// Whether it is the usual one, which files leave out.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Problem::SingleLabel
    }
}

/// The factor on attention logits, if it is not `head_width^-0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QkScale {
    /// This number.
    Number(f32),
    /// A named rule.
    Rule(ScaleRule),
}

/// A rule for the scale of attention logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleRule {
    /// `width^-0.5`, with the width of the whole token: the first releases of lucidrains' vit-pytorch, and models
    /// derived from them.
    Width,
}

/// Dropout rates for training. All are off in inference.
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
    /// Drop path (stochastic depth, arXiv:1603.09382) of the last block; the rate grows linearly from the first block.
    pub path: f32,
    /// Fraction of patch tokens dropped in training.
    pub patches: f32,
}
