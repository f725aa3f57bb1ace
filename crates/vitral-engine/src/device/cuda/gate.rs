//! Who may queue work: everybody, or one thread alone, which records a pass.

use std::cell::Cell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What a thread records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    Nothing,
    /// A pass that can be replayed so far.
    Pass,
    /// A pass that did what cannot be replayed: nothing more of it is queued.
    Unfit,
}

thread_local! {
    static RECORDING: Cell<Now> = const { Cell::new(Now::Nothing) };
    /// How often this thread has entered the gate of a device.
    static ENTERED: Cell<usize> = const { Cell::new(0) };
}

/// Whether this thread records a pass.
pub(super) fn is_recording() -> bool {
    RECORDING.get() != Now::Nothing
}

/// Whether this thread records a pass that was given up: it may hold empty memory, which nothing may touch.
pub(super) fn is_given_up() -> bool {
    RECORDING.get() == Now::Unfit
}

/// Gives up what this thread records.
pub(super) fn give_up() {
    RECORDING.set(Now::Unfit);
}

/// A thread at work on a device.
pub(super) struct Entered<'a> {
    _gate: Option<RwLockReadGuard<'a, ()>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        ENTERED.set(ENTERED.get() - 1);
    }
}

/// Held by all work, and alone by a thread that records: what other threads queued meanwhile would be recorded too.
#[derive(Default)]
pub(super) struct Gate(RwLock<()>);

impl Gate {
    /// Waits while another thread records. A thread that is inside already goes on.
    pub(super) fn enter(&self) -> Entered<'_> {
        let first = ENTERED.replace(ENTERED.get() + 1) == 0;
        let gate = || self.0.read().unwrap_or_else(PoisonError::into_inner);
        Entered { _gate: (first && !is_recording()).then(gate) }
    }

    /// Waits until no other thread is at work, and keeps them out.
    pub(super) fn alone(&self) -> Alone<'_> {
        let gate = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ENTERED.set(ENTERED.get() + 1);
        Alone { _gate: gate }
    }
}

/// Whether this thread is at work on a device.
pub(super) fn is_inside() -> bool {
    ENTERED.get() > 0
}

/// What this thread queues from now on is recorded.
pub(super) fn begin() {
    RECORDING.set(Now::Pass);
}

/// Nothing is recorded any more. Whether what was recorded can be replayed.
pub(super) fn end() -> bool {
    RECORDING.replace(Now::Nothing) == Now::Pass
}

/// The only thread at work on a device.
pub(super) struct Alone<'a> {
    _gate: RwLockWriteGuard<'a, ()>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        RECORDING.set(Now::Nothing);
        ENTERED.set(ENTERED.get() - 1);
    }
}
