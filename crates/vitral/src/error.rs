//! What can go wrong between a path and an answer: one enum for the whole library, over one a room.

use std::path::PathBuf;

use vitral_engine::DeviceError;

use crate::config::{ConfigError, Size};
#[cfg(feature = "explain")]
use crate::explain::ExplainError;
use crate::image::ImageError;
use crate::model::ModelError;
use crate::weights::WeightsError;

/// Any fault of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image could not be read or preprocessed.
    #[error(transparent)]
    Image(Box<ImageError>),
    /// A model's files could not be read, or do not fit.
    #[error(transparent)]
    Weights(Box<WeightsError>),
    /// A configuration contradicts itself.
    #[error("{}: {fault}", path.display())]
    Config {
        /// The model.
        path: PathBuf,
        /// The contradiction.
        fault: ConfigError,
    },
    /// An input does not fit the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's files do not say how to preprocess.
    #[error(
        "{}: its files do not say how images are preprocessed; add `preprocessor_config.json`, or describe the steps \
         with `--config FILE`",
        path.display()
    )]
    NoPreprocessing {
        /// The model.
        path: PathBuf,
    },
    /// The preprocessing file of a model could not be understood.
    #[error("{}: its preprocessing: {fault}", path.display())]
    Preprocessing {
        /// The model.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<ImageError>,
    },
    /// Preprocessing gives other images than the model takes.
    #[error("{}: its preprocessing gives {found}, but the model takes {expected}; correct one of its two files", path.display())]
    Disagreement {
        /// The model.
        path: PathBuf,
        /// What the model takes.
        expected: String,
        /// What preprocessing gives.
        found: String,
    },
    /// There are not as many labels as classes.
    #[error("{}: it names {found} labels for {expected} classes", path.display())]
    Labels {
        /// The model.
        path: PathBuf,
        /// Classes.
        expected: usize,
        /// Labels.
        found: usize,
    },
    /// Images of one batch have several sizes after preprocessing.
    #[error(
        "image {index} of the batch: expected {expected} pixels after preprocessing, as image 0 has, found {found}; run \
         images of other sizes in batches of their own"
    )]
    Sizes {
        /// The first image of another size, from 0.
        index: usize,
        /// The size of the first image.
        expected: Size,
        /// The size of this one.
        found: Size,
    },
    /// A device failed, or ran out of memory.
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[cfg(feature = "explain")]
    /// An image cannot be explained in that way.
    #[error(transparent)]
    Explain(Box<ExplainError>),
    /// Something was asked of a model without a classifier.
    #[error("the model `{name}` has no classifier; use `embed` for its features")]
    NoHead {
        /// The model.
        name: String,
    },
    /// One answer for each image was asked of a model that pools nothing.
    #[error(
        "the model `{name}` does not pool its tokens: expected one {what} for each image, found one for each token; use a \
         model that pools, `embed --pool mean` for one feature for each image, or `forward` for what each token gives"
    )]
    PerToken {
        /// The model.
        name: String,
        /// What was asked for: `ranking`, `feature`.
        what: &'static str,
    },
    /// The class token was asked of a model without one.
    #[error("the model `{name}` has no class token; ask for its pooled features, or the mean of its patches")]
    NoClassToken {
        /// The model.
        name: String,
    },
}

impl From<WeightsError> for Error {
    fn from(fault: WeightsError) -> Self {
        Error::Weights(Box::new(fault))
    }
}

impl From<ImageError> for Error {
    fn from(fault: ImageError) -> Self {
        Error::Image(Box::new(fault))
    }
}

#[cfg(feature = "explain")]
impl From<ExplainError> for Error {
    fn from(fault: ExplainError) -> Self {
        Error::Explain(Box::new(fault))
    }
}
