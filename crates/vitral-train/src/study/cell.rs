//! The result of one run of a study.

use std::path::PathBuf;

use serde::Serialize;

/// One model trained on one fraction of the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The recipe's name.
    pub model: String,
    /// Number of parameters of the model.
    pub parameters: usize,
    /// Fraction of every class that was trained on.
    pub fraction: f64,
    /// Number of images that were trained on.
    pub images: usize,
    /// Number of epochs.
    pub epochs: u64,
    /// Fraction of test images that the best model classified correctly; without a validation split, these also
    /// selected it.
    pub accuracy: f64,
    /// Its epoch.
    pub best_epoch: u64,
    /// Duration of the run in seconds.
    pub seconds: f64,
    /// The run's folder.
    pub folder: PathBuf,
}
