//! Losses and counts.

use crate::tensor::Tensor;

/// Losses, as tensors of one value that stay on the device, and counts of correct answers.
pub(crate) trait Losses {
    /// The loss, a mean over the batch.
    fn loss(&self, loss: &LossCall) -> Tensor;
    /// The gradient of the logits.
    fn loss_backward(&self, loss: &LossCall, grad: &Tensor) -> Tensor;
    /// Distributions with all mass on the greatest number of each row, the first of equals.
    fn one_hot_argmax(&self, logits: &Tensor) -> Tensor;
    /// How many rows have their greatest number at their label, as a tensor of one number.
    fn count_correct(&self, logits: &Tensor, labels: &Tensor) -> Tensor;
}

/// A loss of `logits`, `[batch, classes]`, against a tensor of the same shape.
#[derive(Clone)]
pub(crate) struct LossCall {
    pub(crate) kind: LossKind,
    pub(crate) logits: Tensor,
    pub(crate) targets: Tensor,
    /// What the term of each class's target is multiplied by, `[classes]`; absent is 1. Of the binary forms, only the
    /// term of what a target has of 1. The squared error and the divergence have no such terms, and no weights.
    pub(crate) weights: Option<Tensor>,
}

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LossKind {
    /// `mean over samples of −Σ target · log softmax(logits)`.
    CrossEntropy,
    /// A mean over all values of `−(target · log σ(logit) + (1 − target) · log(1 − σ(logit)))`.
    BinaryCrossEntropy,
    /// `mean of (logit − target)²` over all values.
    SquaredError,
    /// Of the student's softmax from the teacher's, both at a temperature: targets are the teacher's logits.
    KlDivergence { temperature: f32 },
    /// `mean over samples of −Σ target · (1 − p)^gamma · log p`, with p of the softmax.
    Focal { gamma: f32 },
    /// A mean over all values of `−(target · (1 − p)^gamma · log p + (1 − target) · p^gamma · log(1 − p))`, with p of the
    /// sigmoid.
    BinaryFocal { gamma: f32 },
}
