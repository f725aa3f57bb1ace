//! Losses: means over the batch of a scalar per sample. They stay on the device.

use crate::device::Device;
use crate::device::backend::{LossCall, LossKind};
use crate::device::error::DeviceError;
use crate::tape::Context;
use crate::tensor::Tensor;

/// A loss of logits against classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClassLoss {
    /// Softmax cross-entropy: [`Context::cross_entropy`].
    CrossEntropy,
    /// Binary cross-entropy: [`Context::binary_cross_entropy`].
    Binary,
    /// The focal loss (arXiv:1708.02002) of the softmax p: the mean over samples of `−Σ target · (1 − p)^gamma · log p`.
    Focal {
        /// The exponent, at least 0.
        gamma: f32,
    },
    /// The focal loss of the sigmoid p, the mean over all values of
    /// `−(target · (1 − p)^gamma · log p + (1 − target) · p^gamma · log(1 − p))`.
    BinaryFocal {
        /// The exponent, at least 0.
        gamma: f32,
    },
}

impl Context<'_> {
    /// A loss of `logits`, `[batch, classes]`, against targets of the same shape, as a tensor of one number, with a weight for
    /// each class, `[classes]`: the term of its target, `target · …` above, is multiplied by it. Binary losses have
    /// another term for what a target lacks of 1, which has no weight (PyTorch's `pos_weight`). The mean is that without
    /// weights: it is divided by the samples, or values, not by their weights, as PyTorch does for targets that are
    /// distributions.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn class_loss(&self, loss: ClassLoss, logits: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Tensor {
        let kind = match loss {
            ClassLoss::CrossEntropy => LossKind::CrossEntropy,
            ClassLoss::Binary => LossKind::BinaryCrossEntropy,
            ClassLoss::Focal { gamma } => LossKind::Focal { gamma },
            ClassLoss::BinaryFocal { gamma } => LossKind::BinaryFocal { gamma },
        };
        if let Some(weights) = weights {
            let classes = logits.shape().last();
            assert_eq!(weights.shape().count(), classes, "a weight for each class of {:?}", logits.shape());
        }
        self.loss(kind, logits, targets, weights)
    }

    /// Cross-entropy of `logits`, `[batch, classes]`, against target distributions of the same shape, as a tensor of
    /// one number: `mean over samples of −Σ target · log softmax(logits)`.
    ///
    /// Hard labels and label smoothing are distributions too: see [`Device::one_hot`].
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn cross_entropy(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        self.loss(LossKind::CrossEntropy, logits, targets, None)
    }

    /// Binary cross-entropy of `logits` against targets in 0…1 of the same shape, the mean over all values.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn binary_cross_entropy(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        self.loss(LossKind::BinaryCrossEntropy, logits, targets, None)
    }

    /// Squared error of `outputs` against numbers of the same shape, the mean over all values (PyTorch's `mse_loss`).
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn squared_error(&self, outputs: &Tensor, targets: &Tensor) -> Tensor {
        self.loss(LossKind::SquaredError, outputs, targets, None)
    }

    /// Kullback–Leibler divergence of the student's softmax from the teacher's, both at a temperature, a mean over the
    /// batch: `Σ p (log p − log q)` with `p` the teacher's. No gradient goes to the teacher.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn kl_divergence(&self, student: &Tensor, teacher: &Tensor, temperature: f32) -> Tensor {
        self.loss(LossKind::KlDivergence { temperature }, student, teacher, None)
    }

    fn loss(&self, kind: LossKind, logits: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Tensor {
        assert_eq!(logits.shape(), targets.shape(), "targets for {:?}", logits.shape());
        let call = LossCall { kind, logits: logits.clone(), targets: targets.clone(), weights: weights.cloned() };
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

    const FOCAL: [ClassLoss; 4] = [
        ClassLoss::Focal { gamma: 2.0 },
        ClassLoss::Focal { gamma: 0.5 },
        ClassLoss::BinaryFocal { gamma: 2.0 },
        ClassLoss::BinaryFocal { gamma: 0.5 },
    ];

    #[test]
    fn losses_with_weights_and_focal_losses_equal_pytorch() {
        let check = Check::new();
        let cases = [("weighted_cross_entropy", ClassLoss::CrossEntropy), ("weighted_bce", ClassLoss::Binary)];
        let names = ["focal_2", "focal_half", "binary_focal_2", "binary_focal_half"];
        for (name, loss) in cases.into_iter().chain(names.into_iter().zip(FOCAL)) {
            let golden = Golden::load(name);
            let inputs = ["x", "targets", "weight"].map(|input| golden.tensor(input));
            check.against(&golden, &inputs, &["x"], |cx, x| cx.class_loss(loss, &x[0], &x[1], Some(&x[2])));
        }
        let golden = Golden::load("weighted_cross_entropy_hard");
        let targets = Device::cpu(1).one_hot(&golden.integers("labels"), 7, 0.0).expect("memory");
        let inputs = [golden.tensor("x"), targets, golden.tensor("weight")];
        let weighted = ClassLoss::CrossEntropy;
        check.against(&golden, &inputs, &["x"], |cx, x| cx.class_loss(weighted, &x[0], &x[1], Some(&x[2])));
        let golden = Golden::load("torchvision_focal");
        let inputs = ["x", "targets"].map(|input| golden.tensor(input));
        check.against(&golden, &inputs, &["x"], |cx, x| cx.class_loss(FOCAL[2], &x[0], &x[1], None));
    }

    #[test]
    fn a_focal_loss_of_sure_answers_is_finite_and_that_of_exponent_0_is_cross_entropy() {
        let check = Check::new();
        let x = check.tensor(&[3, 2], &[100.0, -100.0, 30.0, -70.0, 0.5, 0.25]);
        let inputs = [x, check.tensor(&[3, 2], &[1.0, 0.0, 0.9, 0.1, 0.0, 1.0])];
        for loss in FOCAL {
            check.against_reference(&inputs, |cx, x| cx.class_loss(loss, &x[0], &x[1], None));
            let found = check.run(&inputs, |cx, x| cx.class_loss(loss, &x[0], &x[1], None));
            assert!(found.values()[0].is_finite(), "{loss:?}");
        }
        for (focal, plain) in [
            (ClassLoss::Focal { gamma: 0.0 }, ClassLoss::CrossEntropy),
            (ClassLoss::BinaryFocal { gamma: 0.0 }, ClassLoss::Binary),
        ] {
            let [found, expected] = [focal, plain]
                .map(|loss| check.run(&inputs, |cx, x| cx.class_loss(loss, &x[0], &x[1], None)).values()[0]);
            assert!((found - expected).abs() < 1e-6 * expected, "{found}, expected {expected}");
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
        let weights = check.tensor(&[4], &[0.5, 2.0, 1.0, 3.5]);
        let weighted = [&inputs[..], &[weights]].concat();
        for loss in [ClassLoss::CrossEntropy, ClassLoss::Binary].into_iter().chain(FOCAL) {
            check.differences(&weighted, |cx, x| cx.class_loss(loss, &x[0], &x[1], Some(&x[2])));
        }
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
