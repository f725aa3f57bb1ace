//! Evaluation of a model's predictions ([`evaluate`]), and of its features without further training ([`Neighbors`],
//! [`Ridge`], [`few_shot`]).

mod cholesky;
mod cross;
mod dense;
mod features;
mod few_shot;
mod gather;
mod metrics;
mod model;
mod neighbors;
mod numbers;
mod probe;
mod report;
mod ridge;
mod run;
mod several;

pub use cross::{OutOfSample, out_of_sample};
pub use dense::{ClassOverlap, DenseOptions, DenseReport, Overlap, probe_dense};
pub use features::Features;
pub use few_shot::{FewShot, few_shot};
pub(crate) use gather::each_in_order;
pub use metrics::Metrics;
pub use model::{ModelEvaluation, Watcher, evaluate_model};
pub use neighbors::Neighbors;
pub use numbers::{Errors, NumbersReport};
pub use probe::{Nearest, ProbeLinear, ProbeOptions, ProbeReport, probe};
pub use report::{Cell, ClassReport, Confusion, Mistake, Report, UnknownClass};
pub use ridge::{LinearProbe, Ridge, Scaling};
pub use run::{Evaluation, evaluate, features, mirrored};
pub use several::{SeveralClass, SeveralMetrics, SeveralReport};

/// The fraction of predictions that equal the label.
pub fn accuracy(predicted: &[usize], labels: &[usize]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    right as f64 / labels.len().max(1) as f64
}
