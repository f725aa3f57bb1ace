//! What one run of a study came to.

use std::path::PathBuf;

use serde::Serialize;

/// One model trained on one share of the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The recipe's name.
    pub model: String,
    /// Numbers that the model has.
    pub parameters: usize,
    /// The share of every class that was learned from.
    pub fraction: f64,
    /// Images that were learned from.
    pub images: usize,
    /// Epochs of the run.
    pub epochs: u64,
    /// The share of test images that the best model took for their label; without a validation split, those are what chose it.
    pub accuracy: f64,
    /// Its epoch.
    pub best_epoch: u64,
    /// Seconds that the run took.
    pub seconds: f64,
    /// The run's folder.
    pub folder: PathBuf,
}
