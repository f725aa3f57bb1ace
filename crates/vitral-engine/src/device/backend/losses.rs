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
}

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LossKind {
    /// `mean over samples of −Σ target · log softmax(logits)`.
    CrossEntropy,
    /// A mean over all values.
    BinaryCrossEntropy,
    /// `mean of (logit − target)²` over all values.
    SquaredError,
    /// Of the student's softmax from the teacher's, both at a temperature: targets are the teacher's logits.
    KlDivergence { temperature: f32 },
}
