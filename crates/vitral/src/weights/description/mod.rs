//! What a path holds: the model's configuration, its weight files, preprocessing, labels and licence, from the files that
//! travel with the weights.

mod fields;
mod huggingface;
mod jax;
mod original;
mod timm;
mod vitral;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::dialect::Source;
use super::{Container, Dialect, WeightsError};
use crate::config::ModelConfig;
use crate::image::{ImageError, Preprocess};
use fields::Fields;

/// All that the files beside the weights say.
#[derive(Clone, Debug)]
pub struct Description {
    /// The model's name: what its files call it, or the folder's name.
    pub name: String,
    /// The architecture.
    pub config: ModelConfig,
    /// Preprocessing, as the origin writes it.
    pub preprocess: PreprocessSource,
    /// Class names in order of class.
    pub labels: Option<Vec<String>>,
    /// The weights' licence, where it is stated.
    pub licence: Option<String>,
    /// The dialect of the weight files; recognised by their names if not given.
    pub dialect: Option<String>,
    /// Names that differ from the dialect's.
    pub names: Vec<(String, Source)>,
    /// Weight files, more than one for a model in shards.
    pub files: Vec<PathBuf>,
}

/// Preprocessing, not yet interpreted.
#[derive(Clone, Debug, PartialEq)]
pub enum PreprocessSource {
    /// The files say nothing of it.
    Absent,
    /// Hugging Face's `preprocessor_config.json`.
    HuggingFace(Value),
    /// timm's `pretrained_cfg`.
    Timm(Value),
    /// Our own steps.
    Vitral(Value),
}

impl PreprocessSource {
    /// The steps that it says; nothing where the files say nothing.
    pub fn read(&self) -> Option<Result<Preprocess, ImageError>> {
        Some(match self {
            PreprocessSource::Absent => return None,
            PreprocessSource::HuggingFace(value) => Preprocess::from_huggingface(value, None),
            PreprocessSource::Timm(value) => Preprocess::from_timm(value),
            PreprocessSource::Vitral(value) => Preprocess::from_vitral(value),
        })
    }

    /// The raw value, for whoever reads preprocessing of this origin.
    pub fn value(&self) -> Option<&Value> {
        match self {
            PreprocessSource::Absent => None,
            PreprocessSource::HuggingFace(value) | PreprocessSource::Timm(value) | PreprocessSource::Vitral(value) => {
                Some(value)
            }
        }
    }
}

impl Description {
    /// Reads a bundle's `vitral.json` that is in memory already. `name` stands for the file in errors.
    ///
    /// # Errors
    /// A [`WeightsError`] that says what does not fit.
    pub fn from_bundle(name: &str, text: &[u8]) -> Result<Self, WeightsError> {
        vitral::embedded(name, text)
    }

    /// Opens the weight files.
    ///
    /// # Errors
    /// Those of [`Container::open_files`].
    pub fn open(&self) -> Result<Container, WeightsError> {
        Container::open_files(&self.files, None)
    }

    /// The dialect that was named, with the description's own names; `None` when it is to be recognised.
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

/// Weight files in the order they are looked for in a folder.
const WEIGHTS: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pth",
    "model.pt",
];

/// Reads what a path holds: a Hugging Face folder, a timm folder, a Vitral bundle, or one checkpoint with `config`, the
/// file that describes it.
///
/// # Errors
/// A [`WeightsError`] that names the file, what was expected in it, and what to do.
pub fn load_description(path: &Path, config: Option<&Path>) -> Result<Description, WeightsError> {
    let no_model = |fault: String| WeightsError::NoModel { path: path.to_owned(), fault };
    if let Some(config) = config {
        let files = if path.is_dir() { weight_files(path)? } else { vec![path.to_owned()] };
        return vitral::checkpoint(config, stem_of(path), files);
    }
    if !path.exists() {
        return Err(no_model("no such file or folder; give a model's folder, or a checkpoint with `--config`".into()));
    }
    if !path.is_dir() {
        if let Some(description) = by_arrays(path)? {
            return Ok(description);
        }
        return Err(no_model(
            "one weight file does not say what model it is; give its folder, or describe it with `--config FILE`"
                .into(),
        ));
    }
    let bundle = path.join("vitral.json");
    if bundle.is_file() {
        return vitral::bundle(&bundle, stem_of(path), weight_files(path)?);
    }
    let file = path.join("config.json");
    if !file.is_file() {
        if let Some(array) = only_archive(path)
            && let Some(description) = by_arrays(&array)?
        {
            return Ok(description);
        }
        return Err(no_model("expected `config.json` or `vitral.json` in this folder".into()));
    }
    let json = read_json(&file)?;
    let fields = Fields::new(&file, &json)?;
    if fields.has("architecture") {
        return timm::folder(&fields, stem_of(path), weight_files(path)?);
    }
    if fields.has("model_type") || fields.has("architectures") {
        let preprocess = path.join("preprocessor_config.json");
        let preprocess = if preprocess.is_file() {
            PreprocessSource::HuggingFace(read_json(&preprocess)?)
        } else {
            PreprocessSource::Absent
        };
        let mut description = huggingface::folder(&fields, stem_of(path), weight_files(path)?, preprocess)?;
        huggingface::without_absent_pooler(&mut description)?;
        return Ok(description);
    }
    if fields.has("model") {
        return vitral::checkpoint(&file, stem_of(path), weight_files(path)?);
    }
    Err(WeightsError::description(
        &file,
        "expected `model_type` (Hugging Face), `architecture` (timm) or `model` (Vitral), found none of them",
    ))
}

/// Every `model_type` of Hugging Face's `config.json` that is read.
pub fn huggingface_model_types() -> &'static [&'static str] {
    &huggingface::MODEL_TYPES
}

/// Every architecture of timm that is known by name; a few of them are refused with what cannot be expressed.
pub fn timm_architectures() -> impl Iterator<Item = &'static str> {
    timm_names()
}

/// The configuration that timm's `config.json` says.
pub(crate) fn timm_config(value: &Value) -> Result<ModelConfig, WeightsError> {
    let fields = Fields::new(Path::new("config.json"), value)?;
    timm::folder(&fields, String::new(), Vec::new()).map(|description| description.config)
}

/// The names of timm's architectures.
pub(crate) fn timm_names() -> impl Iterator<Item = &'static str> {
    timm::architectures().keys().map(String::as_str)
}

/// Describes a file by its tensors alone, where its names leave no choice: Google's NumPy archives, Meta's checkpoints.
fn by_arrays(file: &Path) -> Result<Option<Description>, WeightsError> {
    if !Container::is_numpy(file)? {
        return match Container::open(file) {
            Ok(container) => original::file(file, stem_of(file), &container),
            Err(_) => Ok(None),
        };
    }
    let container = Container::open(file)?;
    jax::recognises(&container).then(|| jax::file(file, stem_of(file), &container)).transpose()
}

/// The NumPy archive in a folder that holds one and no description.
fn only_archive(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut archives = files.filter(|file| file.extension().is_some_and(|extension| extension == "npz"));
    archives.next().filter(|_| archives.next().is_none())
}

/// The weight files of a folder.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let found = WEIGHTS.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    let file = found.ok_or_else(|| WeightsError::NoModel {
        path: folder.to_owned(),
        fault: format!("no weights; expected one of `{}`", WEIGHTS.join("`, `")),
    })?;
    super::container::expand(&file)
}

fn stem_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

fn read_json(path: &Path) -> Result<Value, WeightsError> {
    let text = std::fs::read(path).map_err(|source| WeightsError::io(path, source))?;
    serde_json::from_slice(&text).map_err(|error| WeightsError::description(path, format!("not valid JSON: {error}")))
}
