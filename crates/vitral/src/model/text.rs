//! A text tower: tokens of a text in, one vector out.

use vitral_engine::ops::{Linear, Norm};
use vitral_engine::{Context, Declarations, ParameterId, ParameterKind, ParameterSpec, Tensor};

use super::attention::BlockContext;
use super::block::Block;
use super::build::Builder;
use super::error::ModelError;
use crate::config::{ConfigError, TextConfig, TextPooling};

/// The transformer that CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343) have for texts: which parameters it has and
/// what is computed with them. Its blocks are those of [`super::Vit`].
///
/// The table of token embeddings, which may be larger than everything else, is not among the parameters: a caller looks
/// up the few rows that it needs.
pub struct TextTower {
    config: TextConfig,
    declarations: Declarations,
    positions: ParameterId,
    blocks: Vec<Block>,
    norm: Norm,
    projection: Option<Linear>,
}

impl std::fmt::Debug for TextTower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTower").field("config", &self.config).finish_non_exhaustive()
    }
}

impl TextTower {
    /// Builds the tower that a configuration describes.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(config: TextConfig) -> Result<Self, ConfigError> {
        for (field, value) in [("vocabulary", config.vocabulary), ("context", config.context)] {
            if value == 0 {
                return Err(ConfigError::Zero { field });
            }
        }
        let blocks = config.blocks();
        blocks.check()?;
        let mut declarations = Declarations::default();
        let mut builder = Builder::new(&blocks, &mut declarations);
        let positions = builder.plain("positions", &[config.context, config.width]);
        let layers = (0..config.depth).map(|index| Block::new(&mut builder, index)).collect();
        let norm = builder.norm("norm", config.width);
        let projection = config.space.map(|space| builder.linear("projection", config.width, space, config.space_bias));
        Ok(TextTower { config, declarations, positions, blocks: layers, norm, projection })
    }

    /// The configuration.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Names and shapes of its parameters.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// Names and shapes of its parameters, and of the table of token embeddings, [`TextTower::TABLE`].
    pub fn specs(&self) -> Vec<ParameterSpec> {
        let mut with_table = Declarations::default();
        let shape = [self.config.vocabulary, self.config.width];
        with_table.declare(Self::TABLE.to_owned(), &shape, ParameterKind::Plain);
        with_table.specs().iter().chain(self.declarations.specs()).cloned().collect()
    }

    /// The name of the table of token embeddings, `[vocabulary, width]`.
    pub const TABLE: &'static str = "table";

    /// Vectors `[texts, width]` of texts that have the same number of tokens. `embedded` are the rows of the table for the
    /// tokens of all texts, `[texts, tokens, width]`.
    ///
    /// # Errors
    /// If there are more tokens than the tower takes.
    ///
    /// # Panics
    /// If `embedded` is not of these tokens.
    pub fn forward(&self, cx: &Context<'_>, tokens: &[Vec<u32>], embedded: &Tensor) -> Result<Tensor, ModelError> {
        let (count, width, context) = (tokens.len(), self.config.width, self.config.context);
        let length = tokens.first().map_or(0, Vec::len);
        if length == 0 || length > context {
            return Err(ModelError::Text { context, length });
        }
        assert!(tokens.iter().all(|text| text.len() == length), "texts of one length");
        assert_eq!(embedded.shape()[..], [count, length, width], "embedded tokens");
        let positions = cx.parameter(self.positions).reshape([1, context, width]);
        let mut x = cx.add_positions(embedded, &cx.tokens(&positions, 0, length).reshape([length, width]));
        let earlier = self.config.causal.then(|| self.earlier(cx, length));
        for block in &self.blocks {
            x = block.forward(cx, &x, BlockContext { score_bias: earlier.as_ref(), ..BlockContext::default() });
        }
        let places = tokens.iter().map(|text| self.place(text)).collect();
        let pooled = cx.norm(&cx.keep_tokens(&x, places, 1).reshape([count, width]), &self.norm);
        Ok(self.projection.map_or_else(|| pooled.clone(), |projection| cx.linear(&pooled, projection)))
    }

    /// The token that stands for a text.
    fn place(&self, text: &[u32]) -> usize {
        let last = text.len() - 1;
        match self.config.pooling {
            // Without an end, transformers takes the first token.
            TextPooling::First { end } => text.iter().position(|&token| token == end).unwrap_or(0),
            TextPooling::Largest => {
                let largest = text.iter().max();
                text.iter().position(|token| Some(token) == largest).unwrap_or(last)
            }
            TextPooling::Last => last,
        }
    }

    /// Added to the attention scores, `[heads, tokens, tokens]`: 0 for keys up to the query, −∞ for later ones.
    fn earlier(&self, cx: &Context<'_>, length: usize) -> Tensor {
        let of_query = |query: usize| (0..length).map(move |key| if key > query { f32::NEG_INFINITY } else { 0.0 });
        let values: Vec<f32> = (0..self.config.heads).flat_map(|_| (0..length).flat_map(of_query)).collect();
        cx.device().constant([self.config.heads, length, length], &values)
    }
}
