//! Data sets of labeled images, and batches of them in an order determined by the seed.
//!
//! [`open`] detects the format of the data at a path; [`Loader`] prepares batches, ahead of the step that uses them.

mod archive;
mod cached;
mod cifar;
mod classes;
mod folder;
mod idx;
mod list;
mod loader;
mod matching;
mod members;
mod numbers;
mod open;
mod order;
mod parquet;
mod parts;
mod relabeled;
mod rows;
mod sampling;
mod shards;
mod split;
mod statistics;
mod stored;
mod subset;
mod summary;
mod text;
mod unlabeled;
mod view;

use std::fmt;
use std::path::Path;

use vitral::image::preprocess::Channels;
use vitral::image::{Image, RgbImage};

use crate::error::TrainError;
use crate::labeling::Labeling;

pub use archive::Archive;
pub use cached::Cached;
pub use cifar::Cifar;
pub(crate) use classes::{listed, spelled};
pub use folder::{ImageFolder, classes_by_folder};
pub use idx::Idx;
pub use list::List;
pub(crate) use loader::LOADED;
pub use loader::{Epoch, LastBatch, Loader, LoaderOptions, Skipped, plain};
pub use matching::{Match, Matching};
pub use members::ArchivedImages;
pub use numbers::Numbers;
pub use open::{Part, ValidationSplit, open, open_numbers, open_part};
pub use order::{Order, shuffled};
pub use parquet::Parquet;
pub use relabeled::{Relabeled, with_classes};
pub use sampling::Sampling;
pub use split::Split;
pub use statistics::statistics;
pub use subset::Subset;
pub use summary::Summary;
pub use unlabeled::Unlabeled;
pub use view::{Corner, View};

/// A data set of labeled images.
pub trait Dataset: Send + Sync {
    /// Names of the classes, in order.
    fn classes(&self) -> &[String];
    /// Number of images.
    fn len(&self) -> usize;
    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The class of an image; the first if there are several, and class 0 if there is none.
    fn label(&self, index: usize) -> usize;
    /// Whether images have one class or several. Only lists can have several.
    fn labeling(&self) -> Labeling {
        Labeling::One
    }
    /// All classes of an image.
    fn labels(&self, index: usize) -> Vec<usize> {
        vec![self.label(index)]
    }
    /// The numbers that an image is labeled with, one for each class; empty unless [`Self::labeling`] says so.
    fn values(&self, _index: usize) -> Vec<f32> {
        Vec::new()
    }
    /// The name of an image: its path, or its position in a larger file.
    fn name(&self, index: usize) -> String;
    /// An image, decoded for a model that takes these channels, and oriented upright.
    ///
    /// # Errors
    /// If it cannot be read, or has other channels; the error names its file.
    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError>;
    /// An image in color.
    ///
    /// # Errors
    /// As [`Dataset::image_for`].
    fn image(&self, index: usize) -> Result<RgbImage, TrainError> {
        self.image_for(index, Channels::Rgb).map(Image::into_rgb)
    }
    /// What was left out or decided when the set was opened, a sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

impl fmt::Debug for dyn Dataset + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Dataset");
        shown.field("images", &self.len()).field("classes", &self.classes().len()).finish_non_exhaustive()
    }
}

/// Data that cannot be trained on.
fn fault(path: &Path, fault: impl Into<String>, hint: &'static str) -> TrainError {
    TrainError::Data { path: path.into(), fault: fault.into(), hint }
}

/// A whole file, decompressed if it is gzip.
fn read_unpacked(path: &Path) -> Result<Vec<u8>, TrainError> {
    let mut bytes = std::fs::read(path).map_err(TrainError::file(path, "reading data"))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut unpacked)
            .map_err(TrainError::file(path, "unpacking data"))?;
        bytes = unpacked;
    }
    Ok(bytes)
}
