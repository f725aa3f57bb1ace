//! Single-label and multi-label data.

/// Number of classes per image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labeling {
    /// One class.
    One,
    /// Any number; such data needs a binary loss.
    Several,
}
