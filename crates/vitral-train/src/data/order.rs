//! The order of an epoch.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;

/// In which order images come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Another order every epoch, drawn by the seed.
    Shuffled,
    /// As the data set lists them.
    Listed,
}

/// `0 … count − 1` in the order of an epoch (Fisher and Yates).
pub fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut draws = Draws::new(seed, epoch, u64::MAX);
    for last in (1..count).rev() {
        order.swap(last, draws.below(last + 1));
    }
    order
}
