//! Tokens.

use std::sync::Arc;

use crate::shape::Shape;
use crate::tensor::Tensor;

/// Choosing tokens and pooling them; all of `[batch, tokens, width]`.
pub(crate) trait Tokens {
    /// Of every sample the tokens whose indices are in `kept`, `count` for each sample in turn.
    fn gather_tokens(&self, x: &Tensor, kept: &Arc<[usize]>, count: usize) -> Tensor;
    /// The gradient of the same: rows are added back to where they came from.
    fn scatter_tokens(&self, grad: &Tensor, kept: &Arc<[usize]>, shape: Shape) -> Tensor;
    /// Adds one `[tokens, width]` to every sample.
    fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor;
    /// The mean over the tokens from `first` on.
    fn mean_tokens(&self, x: &Tensor, first: usize) -> Tensor;
    /// The gradient of the same, for `tokens` tokens.
    fn mean_tokens_backward(&self, grad: &Tensor, tokens: usize, first: usize) -> Tensor;
    /// The maximum over the tokens from `first` on.
    fn max_tokens(&self, x: &Tensor, first: usize) -> Tensor;
    /// The gradient of the same, shared among equal maxima.
    fn max_tokens_backward(&self, x: &Tensor, top: &Tensor, grad: &Tensor, first: usize) -> Tensor;
}
