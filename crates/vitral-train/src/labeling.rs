//! How data is labeled.

/// How many classes an image may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labeling {
    /// One.
    One,
    /// Any number; such data asks for a binary loss.
    Several,
}
