//! The order of an epoch.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;

/// The order of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A different order in every epoch, determined by the seed.
    Shuffled,
    /// The order of the data set.
    Listed,
}

/// `0 … count − 1` in the order of an epoch (Fisher–Yates shuffle).
pub fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut draws = Draws::new(seed, epoch, u64::MAX);
    for last in (1..count).rev() {
        order.swap(last, draws.below(last + 1));
    }
    order
}
