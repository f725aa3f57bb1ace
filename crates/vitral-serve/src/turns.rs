//! One model at a time on a device, in the order in which they ask.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Hands out turns. A plain lock would let a busy model take it again and again before the others.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next to ask.
    next: u64,
    /// The number whose turn it is.
    current: u64,
}

/// A turn; it ends when this is dropped.
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    pub(crate) fn take(&self) -> Turn<'_> {
        let mut state = self.state();
        let mine = state.next;
        state.next += 1;
        while state.current != mine {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().current += 1;
        self.0.changed.notify_all();
    }
}
