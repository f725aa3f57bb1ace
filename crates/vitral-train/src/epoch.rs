//! Statistics of an epoch: sums over its steps, and the validation score after it.

use serde::{Deserialize, Serialize};

use crate::journal::Entry;
use crate::step::StepReport;

/// A model's score on the validation images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean loss.
    pub loss: f64,
    /// Fraction classified correctly, or its mean over the classes; the mean average precision where images have several
    /// labels, R² where labels are numbers.
    pub accuracy: f64,
}

impl Score {
    /// Whether this score is better: more images classified correctly or, if as many, a lower loss. With few
    /// validation images equal accuracies are the rule, and the first epoch is then seldom the best.
    pub fn is_better_than(&self, other: &Score) -> bool {
        self.accuracy > other.accuracy || (self.accuracy == other.accuracy && self.loss < other.loss)
    }

    /// The score with numbers that are not finite replaced by the worst finite ones: a checkpoint can hold those, and any
    /// other score is better.
    #[must_use]
    pub(crate) fn in_range(self) -> Score {
        let worst = |value: f64, worst: f64| if value.is_finite() { value } else { worst };
        Score { loss: worst(self.loss, f64::MAX), accuracy: worst(self.accuracy, f64::MIN) }
    }
}

/// Sums over an epoch's steps so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochStats {
    steps: u64,
    loss: f64,
    norm: f64,
    correct: usize,
    seen: usize,
    learning_rate: f32,
}

impl EpochStats {
    /// Number of images so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Adds a step.
    pub(crate) fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        self.loss += f64::from(report.loss);
        self.norm += report.gradient_norm;
        self.correct += report.correct;
        self.seen += report.seen;
        self.learning_rate = report.learning_rate;
    }

    /// The epoch's line in the journal; `counts` is whether correct answers were counted.
    pub(crate) fn entry(
        &self,
        epoch: u64,
        step: u64,
        counts: bool,
        score: Option<Score>,
        images_per_second: f64,
        seconds: f64,
    ) -> Entry {
        let steps = self.steps.max(1) as f64;
        Entry {
            epoch,
            step,
            learning_rate: self.learning_rate,
            train_loss: self.loss / steps,
            train_accuracy: counts.then(|| self.correct as f64 / self.seen.max(1) as f64),
            validation_loss: score.map(|score| score.loss),
            validation_accuracy: score.map(|score| score.accuracy),
            gradient_norm: self.norm / steps,
            images_per_second,
            seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_accuracies_are_decided_by_the_loss() {
        let score = |accuracy, loss| Score { accuracy, loss };
        assert!(score(0.9, 2.0).is_better_than(&score(0.8, 1.0)));
        assert!(score(0.9, 1.0).is_better_than(&score(0.9, 2.0)));
        assert!(!score(0.9, 2.0).is_better_than(&score(0.9, 2.0)));
        assert!(!score(0.9, f64::NAN).is_better_than(&score(0.9, 2.0)));
        let lost = score(f64::NAN, f64::INFINITY).in_range();
        assert!(score(-1e300, 1e300).is_better_than(&lost) && !lost.is_better_than(&lost));
        let text = serde_json::to_string(&lost).expect("plain data");
        assert_eq!(serde_json::from_str::<Score>(&text).expect("what was written"), lost);
    }
}
