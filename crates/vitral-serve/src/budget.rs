//! How many bytes of requests are held at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A number of bytes that all requests share.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    limit: usize,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { held: AtomicUsize::new(0), limit })
    }
}

impl Held {
    /// Holds nothing yet.
    pub(crate) fn nothing(budget: &Arc<Budget>) -> Self {
        Held { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Holds this many bytes more, if there is room.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        if self.budget.held.fetch_add(bytes, Relaxed) + bytes > self.budget.limit {
            self.budget.held.fetch_sub(bytes, Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Holds at least this many bytes, if there is room.
    #[must_use]
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    /// Holds at most this many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let kept = self.bytes.min(bytes);
        self.budget.held.fetch_sub(std::mem::replace(&mut self.bytes, kept) - kept, Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}
