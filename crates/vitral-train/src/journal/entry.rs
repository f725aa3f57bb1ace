//! A line of the journal.

use serde::{Deserialize, Serialize};

/// One epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Epochs done.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Mean training loss.
    pub train_loss: f64,
    /// Share of training images that were taken for their label, as augmented.
    pub train_accuracy: f64,
    /// Mean loss on the held-out images that choose the best epoch, where they were judged. Journals of earlier versions
    /// call it `test_loss`.
    #[serde(alias = "test_loss")]
    pub validation_loss: Option<f64>,
    /// Share of these images that were taken for their label, where they were judged.
    #[serde(alias = "test_accuracy")]
    pub validation_accuracy: Option<f64>,
    /// Mean norm of the gradients.
    pub gradient_norm: f64,
    /// Training images a second; of an epoch that was stopped and went on, those of the process that ended it.
    pub images_per_second: f64,
    /// Seconds since the run began, all its parts together.
    pub seconds: f64,
}
