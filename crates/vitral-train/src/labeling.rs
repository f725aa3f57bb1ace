//! What the labels of images are.

/// What an image is labeled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labeling {
    /// One class.
    One,
    /// Any number; such data needs a binary loss.
    Several,
    /// A number, in place of classes.
    Number,
}
