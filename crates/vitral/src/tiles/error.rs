//! What cannot be looked at in windows.

use crate::config::Size;

/// A request for windows that the model cannot satisfy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TilesError {
    /// A side that the patches of a window do not divide.
    #[error(
        "windows of {side} pixels: expected a multiple of {patches}, the number of patches that the model `{model}` sees \
         along a side; take {}{above}", if below < above { format!("{below} or ") } else { String::new() }
    )]
    Side {
        /// The model.
        model: String,
        /// What was asked for.
        side: usize,
        /// Patches along the side of a window.
        patches: usize,
        /// The next smaller side.
        below: usize,
        /// The next larger side.
        above: usize,
    },
    /// Windows that are too large to be cut.
    #[error("windows of {side} pixels: expected at most {most}")]
    Large {
        /// What was asked for.
        side: usize,
        /// The largest that there is.
        most: usize,
    },
    /// Windows that overlap completely, or not a number.
    #[error("an overlap of {overlap}: expected a fraction of a window's side, from 0 to 0.95")]
    Overlap {
        /// What was asked for.
        overlap: f32,
    },
    /// A window whose tokens are not a grid of patches.
    #[error(
        "the model `{model}`: expected tokens of {expected} patches in each window, found {found} tokens beside its class and register tokens"
    )]
    Tokens {
        /// The model.
        model: String,
        /// Patches in a window.
        expected: Size,
        /// Tokens that there are.
        found: usize,
    },
}
