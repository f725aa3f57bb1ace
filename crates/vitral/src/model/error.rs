//! Inputs that a model does not take.

use crate::config::Size;

/// An input that the model does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The pixels do not have four extents, or another number of channels.
    #[error("the model takes images of {channels} channels as [batch, {channels}, height, width], found {found:?}")]
    Pixels {
        /// Channels that the model has.
        channels: usize,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// Another image size, which this model does not resample its positions to.
    #[error(
        "the model takes images of {expected} pixels, found {found}: resize the images, or convert the model to that size (`convert --image-size`)"
    )]
    ImageSize {
        /// The model's size.
        expected: Size,
        /// The size that was given.
        found: Size,
    },
    /// An image size that does not divide into patches.
    #[error("images of {found} pixels do not divide into patches of {patch}: resize them to a multiple")]
    PatchSize {
        /// Pixels between tokens.
        patch: Size,
        /// The size that was given.
        found: Size,
    },
    /// A mask of another size.
    #[error("the patch mask holds {found} values, expected {expected}: one for each image and patch")]
    Mask {
        /// Values there should be.
        expected: usize,
        /// Values there are.
        found: usize,
    },
    /// A text of more tokens than the text tower takes, or of none.
    #[error("the model takes texts of 1 to {context} tokens, found {length}")]
    Text {
        /// The largest number of tokens.
        context: usize,
        /// The number that was given.
        length: usize,
    },
}
