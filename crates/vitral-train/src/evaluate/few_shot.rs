//! The ViT paper's few-shot evaluation.

use std::fmt;

use serde::Serialize;

use super::{Features, Ridge, accuracy};

/// Accuracies of linear classifiers fitted on a few images per class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FewShot {
    /// Images per class.
    pub shots: usize,
    /// One accuracy per seed.
    pub accuracies: Vec<f64>,
}

impl FewShot {
    /// The mean over seeds.
    pub fn mean(&self) -> f64 {
        self.accuracies.iter().sum::<f64>() / self.accuracies.len().max(1) as f64
    }

    /// The standard deviation over seeds.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.accuracies.iter().map(|accuracy| (accuracy - mean).powi(2)).sum();
        (squares / self.accuracies.len().max(1) as f64).sqrt()
    }
}

impl fmt::Display for FewShot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mean, deviation) = (100.0 * self.mean(), 100.0 * self.deviation());
        write!(f, "{:3} shots  {mean:6.2} % ± {deviation:.2} over {} seeds", self.shots, self.accuracies.len())
    }
}

/// Fits a classifier for each number of shots and each seed's selection of images, and measures its accuracy on
/// `unknown`. The paper uses 1, 5, 10 and 25 shots, three seeds and the same penalty for all ([`Ridge::default`]);
/// `ridge` may choose it from the shots.
pub fn few_shot(
    known: &Features,
    unknown: &Features,
    shots: &[usize],
    seeds: &[u64],
    ridge: impl Fn(&Features) -> Ridge,
) -> Vec<FewShot> {
    let one = |shots: usize, seed: u64| {
        let known = known.shots(shots, seed);
        accuracy(&ridge(&known).fit(&known).classify(unknown), unknown.labels())
    };
    let row = |&shots: &usize| FewShot { shots, accuracies: seeds.iter().map(|&seed| one(shots, seed)).collect() };
    shots.iter().map(row).collect()
}
