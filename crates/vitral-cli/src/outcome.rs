//! How a command ends.

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is done.
    Done,
    /// Some inputs were skipped, and standard error says which.
    Incomplete,
}
