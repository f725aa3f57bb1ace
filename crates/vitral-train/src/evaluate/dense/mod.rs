//! How good a model's patch tokens are: a linear classifier of single patches, fitted on images with masks, and the mean
//! intersection over union of what it says about others.

mod confusion;
mod drawn;
mod files;
mod head;
mod pairs;
mod patches;
mod probe;

pub use confusion::{ClassOverlap, Overlap};
pub use probe::{DenseOptions, DenseReport, probe_dense};
