//! How a command ends.

/// How a command ended if it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is done.
    Done,
    /// Some inputs were skipped, and standard error says which.
    Incomplete,
    /// Ended by a signal, with everything saved that is needed to go on.
    Interrupted,
}
