//! Losses, and counts of correct answers, all in 32 bits.

use super::launch::{Arg, Source, rows};
use super::memory::{Element, Memory};
use super::{Cuda, stored};
use crate::device::backend::{LossCall, LossKind, Losses};
use crate::tensor::Tensor;

/// The number of a loss in the kernels, what logits are multiplied by or the exponent of a focal loss, and whether its mean
/// is over the batch.
fn code(kind: LossKind) -> (usize, f32, bool) {
    match kind {
        LossKind::CrossEntropy => (0, 1.0, true),
        LossKind::BinaryCrossEntropy => (1, 1.0, false),
        LossKind::SquaredError => (2, 1.0, false),
        LossKind::KlDivergence { temperature } => (3, 1.0 / temperature, true),
        LossKind::Focal { gamma } => (4, gamma, true),
        LossKind::BinaryFocal { gamma } => (5, gamma, false),
    }
}

impl Cuda {
    /// A number: a factor times the sum of values.
    fn total(&self, x: &Memory, factor: f32) -> Memory {
        let out = self.allocate(Element::F32, 1);
        let arguments = [Arg::Of(x), Arg::Of(&out), Arg::Count(x.len()), Arg::Float(factor)];
        self.launch(Source::Losses, "total", rows(1), &arguments);
        out
    }
}

impl Losses for Cuda {
    fn loss(&self, loss: &LossCall) -> Tensor {
        let [logits, targets] = [&loss.logits, &loss.targets].map(|x| self.wide(stored(x)));
        let weights = loss.weights.as_ref().map(|weights| self.wide(stored(weights)));
        let classes = loss.logits.shape().last();
        let (kind, number, by_batch) = code(loss.kind);
        let each = self.allocate(Element::F32, logits.len() / classes.max(1));
        let arguments = [
            Arg::Of(&logits),
            Arg::Of(&targets),
            Arg::Maybe(weights.as_ref()),
            Arg::Of(&each),
            Arg::Int(classes),
            Arg::Int(kind),
            Arg::Float(number),
        ];
        self.launch(Source::Losses, "row_losses", rows(each.len()), &arguments);
        let share = 1.0 / if by_batch { each.len() } else { logits.len() } as f32;
        Cuda::tensor([1], self.total(&each, share))
    }

    fn loss_backward(&self, loss: &LossCall, grad: &Tensor) -> Tensor {
        let [logits, targets, grad] = [&loss.logits, &loss.targets, grad].map(|x| self.wide(stored(x)));
        let weights = loss.weights.as_ref().map(|weights| self.wide(stored(weights)));
        let classes = loss.logits.shape().last();
        let (kind, number, by_batch) = code(loss.kind);
        let count = logits.len() / classes.max(1);
        let out = self.allocate(Element::F32, logits.len());
        let share = 1.0 / if by_batch { count } else { logits.len() } as f32;
        let arguments = [
            Arg::Of(&logits),
            Arg::Of(&targets),
            Arg::Maybe(weights.as_ref()),
            Arg::Of(&grad),
            Arg::Of(&out),
            Arg::Int(classes),
            Arg::Int(kind),
            Arg::Float(number),
            Arg::Float(share),
        ];
        self.launch(Source::Losses, "loss_backward", rows(count), &arguments);
        Cuda::tensor(loss.logits.shape(), out)
    }

    fn one_hot_argmax(&self, logits: &Tensor) -> Tensor {
        let (memory, classes) = (self.wide(stored(logits)), logits.shape().last());
        let out = self.allocate(Element::F32, memory.len());
        let arguments = [Arg::Of(&memory), Arg::Of(&out), Arg::Int(classes)];
        self.launch(Source::Losses, "one_hot_argmax", rows(memory.len() / classes.max(1)), &arguments);
        Cuda::tensor(logits.shape(), out)
    }

    fn count_correct(&self, logits: &Tensor, labels: &Tensor) -> Tensor {
        let (memory, labels) = (self.wide(stored(logits)), self.wide(stored(labels)));
        let classes = logits.shape().last();
        let each = self.allocate(Element::F32, memory.len() / classes.max(1));
        let arguments = [Arg::Of(&memory), Arg::Of(&labels), Arg::Of(&each), Arg::Int(classes)];
        self.launch(Source::Losses, "correct", rows(each.len()), &arguments);
        Cuda::tensor([1], self.total(&each, 1.0))
    }
}
