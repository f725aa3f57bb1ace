//! What a path contains: the model's configuration, weight files, preprocessing, labels and license, from the files
//! that accompany the weights.

mod contents;
mod fields;
mod huggingface;
mod imagenet;
mod jax;
mod original;
mod text;
mod timm;
mod vitral;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Container, WeightsError};
use crate::config::ModelConfig;
use crate::image::Format;
use fields::{Fields, read_json};

pub(crate) use self::imagenet::is_known;
pub(crate) use self::vitral::{FORMAT, INT8_FORMAT};
pub use contents::{Description, PreprocessSource};
pub use text::{TextDescription, load_text_description};

/// Weight files in the order they are looked for in a folder.
const WEIGHTS: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pth",
    "model.pt",
];

/// Reads a path: a Hugging Face folder, a timm folder, a Vitral bundle, or one checkpoint with `config`, the file that
/// describes it.
///
/// # Errors
/// A [`WeightsError`] with the file, what was expected in it, and what to do.
pub fn load_description(path: &Path, config: Option<&Path>) -> Result<Description, WeightsError> {
    let no_model = |fault: String| WeightsError::NoModel { path: path.to_owned(), fault };
    if let Some(config) = config {
        let files = if path.is_dir() { weight_files(path)? } else { vec![path.to_owned()] };
        // The configuration of another library, given beside its weights.
        let json = read_json(config)?;
        if let Ok(fields) = Fields::new(config, &json) {
            let folder = config.parent().unwrap_or(Path::new(""));
            if fields.has("architecture") {
                return timm::folder(&fields, stem_of(path), files);
            }
            if fields.has("model_type") || fields.has("architectures") {
                return huggingface::folder(&fields, folder, stem_of(path), files);
            }
        }
        return vitral::checkpoint(config, stem_of(path), files);
    }
    if !path.exists() {
        let text = "no such file or folder; give a model's folder, or a checkpoint with `--config`";
        return Err(no_model(match path.to_str() {
            Some(name) if looks_published(name) => {
                format!("{text}; if this is a model's name on the Hugging Face hub, write `hf:{name}`")
            }
            Some(name) if is_plain(name) => format!(
                "{text}, or a name on the hub, such as `timm/vit_base_patch16_224.augreg2_in21k_ft_in1k` or \
                 `hf:google/vit-base-patch16-224`; `vitral models --published` lists some"
            ),
            _ => text.to_owned(),
        }));
    }
    if !path.is_dir() {
        if let Some(description) = by_arrays(path)? {
            return Ok(description);
        }
        if let Some(other) = other_than_weights(path)? {
            return Err(no_model(format!("expected a model, found {other}; give a model's folder")));
        }
        return Err(no_model(
            "a weight file alone does not say what model it is; give its folder, or describe it with `--config FILE`"
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
        let best = path.join("best");
        return Err(no_model(if best.join("vitral.json").is_file() {
            format!("expected a model's folder, found a run's; its model is `{}`", best.display())
        } else {
            "expected `config.json` or `vitral.json` in this folder".into()
        }));
    }
    let json = read_json(&file)?;
    let fields = Fields::new(&file, &json)?;
    if fields.has("architecture") {
        return timm::folder(&fields, stem_of(path), weight_files(path)?);
    }
    if fields.has("model_type") || fields.has("architectures") {
        return huggingface::folder(&fields, path, stem_of(path), weight_files(path)?);
    }
    if fields.has("model") {
        return vitral::checkpoint(&file, stem_of(path), weight_files(path)?);
    }
    Err(WeightsError::description(
        &file,
        "expected `model_type` (Hugging Face), `architecture` (timm) or `model` (Vitral), found none of them",
    ))
}

/// Whether a path that does not exist looks like a model's name on a hub: two plain names, the first of which is no folder.
fn looks_published(path: &str) -> bool {
    let parts = path.split_once('/').filter(|(organization, name)| is_plain(organization) && is_plain(name));
    parts.is_some_and(|(organization, _)| !Path::new(organization).exists())
}

/// Whether a name has only what names of models on a hub are made of.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// What a file is that holds no weights, in words.
fn other_than_weights(file: &Path) -> Result<Option<String>, WeightsError> {
    // Nothing at the beginning of an ONNX graph says what it is.
    if file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
        return Ok(Some("an ONNX graph, which Vitral writes but does not read".to_owned()));
    }
    // The length at the beginning of a safetensors file may look like the beginning of an image.
    if Container::open(file).is_ok() {
        return Ok(None);
    }
    let mut start = Vec::new();
    let opened = std::fs::File::open(file).map_err(|source| WeightsError::io(file, source))?;
    opened.take(16).read_to_end(&mut start).map_err(|source| WeightsError::io(file, source))?;
    Ok(Format::of(&start).map(|format| format!("an image ({})", format.name())))
}

/// Every `model_type` of Hugging Face's `config.json` that can be read.
pub fn huggingface_model_types() -> &'static [&'static str] {
    &huggingface::MODEL_TYPES
}

/// Every timm architecture known by name; a few of them are rejected as not supported.
pub fn timm_architectures() -> impl Iterator<Item = &'static str> {
    timm_names()
}

/// The configuration given by timm's `config.json`.
pub(crate) fn timm_config(value: &Value) -> Result<ModelConfig, WeightsError> {
    let fields = Fields::new(Path::new("config.json"), value)?;
    timm::folder(&fields, String::new(), Vec::new()).map(|description| description.config)
}

/// The names of timm's architectures.
pub(crate) fn timm_names() -> impl Iterator<Item = &'static str> {
    timm::architectures().keys().map(String::as_str)
}

/// Describes a file by its tensors alone, if their names are unambiguous: Google's NumPy archives, Meta's checkpoints.
fn by_arrays(file: &Path) -> Result<Option<Description>, WeightsError> {
    if !Container::is_numpy(file)? {
        return match Container::open(file) {
            Ok(container) => original::file(file, stem_of(file), &container),
            Err(_) => Ok(None),
        };
    }
    let container = Container::open(file)?;
    jax::recognizes(&container).then(|| jax::file(file, stem_of(file), &container)).transpose()
}

/// The NumPy archive in a folder without a description, if there is exactly one.
fn only_archive(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut archives = files.filter(|file| file.extension().is_some_and(|extension| extension == "npz"));
    archives.next().filter(|_| archives.next().is_none())
}

/// Files in a folder that look like weights, under names that no library gives them.
fn other_weights(folder: &Path) -> Vec<String> {
    const ENDINGS: [&str; 7] = ["safetensors", "bin", "pth", "pt", "ckpt", "npz", "msgpack"];
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let weights =
        files.filter(|file| file.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)));
    let mut names: Vec<String> =
        weights.filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names.truncate(5);
    names
}

/// The weight files of a folder.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let found = WEIGHTS.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    let file = found.ok_or_else(|| {
        let others = other_weights(folder);
        let instead = match &others[..] {
            [] => String::new(),
            _ => format!(", found `{}`; give such a file by its path, with `--config`", others.join("`, `")),
        };
        let fault = format!("no weights; expected one of `{}`{instead}", WEIGHTS.join("`, `"));
        WeightsError::NoModel { path: folder.to_owned(), fault }
    })?;
    super::container::expand(&file)
}

/// The name of a folder or file; in a hub's cache, whose folders are called by their commits, the model's.
fn stem_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let place = path.parent().filter(|parent| parent.ends_with("snapshots")).and_then(Path::parent);
    let cached = place.and_then(|model| model.file_name()?.to_str()?.strip_prefix("models--"));
    if let Some(name) = cached {
        return name.replacen("--", "/", 1);
    }
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}
