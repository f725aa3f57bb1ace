//! Attention.

use std::sync::{Arc, OnceLock};

use super::elements::Draw;
use crate::tensor::Tensor;

/// Self-attention of packed queries, keys and values, and attention by one learned query.
pub(crate) trait AttentionOps {
    /// The output `[batch, queries, heads · width]`, and the weights `[batch, heads, queries, tokens]` if they are
    /// wanted.
    fn attention(&self, call: &AttentionCall, capture: bool) -> (Tensor, Option<Tensor>);
    /// Gradients of `qkv` and of the bias if there is one.
    fn attention_backward(&self, call: &AttentionCall, grad: &Tensor, bias: bool) -> (Tensor, Option<Tensor>);
    /// From the output's gradient: that of the weights, and that of `qkv` as far as the values go.
    fn attention_output_backward(&self, call: &AttentionCall, weights: &Tensor, grad: &Tensor) -> (Tensor, Tensor);
    /// From the weights' gradient: that of `qkv` as far as queries and keys go, and that of the bias.
    fn attention_weights_backward(
        &self,
        call: &AttentionCall,
        weights: &Tensor,
        grad: &Tensor,
        bias: bool,
    ) -> (Tensor, Option<Tensor>);
    /// Attention of one query `[width]` to `[batch, tokens, 2 · width]`, keys first: `[batch, width]` and the weights.
    fn probe_attention(&self, query: &Tensor, keys_values: &Tensor, heads: usize, scale: f32) -> (Tensor, Tensor);
    /// Gradients of the query and of keys and values.
    fn probe_attention_backward(
        &self,
        query: &Tensor,
        keys_values: &Tensor,
        weights: &Tensor,
        grad: &Tensor,
        heads: usize,
        scale: f32,
    ) -> (Tensor, Tensor);
}

/// Shapes and operands of one attention, owned so that backward can keep them.
#[derive(Clone)]
pub(crate) struct AttentionCall {
    /// `[batch, tokens, 3 · heads · width]`.
    pub(crate) qkv: Tensor,
    /// `[batch, tokens]`, added to the scores of each key.
    pub(crate) key_mask: Option<Tensor>,
    /// `[heads, tokens, tokens]`, added to the scores.
    pub(crate) bias: Option<Tensor>,
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    /// Tokens that ask, from the first on.
    pub(crate) queries: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) scale: f32,
    /// Which weights are dropped, and at which rate. Element `(image, head, query, key)` of `[batch, heads, tokens,
    /// tokens]`.
    pub(crate) dropout: Option<(Draw, f32)>,
    /// Where the pass is recorded: room for what a device keeps for the backward pass.
    pub(crate) kept: Option<Arc<OnceLock<[Tensor; 2]>>>,
}

impl AttentionCall {
    /// The distance of two tokens of `qkv`.
    pub(crate) fn stride(&self) -> usize {
        3 * self.heads * self.width
    }

    /// Where queries (0), keys (1) or values (2) of one head begin.
    pub(crate) fn start(&self, image: usize, head: usize, which: usize) -> usize {
        image * self.tokens * self.stride() + (which * self.heads + head) * self.width
    }

    /// Scores of one head.
    pub(crate) fn area(&self) -> usize {
        self.queries * self.tokens
    }

    /// The place of the first weight of a query among all draws.
    pub(crate) fn first_draw(&self, draw: Draw, image: usize, head: usize, query: usize) -> usize {
        (((draw.first_image + image) * self.heads + head) * self.tokens + query) * self.tokens
    }
}
