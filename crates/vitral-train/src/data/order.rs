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
    shuffle(&mut order, &mut Draws::new(seed, epoch, u64::MAX));
    order
}

pub(super) fn shuffle(order: &mut [usize], draws: &mut Draws) {
    for last in (1..order.len()).rev() {
        order.swap(last, draws.below(last + 1));
    }
}
