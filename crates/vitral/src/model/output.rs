//! What a forward pass takes and gives.

use vitral_engine::Tensor;

/// What a forward pass takes.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `[batch, channels, height, width]`, already preprocessed.
    pub pixels: &'a Tensor,
    /// `[batch, grid height, grid width]`, 1 where a patch is attended. A patch with 0 gets no attention from any token,
    /// in every block; prefix tokens always stay.
    pub mask: Option<&'a [u8]>,
}

/// What a forward pass gives.
pub struct Output {
    /// `[batch, classes]` (`[batch, tokens, classes]` without pooling); absent without a head. With a distillation head:
    /// the mean of both.
    pub logits: Option<Tensor>,
    /// Logits of the class token's and the distillation token's heads, where there are both.
    pub both_logits: Option<[Tensor; 2]>,
    /// `[batch, width]`, what the head sees (`[batch, tokens, width]` without pooling).
    pub features: Tensor,
}
