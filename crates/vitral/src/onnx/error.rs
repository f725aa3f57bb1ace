//! Errors on the way from a model to an ONNX file.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::model::ModelError;
use crate::weights::WeightsError;

/// A model that could not be written as an ONNX file, or a file that is not one of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The model's files could not be read.
    #[error(transparent)]
    Weights(Box<WeightsError>),
    /// The configuration contradicts itself.
    #[error("{}: {fault}", path.display())]
    Config {
        /// The model.
        path: PathBuf,
        /// The contradiction.
        fault: ConfigError,
    },
    /// The model does not take images of the size that was asked for.
    #[error("cannot export it for images of that size: {0}")]
    Size(#[from] ModelError),
    /// Something is already where the model is to be written.
    #[error("`{}` already exists and is not overwritten; remove it or choose another path", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The folder of the destination is not there.
    #[error("`{}`: expected a file name in an existing folder, found no folder `{}`; make it first", path.display(), folder.display())]
    NoFolder {
        /// The destination.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The name of the destination cannot be that of a model with its weights beside it.
    #[error("`{}`: expected the name of a new file, such as `model.onnx`", path.display())]
    NoName {
        /// The destination.
        path: PathBuf,
    },
    /// A type that weights are not stored in.
    #[error(
        "expected a bundle in 8 bits for weights in 8 bits, found a model in floats; choose f32, bf16 or f16, or write the \
         bundle with `vitral quantize` first"
    )]
    Storage,
    /// A file could not be written.
    #[error("`{}`: cannot write: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("`{}`: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not a graph that is whole.
    #[error("`{}`: expected a whole ONNX graph as Vitral writes it, found that {fault}; export the model again", path.display())]
    NotWhole {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
}

impl OnnxError {
    pub(super) fn writing(path: &Path, source: io::Error) -> Self {
        OnnxError::Write { path: path.to_owned(), source }
    }

    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        OnnxError::Read { path: path.to_owned(), source }
    }
}

impl From<WeightsError> for OnnxError {
    fn from(fault: WeightsError) -> Self {
        OnnxError::Weights(Box::new(fault))
    }
}
