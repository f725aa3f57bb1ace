//! Data sets of labeled images, and batches of them in an order determined by the seed.
//!
//! [`open`] detects the format of the data at a path; [`Loader`] prepares batches, ahead of the step that uses them.

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

use std::fmt;
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
    /// The class of an image; the first if there are several.
    fn label(&self, index: usize) -> usize;
    /// Whether images have one class or several. Only lists can have several.
    fn labeling(&self) -> Labeling {
        Labeling::One
    }
    /// All classes of an image.
    fn labels(&self, index: usize) -> Vec<usize> {
        vec![self.label(index)]
    }
    /// The name of an image: its path, or its position in a larger file.
    fn name(&self, index: usize) -> String;
    /// An image, decoded and oriented upright.
    ///
    /// # Errors
    /// If it cannot be read; the error names its file.
    fn image(&self, index: usize) -> Result<RgbImage, TrainError>;
}

impl fmt::Debug for dyn Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Dataset");
        shown.field("images", &self.len()).field("classes", &self.classes().len()).finish_non_exhaustive()
    }
}

/// Data that cannot be trained on.
fn fault(path: &Path, fault: impl Into<String>, hint: &'static str) -> TrainError {
    TrainError::Data { path: path.into(), fault: fault.into(), hint }
}

/// Extensions of image files.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Whether a file is an image according to its name. The actual format is detected from the contents, later.
fn is_image(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    !hidden && extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// The class with a name.
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

/// Class names in a text file, one per line.
fn class_names(path: &Path) -> Result<Vec<String>, TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::file(path, "reading class names"))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
