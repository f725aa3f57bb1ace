//! The results of single images, some of which wait until all images have been seen.

use serde_json::Value;
use vitral::explain::{InputImage, Prediction};
use vitral::labels::Ranked;

use super::files::Folder;
use crate::inputs::Skipped;
use crate::output::Named;

/// The results for one image, of which only the numbers are not written yet.
pub(super) struct Results {
    pub(super) name: String,
    pub(super) prediction: Prediction,
    pub(super) folder: Folder,
    pub(super) tensors: Vec<Named>,
    pub(super) faithfulness: serde_json::Map<String, Value>,
    pub(super) lens: Vec<(Vec<Ranked>, f32)>,
    /// The windows of a large image.
    pub(super) tiles: Option<Value>,
}

/// What is printed once all images have been seen, in the order of the images.
pub(super) enum Waiting {
    /// An image, with its final patch tokens.
    Image(Box<Results>, Box<InputImage>, Vec<f32>),
    /// An image that could not be used.
    Skipped(Skipped),
}
