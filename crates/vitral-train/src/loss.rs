//! Loss functions.

use serde::{Deserialize, Serialize};
use vitral::model::Output;
use vitral_engine::ops::ClassLoss;
use vitral_engine::{Context, Tensor};

/// How logits are compared with targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// Softmax cross-entropy.
    #[default]
    CrossEntropy,
    /// A binary cross-entropy per class (DeiT III, ResNet strikes back), for classes that are not exclusive.
    Binary,
    /// Squared error, for labels that are numbers.
    Squared,
    /// Softmax cross-entropy in which images that are already classified well count less: the term of a class of
    /// probability p is multiplied by `(1 − p)^gamma` (arXiv:1708.02002). For images with several labels, as `binary-focal`.
    Focal {
        /// The exponent.
        #[serde(default = "two")]
        gamma: f32,
    },
    /// The same of a binary cross-entropy per class, in which a class that does not apply is multiplied by `p^gamma`.
    BinaryFocal {
        /// The exponent.
        #[serde(default = "two")]
        gamma: f32,
    },
}

fn two() -> f32 {
    2.0
}

/// How a teacher enters the loss (DeiT, arXiv:2012.12877).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Distillation {
    /// KL divergence from the teacher's softmax at a temperature.
    Soft {
        /// The teacher's weight in the loss.
        share: f32,
        /// Temperature of both softmaxes.
        temperature: f32,
    },
    /// Cross-entropy against the teacher's most likely class.
    Hard {
        /// The teacher's weight in the loss.
        share: f32,
    },
}

impl Loss {
    /// The loss of logits `[batch, classes]` against target distributions of the same shape, as a scalar. With weights,
    /// `[classes]`, the term of a target is multiplied by that of its class, and the mean is still over the images, so
    /// that it does not depend on how a batch is cut. Squared errors have no weights.
    pub fn of(self, cx: &Context<'_>, logits: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Tensor {
        let loss = match self {
            Loss::CrossEntropy => ClassLoss::CrossEntropy,
            Loss::Binary => ClassLoss::Binary,
            Loss::Focal { gamma } => ClassLoss::Focal { gamma },
            Loss::BinaryFocal { gamma } => ClassLoss::BinaryFocal { gamma },
            Loss::Squared => return cx.squared_error(logits, targets),
        };
        cx.class_loss(loss, logits, targets, weights)
    }

    /// The loss of a model's output. With two heads and no teacher, both are trained on the targets, with half the
    /// weight each; with a teacher, the distillation head (or the only head) is trained on the teacher's, without the
    /// weights of classes.
    pub fn of_output(
        self,
        cx: &Context<'_>,
        output: &Output,
        targets: &Tensor,
        weights: Option<&Tensor>,
        teacher: Option<(&Tensor, Distillation)>,
    ) -> Tensor {
        let logits = output.logits.as_ref().expect("a model that is trained has a head");
        let (class, distilled) = match &output.both_logits {
            Some([class, distilled]) => (class, distilled),
            None => (logits, logits),
        };
        let base = self.of(cx, class, targets, weights);
        let (share, other) = match teacher {
            None if output.both_logits.is_none() => return base,
            None => (0.5, self.of(cx, distilled, targets, weights)),
            Some((teacher, Distillation::Soft { share, temperature })) => {
                let divergence = cx.kl_divergence(distilled, teacher, temperature);
                // Gradients of a softened softmax shrink with the square of its temperature.
                (share, cx.scale(&divergence, temperature * temperature))
            }
            Some((teacher, Distillation::Hard { share })) => {
                (share, cx.cross_entropy(distilled, &cx.one_hot_argmax(teacher)))
            }
        };
        cx.add(&cx.scale(&base, 1.0 - share), &cx.scale(&other, share))
    }
}

/// The class with the largest value; the first if several are equal.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (class, &value) in row.iter().enumerate() {
        if value > row[best] {
            best = class;
        }
    }
    best
}
