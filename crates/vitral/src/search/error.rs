//! What can go wrong with an index of images.

use std::path::PathBuf;

use vitral_engine::DeviceError;

use crate::error::Error;
use crate::weights::WeightsError;

/// An error of an index, or of a search in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// An error of the model or of an image.
    #[error(transparent)]
    Vitral(#[from] Error),
    /// A device failed, or ran out of memory.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A file could not be read or written.
    #[error("`{}`: {doing}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        fault: std::io::Error,
    },
    /// A file that is not an index.
    #[error("`{}`: expected an index of images, found {found}; `vitral search index` makes one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// An index that contradicts itself.
    #[error("`{}`: damaged index: {fault}; remove it and make it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// Features of one model were to be compared with those of another.
    #[error("the features of the index are not comparable with this model's: {difference}")]
    OtherModel {
        /// What differs, as expected and found.
        difference: String,
    },
    /// One vector for each image is needed.
    #[error("an index holds one vector for each image, and `tokens` are many; choose another pooling")]
    ManyVectors,
    /// The model gives numbers that cannot be compared.
    #[error("the model `{name}`: expected finite features of its test image, found infinity or NaN; check its weights")]
    NotFinite {
        /// The model.
        name: String,
    },
    /// Features of different widths.
    #[error("expected features of {expected} numbers, as in the index, found {found}")]
    Width {
        /// The index's.
        expected: usize,
        /// Those given.
        found: usize,
    },
}

impl From<WeightsError> for SearchError {
    fn from(fault: WeightsError) -> Self {
        SearchError::Vitral(fault.into())
    }
}
