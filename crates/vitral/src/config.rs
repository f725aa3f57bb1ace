//! The architecture of a Vision Transformer as data.
//!
//! [`ModelConfig`] holds every architectural choice as a typed field, so that a model from any library can be described
//! without flags whose meaning depends on the library. Readers of other libraries' configurations fill in every field,
//! so no default silently differs from the source of the weights.

mod check;
mod choices;
mod error;
mod positions;
mod size;
mod stem;
mod text;

use serde::{Deserialize, Serialize};

pub use choices::{Activation, BlockKind, DropRates, Head, MlpKind, NormKind, Pooling, Problem, QkScale, ScaleRule};
pub use error::ConfigError;
pub use positions::{Axis, OtherSizes, PositionResample, Positions, RelativePositions, RelativeResample, Rotary};
pub use size::Size;
pub use stem::{Border, ConvolutionalStem, ResNetD, ResNetV2, Root, Stem, StemLayer};
pub use text::{TextConfig, TextPooling};

/// Everything that defines a Vision Transformer's computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Height and width of the input in pixels.
    pub image_size: Size,
    /// Height and width of a patch, in pixels (in hybrids: in cells of the feature map).
    pub patch_size: Size,
    /// Input channels.
    pub channels: usize,
    /// Number of classes; 0 means no head.
    pub classes: usize,
    /// Width of a token (embedding dimension).
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Width of a head, independent of `width / heads`.
    pub head_width: usize,
    /// Width of the MLP's hidden layer (after the gate, if the MLP is gated).
    pub mlp_width: usize,
    /// How pixels become tokens.
    pub stem: Stem,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// Norm on the flattened patch and on its embedding (current vit-pytorch).
    pub patch_norms: bool,
    /// Norm on the patch's embedding only (timm `embed_norm_layer`, AIMv2).
    pub patch_output_norm: bool,
    /// Whether there is a class token.
    pub class_token: bool,
    /// Whether there is DeiT's distillation token (arXiv:2012.12877).
    pub distillation_token: bool,
    /// Whether the distillation token has its own head beside the class token's: logits are averaged, and features are
    /// the mean of both tokens. Otherwise the token only takes part in attention (Hugging Face `DeiTModel` and
    /// `DeiTForImageClassification`).
    pub distillation_head: bool,
    /// Number of register tokens (arXiv:2309.16588).
    pub registers: usize,
    /// Position embeddings.
    pub positions: Positions,
    /// Rotary positions in every block, beside those that are added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary: Option<Rotary>,
    /// Relative position biases.
    pub relative_positions: RelativePositions,
    /// How the relative position table is resampled to another grid.
    pub relative_resample: RelativeResample,
    /// What happens with images of another size.
    pub other_sizes: OtherSizes,
    /// Norm before the first block (CLIP).
    pub pre_norm: bool,
    /// The structure of a block.
    pub block: BlockKind,
    /// Which norm.
    pub norm: NormKind,
    /// The norm's epsilon.
    pub norm_epsilon: f32,
    /// Bias on query, key and value.
    pub qkv_bias: bool,
    /// Whether that bias includes the key (in DINOv3 it does not).
    pub key_bias: bool,
    /// Scale of the attention logits; `head_width^-0.5` if absent.
    pub qk_scale: Option<QkScale>,
    /// Norm of queries and keys, per head.
    pub qk_norm: bool,
    /// Norm before the attention projection (timm `scale_attn_norm`).
    pub attention_norm: bool,
    /// Whether attention has an output projection.
    pub attention_projection: bool,
    /// Bias on the attention projection.
    pub projection_bias: bool,
    /// The MLP's structure.
    pub mlp: MlpKind,
    /// The MLP's activation function.
    pub activation: Activation,
    /// Bias in the MLP.
    pub mlp_bias: bool,
    /// Norm inside the MLP (timm `scale_mlp_norm`).
    pub mlp_norm: bool,
    /// LayerScale's initial value (arXiv:2103.17239); absent without LayerScale.
    pub layer_scale: Option<f32>,
    /// Norm after the last block.
    pub final_norm: bool,
    /// How tokens are pooled.
    pub pooling: Pooling,
    /// Whether maximum and attention pooling include the prefix tokens (timm `pool_include_prefix`; for the mean, use
    /// [`Pooling::MeanAll`]).
    pub pool_prefix: bool,
    /// Heads of an attention pool, if not those of the blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_heads: Option<usize>,
    /// Width of the hidden layer of an attention pool's MLP, if not that of the blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_mlp_width: Option<usize>,
    /// Norm after pooling (timm `fc_norm`).
    pub pooled_norm: bool,
    /// Width of a linear layer after pooling, with an activation function (the paper's pre-logits, Hugging Face's pooler).
    pub pre_logits: Option<usize>,
    /// The activation function of the pre-logits: tanh in the paper.
    #[serde(skip_serializing_if = "Activation::is_tanh")]
    pub pre_logits_activation: Activation,
    /// The classifier.
    pub head: Head,
    /// Bias in the classifier.
    pub head_bias: bool,
    /// What the logits say: which class, which classes, or numbers.
    #[serde(skip_serializing_if = "Problem::is_usual")]
    pub problem: Problem,
    /// Dropout rates for training.
    pub drop: DropRates,
}

impl Default for ModelConfig {
    /// ViT-B/16 at 224 pixels with 1000 classes, as in timm.
    fn default() -> Self {
        ModelConfig {
            image_size: Size::square(224),
            patch_size: Size::square(16),
            channels: 3,
            classes: 1000,
            width: 768,
            depth: 12,
            heads: 12,
            head_width: 64,
            mlp_width: 3072,
            stem: Stem::Patches,
            patch_bias: true,
            patch_norms: false,
            patch_output_norm: false,
            class_token: true,
            distillation_token: false,
            distillation_head: false,
            registers: 0,
            positions: Positions::LearnedAll,
            rotary: None,
            relative_positions: RelativePositions::None,
            relative_resample: RelativeResample::Linear,
            other_sizes: OtherSizes::Refuse,
            pre_norm: false,
            block: BlockKind::PreNorm,
            norm: NormKind::Layer,
            norm_epsilon: 1e-6,
            qkv_bias: true,
            key_bias: true,
            qk_scale: None,
            qk_norm: false,
            attention_norm: false,
            attention_projection: true,
            projection_bias: true,
            mlp: MlpKind::Plain,
            activation: Activation::Gelu,
            mlp_bias: true,
            mlp_norm: false,
            layer_scale: None,
            final_norm: true,
            pooling: Pooling::Class,
            pool_prefix: false,
            pool_heads: None,
            pool_mlp_width: None,
            pooled_norm: false,
            pre_logits: None,
            pre_logits_activation: Activation::Tanh,
            head: Head::Linear,
            head_bias: true,
            problem: Problem::SingleLabel,
            drop: DropRates::default(),
        }
    }
}

impl ModelConfig {
    /// The patch grid at the configured image size.
    pub fn grid(&self) -> Size {
        // A stem's convolutions round up; patches drop what is left of the last one.
        let (stem, image) = (self.stem_stride(), self.image_size);
        Size {
            height: image.height.div_ceil(stem) / self.patch_size.height,
            width: image.width.div_ceil(stem) / self.patch_size.width,
        }
    }

    /// Pixels between neighboring cells of the stem's feature map; 1 without a stem.
    fn stem_stride(&self) -> usize {
        match &self.stem {
            Stem::Patches => 1,
            Stem::Hybrid(stem) | Stem::ResNet(stem) => stem.stride(),
            Stem::ResNetD(stem) => stem.stride(),
            Stem::Convolutional(stem) => stem.stride().max(1),
        }
    }

    /// Pixels between neighboring tokens: the patch size, times the stem's stride in a hybrid.
    pub fn token_stride(&self) -> Size {
        let stem = self.stem_stride();
        Size { height: self.patch_size.height * stem, width: self.patch_size.width * stem }
    }

    /// Whether there is a patch embedding: a linear map from pixels or cells to tokens.
    pub fn embeds_patches(&self) -> bool {
        !matches!(self.stem, Stem::ResNet(_))
    }

    /// Number of class, distillation and register tokens together.
    pub fn prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distillation_token) + self.registers
    }

    /// Number of tokens at the configured image size.
    pub fn tokens(&self) -> usize {
        self.prefix_tokens() + self.grid().area()
    }

    /// Factor on the attention logits.
    pub fn attention_scale(&self) -> f32 {
        match self.qk_scale {
            None => (self.head_width as f32).powf(-0.5),
            Some(QkScale::Number(scale)) => scale,
            Some(QkScale::Rule(ScaleRule::Width)) => (self.width as f32).powf(-0.5),
        }
    }

    /// Total width of the attention heads: heads × head width.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Heads of an attention pool.
    pub fn heads_of_pool(&self) -> usize {
        self.pool_heads.unwrap_or(self.heads)
    }

    /// Width of the hidden layer of an attention pool's MLP.
    pub fn mlp_width_of_pool(&self) -> usize {
        self.pool_mlp_width.unwrap_or(self.mlp_width)
    }

    /// Width of the pooled features, before the head.
    pub fn feature_width(&self) -> usize {
        match (self.pre_logits, self.pooling) {
            (Some(width), _) => width,
            (None, Pooling::ClassAndMean) => 2 * self.width,
            (None, _) => self.width,
        }
    }
}

impl ResNetV2 {
    /// A classifier made of this ResNet alone (BiT): the mean over its cells, then one linear map.
    pub fn classifier(self, classes: usize) -> ModelConfig {
        ModelConfig {
            patch_size: Size::square(1),
            classes,
            width: self.feature_channels(),
            depth: 0,
            heads: 0,
            head_width: 0,
            mlp_width: 0,
            patch_bias: false,
            class_token: false,
            positions: Positions::None,
            final_norm: false,
            pooling: Pooling::Mean,
            stem: Stem::ResNet(self),
            ..ModelConfig::default()
        }
    }
}
