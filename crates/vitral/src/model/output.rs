//! The input and output of a forward pass.

use vitral_engine::Tensor;

/// The input of a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `[batch, channels, height, width]`, already preprocessed.
    pub pixels: &'a Tensor,
    /// `[batch, grid height, grid width]`, 1 for patches that are attended to. No token attends to a patch with 0, in
    /// any block; prefix tokens are never masked.
    pub mask: Option<&'a [u8]>,
}

/// The output of a forward pass.
#[derive(Debug)]
pub struct Output {
    /// `[batch, classes]` (`[batch, tokens, classes]` without pooling); absent without a head. With a distillation
    /// head, the mean of both.
    pub logits: Option<Tensor>,
    /// Logits of the class token's and the distillation token's heads, if the model has both.
    pub both_logits: Option<[Tensor; 2]>,
    /// `[batch, width]`, the input of the head (`[batch, tokens, width]` without pooling).
    pub features: Tensor,
}

impl Output {
    /// Its tensors in a fixed order.
    pub(crate) fn into_tensors(self) -> Vec<Tensor> {
        let both = self.both_logits.into_iter().flatten();
        std::iter::once(self.features).chain(self.logits).chain(both).collect()
    }

    /// The reverse of [`Output::into_tensors`].
    pub(crate) fn from_tensors(tensors: Vec<Tensor>) -> Self {
        let mut tensors = tensors.into_iter();
        let features = tensors.next().expect("a pass gives features");
        let logits = tensors.next();
        let both_logits = tensors.next().zip(tensors.next()).map(|(class, distillation)| [class, distillation]);
        Output { logits, both_logits, features }
    }
}
