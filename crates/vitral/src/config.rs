//! What a Vision Transformer is made of, as data.
//!
//! [`ModelConfig`] holds every architectural choice as a typed field, so that a model from any library can be
//! described without flags that mean different things in different places. No default differs from the weights'
//! origin silently: readers of foreign configurations fill in every field.

mod positions;
mod stem;

use serde::{Deserialize, Serialize};

pub use positions::{OtherSizes, PositionResample, Positions, RelativePositions, RelativeResample};
pub use stem::{Border, ConvolutionalStem, ResNetV2, Root, Stem, StemLayer};

/// A height and a width, in pixels or patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "SizeForm", into = "SizeForm")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// How a size is written: one number for a square, or `[height, width]`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SizeForm {
    Square(usize),
    Pair([usize; 2]),
}

impl From<SizeForm> for Size {
    fn from(form: SizeForm) -> Self {
        match form {
            SizeForm::Square(side) => Size::square(side),
            SizeForm::Pair([height, width]) => Size { height, width },
        }
    }
}

impl From<Size> for SizeForm {
    fn from(size: Size) -> Self {
        if size.height == size.width {
            SizeForm::Square(size.height)
        } else {
            SizeForm::Pair([size.height, size.width])
        }
    }
}

impl Size {
    /// A square.
    pub const fn square(side: usize) -> Self {
        Size { height: side, width: side }
    }

    /// `height × width`.
    pub const fn area(self) -> usize {
        self.height * self.width
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.height == self.width {
            write!(f, "{}", self.height)
        } else {
            write!(f, "{}×{}", self.height, self.width)
        }
    }
}

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

/// Which normalisation is used throughout.
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

/// Everything that defines a Vision Transformer's computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Height and width of the input in pixels.
    pub image_size: Size,
    /// Height and width of a patch, in pixels (for hybrids: in cells of the feature map).
    pub patch_size: Size,
    /// Input channels.
    pub channels: usize,
    /// Classes; 0 means no head.
    pub classes: usize,
    /// Width of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head, independent of `width / heads`.
    pub head_width: usize,
    /// Width of the MLP's hidden layer (after gating, where it is gated).
    pub mlp_width: usize,
    /// What turns pixels into tokens.
    pub stem: Stem,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// Norm on the flattened patch and on its embedding (current vit-pytorch).
    pub patch_norms: bool,
    /// Norm on the patch's embedding alone (timm `embed_norm_layer`, AIMv2).
    pub patch_output_norm: bool,
    /// Class token.
    pub class_token: bool,
    /// DeiT's distillation token with its own head (arXiv:2012.12877).
    pub distillation_token: bool,
    /// Whether the distillation token is read out: its own head beside the class token's, logits averaged, features the
    /// mean of both tokens. Without it the token only takes part in attention (Hugging Face `DeiTModel` and
    /// `DeiTForImageClassification`).
    pub distillation_head: bool,
    /// Register tokens (arXiv:2309.16588).
    pub registers: usize,
    /// Position embeddings.
    pub positions: Positions,
    /// What blocks learn of how far a key stands from a query.
    pub relative_positions: RelativePositions,
    /// How its table is brought to another grid.
    pub relative_resample: RelativeResample,
    /// What happens at another image size.
    pub other_sizes: OtherSizes,
    /// Norm before the first block (CLIP).
    pub pre_norm: bool,
    /// How a block is put together.
    pub block: BlockKind,
    /// Which norm.
    pub norm: NormKind,
    /// The norm's epsilon.
    pub norm_epsilon: f32,
    /// Bias on query, key and value.
    pub qkv_bias: bool,
    /// Whether the key has a part in that bias (DINOv3: not).
    pub key_bias: bool,
    /// Scale of the attention logits; `head_width^-0.5` if not given.
    pub qk_scale: Option<QkScale>,
    /// Norm of queries and keys, per head.
    pub qk_norm: bool,
    /// Norm before the attention projection (timm `scale_attn_norm`).
    pub attention_norm: bool,
    /// Whether attention has an output projection.
    pub attention_projection: bool,
    /// Bias on the attention projection.
    pub projection_bias: bool,
    /// The MLP's shape.
    pub mlp: MlpKind,
    /// The MLP's non-linearity.
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
    /// Whether maximum and attention pooling see the prefix tokens too (timm `pool_include_prefix`; for the mean there
    /// is [`Pooling::MeanAll`]).
    pub pool_prefix: bool,
    /// Norm after pooling (timm `fc_norm`).
    pub pooled_norm: bool,
    /// Width of a linear + tanh after pooling (the paper's pre-logits, Hugging Face's pooler).
    pub pre_logits: Option<usize>,
    /// The classifier.
    pub head: Head,
    /// Bias in the classifier.
    pub head_bias: bool,
    /// Drop rates for training.
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
            pooled_norm: false,
            pre_logits: None,
            head: Head::Linear,
            head_bias: true,
            drop: DropRates::default(),
        }
    }
}

/// A configuration that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An extent that has to be positive.
    #[error("`{field}` is 0 in the model configuration, expected at least 1")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// Two fields that do not fit.
    #[error("the model configuration {problem}; {remedy}")]
    Contradiction {
        /// What does not fit.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A rate outside 0…1, or an epsilon that is not positive.
    #[error("`{field}` is {found} in the model configuration, expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// More numbers than any machine holds.
    #[error("the model configuration asks for {count} parameters, more than {limit}; check its widths")]
    TooLarge {
        /// Parameters asked for, roughly.
        count: u128,
        /// Most that are taken.
        limit: u128,
    },
}

impl ModelConfig {
    /// Checks that the fields fit each other.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("image_size", self.image_size.area()),
            ("patch_size", self.patch_size.area()),
            ("channels", self.channels),
            ("width", self.width),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { field });
            }
        }
        let attends = self.depth > 0 || self.pooling == Pooling::Attention;
        for (field, value) in [("heads", self.heads), ("head_width", self.head_width), ("mlp_width", self.mlp_width)] {
            if value == 0 && attends {
                return Err(ConfigError::Zero { field });
            }
        }
        let contradiction = |problem: String, remedy| Err(ConfigError::Contradiction { problem, remedy });
        let grid = self.grid();
        if grid.area() == 0 {
            let problem = format!("has images of {} and patches of {}", self.image_size, self.token_stride());
            return contradiction(problem, "an image holds at least one patch");
        }
        let needs_class = matches!(self.pooling, Pooling::Class | Pooling::ClassAndMean);
        if needs_class && !self.class_token {
            let problem = "pools the class token and has none".to_owned();
            return contradiction(problem, "set `class_token` or another `pooling`");
        }
        if self.distillation_head && !(self.distillation_token && self.class_token) {
            let problem = "has a distillation head without class and distillation token".to_owned();
            return contradiction(problem, "set `class_token` and `distillation_token`");
        }
        self.check_positions()?;
        if !self.attention_projection && self.attention_width() != self.width {
            let problem =
                format!("has no attention projection from {} back to width {}", self.attention_width(), self.width);
            return contradiction(problem, "set `attention_projection`");
        }
        if self.pooling == Pooling::Attention && !self.width.is_multiple_of(self.heads) {
            let problem = format!("pools width {} by attention of {} heads", self.width, self.heads);
            return contradiction(problem, "the width has to divide by the heads");
        }
        self.check_stem()?;
        let drop = self.drop;
        for (field, rate) in [
            ("drop.hidden", drop.hidden),
            ("drop.attention", drop.attention),
            ("drop.positions", drop.positions),
            ("drop.head", drop.head),
            ("drop.path", drop.path),
            ("drop.patches", drop.patches),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return Err(ConfigError::Range {
                    field,
                    found: rate.to_string(),
                    expected: "a rate from 0 to below 1",
                });
            }
        }
        if !(self.norm_epsilon >= 0.0 && self.norm_epsilon.is_finite()) {
            let found = self.norm_epsilon.to_string();
            return Err(ConfigError::Range { field: "norm_epsilon", found, expected: "a number of at least 0" });
        }
        self.check_size()
    }

    /// Refuses what could only be a mistake or an attack, before anything is allocated for it.
    fn check_size(&self) -> Result<(), ConfigError> {
        const LIMIT: u128 = 1 << 40;
        let wide = |x: usize| x as u128;
        let block = wide(self.width)
            .saturating_mul(4u128.saturating_mul(wide(self.heads).saturating_mul(wide(self.head_width))))
            .saturating_add(3u128.saturating_mul(wide(self.width).saturating_mul(wide(self.mlp_width))));
        let count = block
            .saturating_add(16 * wide(self.width))
            .saturating_mul(wide(self.depth))
            .saturating_add(wide(self.width).saturating_mul(wide(self.classes).saturating_add(wide(self.tokens()))))
            .saturating_add(
                wide(self.channels).saturating_mul(wide(self.patch_size.area())).saturating_mul(wide(self.width)),
            )
            .saturating_add(self.stem_weights())
            .saturating_add(self.relative_weights());
        if count > LIMIT { Err(ConfigError::TooLarge { count, limit: LIMIT }) } else { Ok(()) }
    }

    /// The patch grid at the configured image size.
    pub fn grid(&self) -> Size {
        let stride = self.token_stride();
        let (height, width) = (self.image_size.height, self.image_size.width);
        match self.stem {
            // Its convolutions round up.
            Stem::ResNet(_) => Size { height: height.div_ceil(stride.height), width: width.div_ceil(stride.width) },
            _ => Size { height: height / stride.height, width: width / stride.width },
        }
    }

    /// Pixels between neighbouring tokens: the patch size, times the stem's stride in a hybrid.
    pub fn token_stride(&self) -> Size {
        let stem = match &self.stem {
            Stem::Patches => 1,
            Stem::Hybrid(stem) | Stem::ResNet(stem) => stem.stride(),
            Stem::Convolutional(stem) => stem.stride().max(1),
        };
        Size { height: self.patch_size.height * stem, width: self.patch_size.width * stem }
    }

    /// Whether pixels or cells pass a linear map before they are tokens.
    pub fn embeds_patches(&self) -> bool {
        !matches!(self.stem, Stem::ResNet(_))
    }

    /// Class, distillation and register tokens together.
    pub fn prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distillation_token) + self.registers
    }

    /// All tokens at the configured image size.
    pub fn tokens(&self) -> usize {
        self.prefix_tokens() + self.grid().area()
    }

    /// What attention logits are multiplied with.
    pub fn attention_scale(&self) -> f32 {
        match self.qk_scale {
            None => (self.head_width as f32).powf(-0.5),
            Some(QkScale::Number(scale)) => scale,
            Some(QkScale::Rule(ScaleRule::Width)) => (self.width as f32).powf(-0.5),
        }
    }

    /// Width of the attention's inside: heads × head width.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_width
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
