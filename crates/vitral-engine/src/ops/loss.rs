//! Losses: means over the batch of a scalar per sample. They stay on the device.

use crate::device::Device;
use crate::device::backend::{LossCall, LossKind};
use crate::device::error::DeviceError;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// Cross-entropy of `logits`, `[batch, classes]`, against target distributions of the same shape, as a tensor of
    /// one number: `mean over samples of −Σ target · log softmax(logits)`.
    ///
    /// Hard labels and label smoothing are distributions too: see [`Device::one_hot`].
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn cross_entropy(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        self.loss(LossKind::CrossEntropy, logits, targets)
    }

    /// Binary cross-entropy of `logits` against targets in 0…1 of the same shape, the mean over all values.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn binary_cross_entropy(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        self.loss(LossKind::BinaryCrossEntropy, logits, targets)
    }

    /// Squared error of `outputs` against numbers of the same shape, the mean over all values (PyTorch's `mse_loss`).
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn squared_error(&self, outputs: &Tensor, targets: &Tensor) -> Tensor {
        self.loss(LossKind::SquaredError, outputs, targets)
    }

    /// Kullback–Leibler divergence of the student's softmax from the teacher's, both at a temperature, a mean over the
    /// batch: `Σ p (log p − log q)` with `p` the teacher's. No gradient goes to the teacher.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn kl_divergence(&self, student: &Tensor, teacher: &Tensor, temperature: f32) -> Tensor {
        self.loss(LossKind::KlDivergence { temperature }, student, teacher)
    }

    fn loss(&self, kind: LossKind, logits: &Tensor, targets: &Tensor) -> Tensor {
        assert_eq!(logits.shape(), targets.shape(), "targets for {:?}", logits.shape());
        let call = LossCall { kind, logits: logits.clone(), targets: targets.clone() };
        self.record(self.backend().loss(&call), logits.node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(call.logits.node, |g| g.backend().loss_backward(&call, grad));
            })
        })
    }

    /// Distributions of the same shape as `logits`, `[batch, classes]`, with all mass on the greatest of each row, the
    /// first of equals. Has no gradient.
    pub fn one_hot_argmax(&self, logits: &Tensor) -> Tensor {
        self.backend().one_hot_argmax(logits)
    }

    /// How many rows of `logits`, `[batch, classes]`, have their greatest number at their label, as a tensor of one
    /// number; `labels` is `[batch]`.
    ///
    /// # Panics
    /// If there is not one label for each row.
    pub fn count_correct(&self, logits: &Tensor, labels: &Tensor) -> Tensor {
        assert_eq!(logits.rows(), labels.shape().count(), "a label for each row of {:?}", logits.shape());
        self.backend().count_correct(logits, labels)
    }
}

impl Device {
    /// Distributions for hard labels, `[labels, classes]`: all mass on the label, of which `smoothing` is spread evenly
    /// over all classes (arXiv:1512.00567).
    ///
    /// # Errors
    /// If the device has no memory for them.
    ///
    /// # Panics
    /// If a label is not below `classes`.
    pub fn one_hot(&self, labels: &[usize], classes: usize, smoothing: f32) -> Result<Tensor, DeviceError> {
        let mut rows = vec![smoothing / classes as f32; labels.len() * classes];
        for (row, &label) in rows.chunks_exact_mut(classes).zip(labels) {
            row[label] += 1.0 - smoothing;
        }
        self.upload([labels.len(), classes], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equal_pytorch() {
        let check = Check::new();
        for (name, smoothed) in [("cross_entropy", false), ("cross_entropy_smoothed", true)] {
            let golden = Golden::load(name);
            let smoothing = if smoothed { golden.scalar("smoothing") } else { 0.0 };
            let targets = Device::cpu(1).one_hot(&golden.integers("labels"), 7, smoothing).expect("memory");
            check.against(&golden, &[golden.tensor("x"), targets], &["x"], |cx, x| cx.cross_entropy(&x[0], &x[1]));
        }
        let golden = Golden::load("cross_entropy_soft");
        let targets = golden.tensor("targets");
        check.against(&golden, &[golden.tensor("x"), targets], &["x"], |cx, x| cx.cross_entropy(&x[0], &x[1]));
        let golden = Golden::load("bce_with_logits");
        let targets = golden.tensor("targets");
        let inputs = [golden.tensor("x"), targets];
        check.against(&golden, &inputs, &["x"], |cx, x| cx.binary_cross_entropy(&x[0], &x[1]));
        for name in ["kl_div", "kl_div_1"] {
            let golden = Golden::load(name);
            let (teacher, temperature) = (golden.tensor("teacher"), golden.scalar("temperature"));
            check.against(&golden, &[golden.tensor("student"), teacher], &["student"], |cx, x| {
                cx.kl_divergence(&x[0], &x[1], temperature)
            });
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        let x = check.input(&[3, 4]);
        let targets = check.tensor(&[3, 4], &[0.1, 0.2, 0.3, 0.4, 1.0, 0.0, 0.0, 0.0, 0.5, 0.2, 0.0, 0.0]);
        let inputs = [x, targets];
        check.differences(&inputs, |cx, x| cx.cross_entropy(&x[0], &x[1]));
        check.differences(&inputs, |cx, x| cx.binary_cross_entropy(&x[0], &x[1]));
        check.differences(&inputs, |cx, x| cx.kl_divergence(&x[0], &x[1], 2.0));
        check.differences(&inputs, |cx, x| cx.squared_error(&x[0], &x[1]));
        let pair = [check.tensor(&[1, 2], &[1.0, -2.0]), check.tensor(&[1, 2], &[0.5, 1.0])];
        let found = check.run(&pair, |cx, x| cx.squared_error(&x[0], &x[1]));
        assert_eq!(found.values(), [(0.25 + 9.0) / 2.0]);
    }

    #[test]
    fn the_greatest_of_a_row_is_its_class_and_the_first_of_equals() {
        let check = Check::new();
        let logits = check.tensor(&[4, 3], &[0.0, 2.0, 1.0, 5.0, 5.0, 1.0, -1.0, -2.0, -3.0, 0.0, 0.0, 9.0]);
        let hard = check.run(std::slice::from_ref(&logits), |cx, x| cx.one_hot_argmax(&x[0]));
        assert_eq!(hard.values(), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        let labels = check.tensor(&[4], &[1.0, 1.0, 0.0, 2.0]);
        let correct = check.run(&[logits, labels], |cx, x| cx.count_correct(&x[0], &x[1]));
        assert_eq!(correct.values(), [3.0]);
    }
}
