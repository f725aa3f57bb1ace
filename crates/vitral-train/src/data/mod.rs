//! Images with labels: where they come from, and batches of them in an order that the seed alone decides.
//!
//! [`open`] recognizes what lies at a path; [`Loader`] makes batches of it, ahead of the step that uses them.

mod archive;
mod cached;
mod cifar;
mod folder;
mod idx;
mod list;
mod loader;
mod open;
mod order;
mod parquet;
mod relabeled;
mod shards;
mod split;
mod stored;
mod subset;
mod summary;
mod view;

use std::path::Path;

use vitral::image::RgbImage;

use crate::error::TrainError;
use crate::labeling::Labeling;

pub use archive::Archive;
pub use cached::Cached;
pub use cifar::Cifar;
pub use folder::ImageFolder;
pub use idx::Idx;
pub use list::List;
pub use loader::{Epoch, LastBatch, Loader, LoaderOptions, Skipped, plain};
pub use open::{Part, ValidationSplit, open, open_part};
pub use order::{Order, shuffled};
pub use parquet::Parquet;
pub use relabeled::{Match, Relabeled};
pub use split::Split;
pub use subset::Subset;
pub use summary::Summary;
pub use view::{Corner, View};

/// Labeled images.
pub trait Dataset: Send + Sync {
    /// Names of the classes, in order.
    fn classes(&self) -> &[String];
    /// How many images there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The class of an image; of several, the first.
    fn label(&self, index: usize) -> usize;
    /// How many classes an image may have. Only lists have images with several.
    fn labeling(&self) -> Labeling {
        Labeling::One
    }
    /// All classes of an image.
    fn labels(&self, index: usize) -> Vec<usize> {
        vec![self.label(index)]
    }
    /// What an image is called: its path, or its place in a larger file.
    fn name(&self, index: usize) -> String;
    /// An image, decoded and upright.
    ///
    /// # Errors
    /// If it cannot be read; the error names its file.
    fn image(&self, index: usize) -> Result<RgbImage, TrainError>;
}

/// Data that cannot be trained on.
fn fault(path: &Path, fault: impl Into<String>, hint: &'static str) -> TrainError {
    TrainError::Data { path: path.into(), fault: fault.into(), hint }
}

/// Endings of image files.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Whether a file's name says that it is an image. What is inside is told by its bytes, later.
fn is_image(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    !hidden && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// The class of a name.
fn class_of(classes: &[String], name: &str, path: &Path) -> Result<usize, TrainError> {
    let known = || {
        let shown = classes.iter().take(20).map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");
        if classes.len() > 20 { format!("{shown} and {} more", classes.len() - 20) } else { shown }
    };
    classes.iter().position(|class| class == name).ok_or_else(|| {
        fault(
            path,
            format!("expected one of the classes {}, found `{name}`", known()),
            "correct the label or its folder",
        )
    })
}

/// A whole file, unpacked where it is gzip.
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

/// Names of classes in a text file, one a line.
fn class_names(path: &Path) -> Result<Vec<String>, TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::file(path, "reading class names"))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
