//! Pictures with labels: where they come from, and batches of them in an order that the seed alone decides.

use vitral::image::RgbImage;

use crate::error::TrainError;

/// Labelled pictures.
pub trait Dataset: Send + Sync {
    /// Names of the classes, in order.
    fn classes(&self) -> &[String];
    /// How many pictures there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The class of a picture.
    fn label(&self, index: usize) -> usize;
    /// A picture, decoded and upright.
    ///
    /// # Errors
    /// If it cannot be read; the error names its file.
    fn image(&self, index: usize) -> Result<RgbImage, TrainError>;
}
