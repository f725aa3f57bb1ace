//! What a decoder returns.

use super::depth::Note;
use super::orientation::Orientation;
use super::rgb::RgbImage;

/// An image as its file stores it: not yet upright.
pub(super) struct AsStored {
    pub(super) image: RgbImage,
    pub(super) orientation: Orientation,
    pub(super) note: Option<Note>,
}
