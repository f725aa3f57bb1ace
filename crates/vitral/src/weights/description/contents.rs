//! What the files beside the weights say, in any library's format.

use std::path::PathBuf;

use serde_json::Value;
use vitral_engine::Precision;

use crate::config::ModelConfig;
use crate::image::{ImageError, Preprocess};
use crate::weights::dialect::Source;
use crate::weights::{Container, Dialect, WeightsError};

/// Everything that the files beside the weights say.
#[derive(Clone, Debug)]
pub struct Description {
    /// The model's name: as in its files, or else the folder's name.
    pub name: String,
    /// The architecture.
    pub config: ModelConfig,
    /// Preprocessing, in the source library's format.
    pub preprocess: PreprocessSource,
    /// Class names in class order.
    pub labels: Option<Vec<String>>,
    /// The weights' license, if stated.
    pub license: Option<String>,
    /// The precision that the model is meant to be computed in, if its files say so.
    pub precision: Option<Precision>,
    /// The dialect of the weight files; if absent, it is recognized from tensor names.
    pub dialect: Option<String>,
    /// Names that differ from the dialect's.
    pub names: Vec<(String, Source)>,
    /// Weight files, several for a sharded model.
    pub files: Vec<PathBuf>,
}

/// Preprocessing, not yet interpreted.
#[derive(Clone, Debug, PartialEq)]
pub enum PreprocessSource {
    /// The files do not specify it.
    Absent,
    /// Hugging Face's `preprocessor_config.json`, or `image_processor` of its `processor_config.json`.
    HuggingFace {
        /// The file's contents.
        processor: Value,
        /// The `model_type` of the `config.json` beside it, for files that name no class.
        model_type: Option<String>,
    },
    /// timm's `pretrained_cfg`.
    Timm(Value),
    /// Our own steps.
    Vitral(Value),
}

impl PreprocessSource {
    /// The preprocessing steps; `None` if the files do not specify any.
    pub fn read(&self) -> Option<Result<Preprocess, ImageError>> {
        Some(match self {
            PreprocessSource::Absent => return None,
            PreprocessSource::HuggingFace { processor, model_type } => {
                Preprocess::from_huggingface(processor, model_type.as_deref())
            }
            PreprocessSource::Timm(value) => Preprocess::from_timm(value),
            PreprocessSource::Vitral(value) => Preprocess::from_vitral(value),
        })
    }

    /// The raw value, for readers of this format.
    pub fn value(&self) -> Option<&Value> {
        match self {
            PreprocessSource::Absent => None,
            PreprocessSource::HuggingFace { processor: value, .. }
            | PreprocessSource::Timm(value)
            | PreprocessSource::Vitral(value) => Some(value),
        }
    }
}

impl Description {
    /// Opens the weight files.
    ///
    /// # Errors
    /// Those of [`Container::open_files`].
    pub fn open(&self) -> Result<Container, WeightsError> {
        Container::open_files(&self.files, None)
    }

    /// The named dialect with the description's own names added; `None` if it is to be recognized.
    ///
    /// # Errors
    /// [`WeightsError::NoSuchDialect`].
    pub fn dialect(&self) -> Result<Option<Dialect>, WeightsError> {
        let named = self.dialect.as_deref().map(Dialect::named).transpose()?;
        Ok(match named {
            Some(dialect) => Some(dialect.with_names(&self.names)),
            None if self.names.is_empty() => None,
            None => Some(Dialect::vitral().with_names(&self.names)),
        })
    }
}
