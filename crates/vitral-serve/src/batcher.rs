//! Which of the images that are ready make the next batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::job::Prepared;

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Images in a batch, at most.
    pub(crate) max: usize,
    /// Images that are enough not to wait for more.
    pub(crate) preferred: usize,
    /// How long an image waits for others.
    pub(crate) delay: Duration,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// There is nothing to compute.
    Nothing,
    /// Wait for more images, at most this long.
    Wait(Duration),
    /// Compute the images at these places, in increasing order.
    Run(Vec<usize>),
}

impl Rule {
    /// The oldest image decides what the batch is of: others of the same size and task join it, in their order. `more` is
    /// whether more images can become ready.
    pub(crate) fn choose(&self, ready: &VecDeque<Prepared>, more: bool, now: Instant) -> Choice {
        let Some(oldest) = ready.front() else { return Choice::Nothing };
        let joined = ready.iter().enumerate().skip(1).filter(|(_, other)| oldest.fits(other)).map(|(place, _)| place);
        let places: Vec<usize> = std::iter::once(0).chain(joined).take(self.max).collect();
        // An image that goes alone has nothing to wait for.
        let alone = !oldest.fits(oldest);
        let deadline = oldest.ready_since + self.delay;
        if places.len() >= self.preferred.min(self.max) || alone || !more || deadline <= now {
            return Choice::Run(places);
        }
        Choice::Wait(deadline - now)
    }
}
