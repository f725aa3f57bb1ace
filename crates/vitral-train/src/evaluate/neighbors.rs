//! k nearest neighbors.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vitral::numbers::largest;

use super::Features;

/// Classifies by the nearest known features, by cosine similarity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbors {
    /// Number of neighbors that vote.
    pub k: usize,
    /// If set, votes are weighted by `exp(cosine / temperature)` (DINO: 0.07); otherwise all count the same.
    #[serde(default)]
    pub temperature: Option<f64>,
}

impl Neighbors {
    /// The class of each of `unknown`. Ties go to the class with the nearest neighbor.
    ///
    /// # Panics
    /// If the two have different widths, or `known` is empty.
    pub fn classify(&self, known: &Features, unknown: &Features) -> Vec<usize> {
        assert_eq!(known.width(), unknown.width(), "features of the same width");
        assert!(!known.is_empty() && self.k > 0, "at least one neighbor");
        let lengths: Vec<f64> = (0..known.len()).map(|index| length(known.row(index))).collect();
        (0..unknown.len()).into_par_iter().map(|index| self.vote(known, &lengths, unknown.row(index))).collect()
    }

    fn vote(&self, known: &Features, lengths: &[f64], row: &[f32]) -> usize {
        let own = length(row);
        let cosine = |index: usize| dot(known.row(index), row) / (lengths[index] * own).max(1e-24);
        let mut near: Vec<(f64, usize)> = (0..known.len()).map(|index| (cosine(index), index)).collect();
        let closer = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if self.k < near.len() {
            near.select_nth_unstable_by(self.k - 1, closer);
            near.truncate(self.k);
        }
        near.sort_by(closer);
        let mut votes = vec![0.0; known.classes()];
        for &(cosine, index) in &near {
            // Divided by the weight of the nearest, which keeps the order and keeps small temperatures finite.
            votes[known.labels()[index]] += self.temperature.map_or(1.0, |t| ((cosine - near[0].0) / t).exp());
        }
        let most = largest(votes.iter().copied());
        near.iter().map(|&(_, index)| known.labels()[index]).find(|&class| votes[class] == most).unwrap_or(0)
    }
}

fn length(row: &[f32]) -> f64 {
    dot(row, row).sqrt()
}

/// A dot product in eight partial sums, which is fast and deterministic.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (wide_a, rest_a) = a.as_chunks::<8>();
    let (wide_b, rest_b) = b.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for (a, b) in wide_a.iter().zip(wide_b) {
        for lane in 0..8 {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}
