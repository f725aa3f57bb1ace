//! The library's error type: one enum over the error types of the modules.

use std::path::PathBuf;

use vitral_engine::DeviceError;

use crate::config::{ConfigError, Size};
#[cfg(feature = "explain")]
use crate::explain::ExplainError;
use crate::image::ImageError;
use crate::model::ModelError;
use crate::tiles::TilesError;
use crate::weights::WeightsError;

/// Any error of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image could not be read or preprocessed.
    #[error(transparent)]
    Image(Box<ImageError>),
    /// A model's files could not be read, or do not match.
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
    /// The model's files do not say how images are preprocessed.
    #[error(
        "{}: its files do not say how images are preprocessed; add `preprocessor_config.json`, or describe the steps \
         with `--config FILE`",
        path.display()
    )]
    NoPreprocessing {
        /// The model.
        path: PathBuf,
    },
    /// The model's preprocessing file could not be understood.
    #[error("{}: cannot read its preprocessing: {fault}", path.display())]
    Preprocessing {
        /// The model.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<ImageError>,
    },
    /// The model's preprocessing is not one that the backend asked for does.
    #[error("{}: {fault}", path.display())]
    Backend {
        /// The model.
        path: PathBuf,
        /// What the backend does not do.
        fault: Box<ImageError>,
    },
    /// Preprocessing produces images of another shape than the model takes.
    #[error("{}: its preprocessing gives {found}, but the model takes {expected}; correct one of its two files", path.display())]
    Disagreement {
        /// The model.
        path: PathBuf,
        /// What the model takes.
        expected: String,
        /// What preprocessing gives.
        found: String,
    },
    /// Images of any proportions were asked for, of a model that takes one size.
    #[error("{}: expected a model that takes images of any size for `max_patches`, but this one takes {size} pixels only; leave out the option", path.display())]
    OneSize {
        /// The model.
        path: PathBuf,
        /// The size that it takes.
        size: Size,
    },
    /// The number of labels differs from the number of classes.
    #[error("{}: expected {expected} labels, one for each class, found {found}", path.display())]
    Labels {
        /// The model.
        path: PathBuf,
        /// Number of classes.
        expected: usize,
        /// Number of labels.
        found: usize,
    },
    /// The images of a batch differ in size after preprocessing.
    #[error(
        "image {index} of the batch: expected {expected} pixels after preprocessing, like image 0, found {found}; put \
         images of different sizes in separate batches"
    )]
    Sizes {
        /// Index of the first image with a different size, from 0.
        index: usize,
        /// Size of image 0.
        expected: Size,
        /// Size of this image.
        found: Size,
    },
    /// Bands were named for the colors' kernels, and the model has other ones.
    #[error(
        "{}: bands are named for red, green and blue, but the model has kernels of {found} channels; leave the names out",
        path.display()
    )]
    Colors {
        /// The model.
        path: PathBuf,
        /// Channels that it has.
        found: usize,
    },
    /// Classes cannot be made of these labels.
    #[error("labels: {fault}")]
    TextLabels {
        /// What is wrong with them.
        fault: String,
    },
    /// A text is longer than the model takes.
    #[error("`{text}`: {found} tokens, expected 1 to {expected}; shorten the text")]
    Text {
        /// The text.
        text: String,
        /// The largest number of tokens.
        expected: usize,
        /// The number there are.
        found: usize,
    },
    /// An image cannot be looked at in windows as asked.
    #[error(transparent)]
    Tiles(Box<TilesError>),
    /// A device failed, or ran out of memory.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The image cannot be explained with this method.
    #[cfg(feature = "explain")]
    #[error(transparent)]
    Explain(Box<ExplainError>),
    /// A classification was requested from a model without a classifier.
    #[error(
        "the model `{name}` has no classifier; use `embed` for its features, `probe` to measure them, or `finetune` to give it a classifier"
    )]
    NoHead {
        /// The model.
        name: String,
    },
    /// A classification was requested from a model whose head projects to an embedding.
    #[error(
        "the model `{name}`: expected a classifier, found a projection to an embedding of {width} numbers, without \
         classes; use `embed`, fine-tune it, or, if it has a text tower, give classes in words with `--labels`"
    )]
    Projects {
        /// The model.
        name: String,
        /// Width of the embedding.
        width: usize,
    },
    /// One result per image was requested from a model that does not pool its tokens.
    #[error(
        "the model `{name}` does not pool its tokens: expected one {what} per image, found one per token; use a model \
         that pools, `embed --pool mean` for one feature vector per image, or `forward` for the output of every token"
    )]
    PerToken {
        /// The model.
        name: String,
        /// What was requested: `ranking`, `feature`.
        what: &'static str,
    },
    /// The class token was requested from a model without one.
    #[error("the model `{name}` has no class token; use its pooled features or the mean of its patch tokens")]
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

impl From<TilesError> for Error {
    fn from(fault: TilesError) -> Self {
        Error::Tiles(Box::new(fault))
    }
}

#[cfg(feature = "explain")]
impl From<ExplainError> for Error {
    fn from(fault: ExplainError) -> Self {
        Error::Explain(Box::new(fault))
    }
}
