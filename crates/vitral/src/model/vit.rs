//! A whole Vision Transformer: images in, logits and features out.

use std::sync::Arc;

use vitral_engine::ops::Norm;
use vitral_engine::{Context, Declarations, ParameterId, Parameters, Replays, Tensor};

use super::attention::BlockContext;
use super::block::Block;
use super::build::Builder;
use super::error::ModelError;
use super::head::{Head, Pooled};
use super::output::{Input, Output};
use super::patches::PatchEmbedding;
use super::relative::Offsets;
use super::resnet_d::is_statistic;
use super::rotary::Turns;
use super::tokens::Tokens;
use crate::config::{ConfigError, ModelConfig, OtherSizes, Positions, RelativePositions, Size, Stem};

/// A Vision Transformer (Dosovitskiy et al., arXiv:2010.11929): which parameters it has and what is computed with them.
///
/// The values of the parameters are kept in [`vitral_engine::Parameters`], so one model can be run with several sets of
/// weights.
pub struct Vit {
    config: ModelConfig,
    declarations: Declarations,
    patches: PatchEmbedding,
    tokens: Tokens,
    /// The table of relative positions that all blocks share.
    shared_table: Option<ParameterId>,
    blocks: Vec<Arc<Block>>,
    norm: Option<Norm>,
    head: Head,
}

impl std::fmt::Debug for Vit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vit").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Vit {
    /// Builds the model that a configuration describes.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(config: ModelConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let mut declarations = Declarations::default();
        let mut builder = Builder::new(&config, &mut declarations);
        let patches = PatchEmbedding::new(&mut builder);
        let tokens = Tokens::new(&mut builder);
        let entries = RelativePositions::entries(config.grid());
        let shared_table =
            config.relative_positions.shared().then(|| builder.plain("relative_positions", &[entries, config.heads]));
        let blocks = (0..config.depth).map(|i| Arc::new(Block::new(&mut builder, i))).collect();
        let norm = config.final_norm.then(|| builder.norm("norm", config.width));
        let head = Head::new(&mut builder);
        Ok(Vit { config, declarations, patches, tokens, shared_table, blocks, norm, head })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether a parameter is a statistic that a norm was given, a running mean or variance: it is used, but gets no gradient
    /// and is never trained.
    pub fn is_statistic(&self, name: &str) -> bool {
        matches!(self.config.stem, Stem::ResNetD(_)) && is_statistic(name)
    }

    /// Names and shapes of its parameters.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// The patch grid of an image of this size.
    ///
    /// # Errors
    /// If the model does not take such images.
    pub fn grid(&self, image: Size) -> Result<Size, ModelError> {
        let stride = self.config.token_stride();
        if let (Stem::ResNet(_), Positions::None) = (&self.config.stem, self.config.positions) {
            // Convolutions alone take images of any size, and round up.
            let size = Size { height: image.height.div_ceil(stride.height), width: image.width.div_ceil(stride.width) };
            return if size.area() > 0 { Ok(size) } else { Err(ModelError::PatchSize { patch: stride, found: image }) };
        }
        let pad = match self.config.other_sizes {
            OtherSizes::Refuse if image != self.config.image_size => {
                return Err(ModelError::ImageSize { expected: self.config.image_size, found: image });
            }
            OtherSizes::Refuse => false,
            OtherSizes::Resample { pad, .. } => pad,
        };
        // A hybrid's stem rounds up by itself, but for means over 2×2 cells.
        let whole = image.height.is_multiple_of(stride.height) && image.width.is_multiple_of(stride.width);
        let pad = pad && !matches!(self.config.stem, Stem::ResNetD(_));
        if !(whole || pad || image == self.config.image_size) || image.height == 0 || image.width == 0 {
            return Err(ModelError::PatchSize { patch: stride, found: image });
        }
        if image == self.config.image_size && !pad {
            return Ok(self.config.grid());
        }
        Ok(Size { height: image.height.div_ceil(stride.height), width: image.width.div_ceil(stride.width) })
    }

    /// Runs the model.
    ///
    /// Intermediate tensors have names: `tokens` (the input of the first block), `blocks.{i}.attention.input` (the
    /// input of queries, keys and values, after the norm of a pre-norm block), `blocks.{i}.attention.weights`,
    /// `blocks.{i}.output` (with the residual, before the final norm), `norm` (all tokens after the final norm),
    /// `features`, `logits`. Parallel pairs have `blocks.{i}.pairs.0.…` and `blocks.{i}.pairs.1.…` instead of
    /// `blocks.{i}.attention.…`.
    ///
    /// If only the class token is read out, the last block is computed for that token alone, unless an observer asks
    /// for the others. The result has the same bits, except for what training drops there.
    ///
    /// # Errors
    /// If the model does not take such an input.
    pub fn forward(&self, cx: &Context<'_>, input: Input<'_>) -> Result<Output, ModelError> {
        let (image, batch) = self.image_size(input.pixels)?;
        let grid = self.grid(image)?;
        let mask = input.mask.map(|mask| self.key_mask(cx, mask, batch, grid)).transpose()?;

        // A device may take the images of a batch side by side. A mask has a row for each image, so the batch stays whole.
        let x = match &mask {
            None => {
                let tokens = grid.area() + self.config.prefix_tokens();
                cx.data_parallel(input.pixels, tokens, |cx, pixels| self.blocks(cx, pixels, grid, None))
            }
            mask => self.blocks(cx, input.pixels, grid, mask.as_ref()),
        };
        Ok(cx.stage("head", || self.read_out(cx, &x)))
    }

    /// Inference, as [`Vit::forward`] without a mask, which a device may record and replay: the bits are the same.
    ///
    /// # Errors
    /// As [`Vit::forward`].
    pub fn forward_replayed(
        &self,
        parameters: &Parameters,
        pixels: &Tensor,
        replays: &Replays,
    ) -> Result<Output, ModelError> {
        let pass = |pixels: &Tensor| {
            let input = Input { pixels, mask: None };
            self.forward(&Context::inference(parameters), input).map(Output::into_tensors)
        };
        parameters.device().replayed(replays, pixels, pass).map(Output::from_tensors)
    }

    /// Pixels to the output tokens of the last block.
    fn blocks(&self, cx: &Context<'_>, pixels: &Tensor, grid: Size, mask: Option<&Tensor>) -> Tensor {
        let patches = cx.stage("patch_embedding", || self.embed(cx, pixels, grid));
        let x = cx.stage("tokens", || self.tokens(cx, &patches, grid));
        cx.name(&x, || "tokens".into());
        self.through_blocks(cx, x, Some(grid), mask, self.tokens_read(cx))
    }

    /// Tokens through all blocks. `grid` is where patches are, if they are where they were in the image; of the last block,
    /// only the first `read` tokens are computed, or all.
    fn through_blocks(
        &self,
        cx: &Context<'_>,
        mut x: Tensor,
        grid: Option<Size>,
        mask: Option<&Tensor>,
        read: Option<usize>,
    ) -> Tensor {
        let rotation = grid.and_then(|grid| Turns::new(&self.config, grid));
        let offsets = grid.and_then(|grid| Offsets::new(&self.config, grid));
        let shared_table = self.shared_table;
        let mut tokens_read = vec![None; self.blocks.len()];
        if let Some(last) = tokens_read.last_mut() {
            *last = read;
        }
        for (block, tokens_read) in self.blocks.iter().zip(tokens_read) {
            let (block, mask) = (Arc::clone(block), mask.cloned());
            let (rotation, offsets) = (rotation.clone(), offsets.clone());
            x = cx.checkpointed(&x, move |cx, x| {
                let (rotation, offsets) = (rotation.as_ref(), offsets.as_ref());
                block.forward(
                    cx,
                    x,
                    BlockContext {
                        key_mask: mask.as_ref(),
                        score_bias: None,
                        rotation,
                        offsets,
                        shared_table,
                        tokens_read,
                    },
                )
            });
        }
        x
    }

    /// Pixels to the embeddings of patches, `[batch, patches, width]`.
    pub(super) fn embed(&self, cx: &Context<'_>, pixels: &Tensor, grid: Size) -> Tensor {
        self.patches.forward(cx, pixels, grid)
    }

    /// Embeddings of patches to the input of the first block, `[batch, tokens, width]`.
    pub(super) fn tokens(&self, cx: &Context<'_>, embeddings: &Tensor, grid: Size) -> Tensor {
        self.tokens.forward(cx, &self.config, embeddings, grid)
    }

    /// Tokens through all blocks and the final norm. Models with positions inside their blocks need the grid, in which all
    /// patches have their places.
    pub(super) fn encode(&self, cx: &Context<'_>, tokens: Tensor, grid: Option<Size>) -> Tensor {
        let x = self.through_blocks(cx, tokens, grid, None, None);
        self.norm.as_ref().map_or_else(|| x.clone(), |norm| cx.norm(&x, norm))
    }

    /// How many of the last block's first tokens are read out, if the others are not needed.
    fn tokens_read(&self, cx: &Context<'_>) -> Option<usize> {
        let seen = || {
            let last = format!("blocks.{}", self.config.depth.saturating_sub(1));
            let inside = ["output", "attention.weights", "pairs.0.attention.weights", "pairs.1.attention.weights"];
            cx.wants("norm") || inside.iter().any(|name| cx.wants(&format!("{last}.{name}")))
        };
        Head::tokens_read(&self.config).filter(|_| !(cx.is_observed() && seen()))
    }

    /// Applies the final norm, the pooling and the head to tokens `[batch, tokens, width]` as any block outputs them:
    /// the logit lens.
    pub fn read_out(&self, cx: &Context<'_>, tokens: &Tensor) -> Output {
        self.head.forward(cx, &self.config, self.pool(cx, tokens))
    }

    /// The final norm and the pooling. The norm is per token, so only the tokens that the pooling uses are normalized,
    /// unless an observer asks for all of them; the pooling gets the same bits either way.
    fn pool(&self, cx: &Context<'_>, x: &Tensor) -> Pooled {
        let normed = |x: &Tensor| self.norm.as_ref().map_or_else(|| x.clone(), |norm| cx.norm(x, norm));
        if cx.wants("norm") {
            let all = normed(x);
            cx.name(&all, || "norm".into());
            return self.head.pool(cx, &self.config, &all, Tensor::clone);
        }
        self.head.pool(cx, &self.config, x, normed)
    }

    pub(super) fn image_size(&self, pixels: &Tensor) -> Result<(Size, usize), ModelError> {
        match pixels.shape()[..] {
            [batch, channels, height, width] if channels == self.config.channels => Ok((Size { height, width }, batch)),
            ref found => Err(ModelError::Pixels { channels: self.config.channels, found: found.to_vec() }),
        }
    }

    /// A patch mask as the bias that is added to the attention scores of all tokens.
    fn key_mask(&self, cx: &Context<'_>, mask: &[u8], batch: usize, grid: Size) -> Result<Tensor, ModelError> {
        if mask.len() != batch * grid.area() {
            return Err(ModelError::Mask { expected: batch * grid.area(), found: mask.len() });
        }
        let prefix = self.config.prefix_tokens();
        let tokens = prefix + grid.area();
        let mut added = vec![0.0; batch * tokens];
        for (added, mask) in added.chunks_exact_mut(tokens).zip(mask.chunks_exact(grid.area())) {
            for (added, &attended) in added[prefix..].iter_mut().zip(mask) {
                *added = if attended == 0 { f32::NEG_INFINITY } else { 0.0 };
            }
        }
        Ok(cx.device().constant([batch, tokens], &added))
    }
}
