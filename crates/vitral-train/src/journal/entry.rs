//! A line of the journal.

use serde::{Deserialize, Serialize};

/// Results of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of completed epochs.
    pub epoch: u64,
    /// Number of completed steps.
    pub step: u64,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Mean training loss.
    pub train_loss: f64,
    /// Fraction of training images, as augmented, that were classified correctly; absent where labels are numbers, and without
    /// labels.
    #[serde(default)]
    pub train_accuracy: Option<f64>,
    /// Mean loss on the validation images that select the best epoch, if they were evaluated. Older journals call it
    /// `test_loss`.
    #[serde(alias = "test_loss")]
    pub validation_loss: Option<f64>,
    /// Fraction of these images that were classified correctly, if they were evaluated, or the measure that takes its place:
    /// balanced accuracy if the recipe chooses the best epoch by it, the mean average precision where images have several
    /// labels, R² where labels are numbers.
    #[serde(alias = "test_accuracy")]
    pub validation_accuracy: Option<f64>,
    /// Mean norm of the gradients.
    pub gradient_norm: f64,
    /// Training images per second; for an interrupted epoch, in the process that completed it.
    pub images_per_second: f64,
    /// Seconds since the run began, summed over all its processes.
    pub seconds: f64,
}
