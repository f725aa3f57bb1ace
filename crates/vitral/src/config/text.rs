//! The architecture of a text tower: the transformer beside a Vision Transformer that was trained on pairs of images and
//! texts.

use super::{Activation, BlockKind, ModelConfig, Size};

/// Everything that defines the computation of CLIP's (arXiv:2103.00020) or SigLIP's (arXiv:2303.15343) text tower.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Number of entries in the table of token embeddings.
    pub vocabulary: usize,
    /// The largest number of tokens in a text, with those that begin and end it.
    pub context: usize,
    /// Width of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_width: usize,
    /// The MLP's activation function.
    pub activation: Activation,
    /// The epsilon of the norms.
    pub norm_epsilon: f32,
    /// Whether a token attends only to itself and to those before it.
    pub causal: bool,
    /// Which token stands for the text.
    pub pooling: TextPooling,
    /// Width of the space that texts share with images, if features are mapped to it.
    pub space: Option<usize>,
    /// Bias in that map.
    pub space_bias: bool,
}

/// Which token stands for the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPooling {
    /// The first one with this number.
    First {
        /// The token that ends a text.
        end: u32,
    },
    /// The one with the largest number, as in CLIP's first release, where it ends a text.
    Largest,
    /// The last one; texts are then filled up to the whole context.
    Last,
}

impl TextConfig {
    /// The configuration of the blocks, which are those of a Vision Transformer.
    pub(crate) fn blocks(&self) -> ModelConfig {
        ModelConfig {
            image_size: Size::square(1),
            patch_size: Size::square(1),
            classes: 0,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            head_width: self.width / self.heads.max(1),
            mlp_width: self.mlp_width,
            block: BlockKind::PreNorm,
            norm_epsilon: self.norm_epsilon,
            activation: self.activation,
            ..ModelConfig::default()
        }
    }

    /// Width of a text's vector.
    pub fn feature_width(&self) -> usize {
        self.space.unwrap_or(self.width)
    }
}
