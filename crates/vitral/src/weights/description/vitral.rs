//! Our own descriptions: a bundle's `vitral.json`, and the file that describes a single checkpoint for `--config`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use vitral_engine::Precision;

use super::contents::{Description, PreprocessSource};
use super::fields::read_json;
use super::imagenet::LabelSet;
use crate::config::ModelConfig;
use crate::weights::dialect::Source;
use crate::weights::{Dialect, WeightsError};

/// The keys of both files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The format's version, in bundles.
    #[serde(default, rename = "format")]
    _format: Option<u32>,
    #[serde(default)]
    name: Option<String>,
    /// What products are meant to be computed in, in bundles in 8 bits.
    #[serde(default)]
    precision: Option<String>,
    model: ModelConfig,
    #[serde(default)]
    dialect: Option<String>,
    #[serde(default)]
    names: serde_json::Map<String, Value>,
    #[serde(default)]
    preprocess: Option<Value>,
    #[serde(default)]
    labels: Option<Vec<String>>,
    #[serde(default)]
    license: Option<String>,
}

/// The bundle format that is written. Format 1 is read as well.
pub(crate) const FORMAT: u32 = 2;
/// The format of bundles whose weights are in 8 bits: format 2 with `precision`, and matrices with scales beside them.
pub(crate) const INT8_FORMAT: u32 = 3;

/// Keys that format 1 spells differently.
const RENAMED: [(&str, &str); 4] = [
    ("licence", "license"),
    ("normalise", "normalize"),
    ("centre-crop", "center-crop"),
    ("standardisation_epsilon", "standardization_epsilon"),
];

/// Brings a description in format 1 to format 2.
fn migrate(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (old, new) in RENAMED {
                if let Some(value) = fields.remove(old) {
                    fields.insert(new.to_owned(), value);
                }
            }
            if let Some(channels) = fields.get_mut("channels").filter(|channels| *channels == "grey") {
                *channels = "gray".into();
            }
            fields.values_mut().for_each(migrate);
        }
        Value::Array(values) => values.iter_mut().for_each(migrate),
        _ => {}
    }
}

/// Rotary positions were a kind of positions, in the form of DINOv3, before they stood beside them.
fn migrate_rotary(value: &mut Value) {
    let Some(model) = value.get_mut("model").and_then(Value::as_object_mut) else { return };
    if let Some(rotary) = model.get("positions").and_then(|positions| positions.get("rotary")).cloned() {
        model.insert("positions".into(), "none".into());
        model.insert("rotary".into(), serde_json::json!({ "normalized": rotary }));
    }
}

/// Reads a bundle, whose tensors have our own names.
pub(super) fn bundle(file: &Path, stem: String, files: Vec<PathBuf>) -> Result<Description, WeightsError> {
    let mut description = checkpoint(file, stem, files)?;
    description.dialect.get_or_insert_with(|| "vitral".into());
    Ok(description)
}

/// Reads the description of a checkpoint.
pub(super) fn checkpoint(file: &Path, stem: String, files: Vec<PathBuf>) -> Result<Description, WeightsError> {
    described(file, read_json(file)?, stem, files)
}

impl Description {
    /// Reads a bundle's `vitral.json` from memory. `name` is used in place of the file name in errors.
    ///
    /// # Errors
    /// A [`WeightsError`] that says what is wrong.
    pub fn from_bundle(name: &str, text: &[u8]) -> Result<Self, WeightsError> {
        let file = Path::new(name);
        let value = serde_json::from_slice(text).map_err(|error| WeightsError::description(file, error))?;
        let mut description = described(file, value, name.to_owned(), Vec::new())?;
        description.dialect.get_or_insert_with(|| "vitral".into());
        Ok(description)
    }
}

fn described(file: &Path, mut value: Value, stem: String, files: Vec<PathBuf>) -> Result<Description, WeightsError> {
    match value.get("format") {
        Some(format) if *format == FORMAT || *format == INT8_FORMAT => {}
        // A file that describes a single checkpoint has no format.
        None => migrate(&mut value),
        Some(format) if *format == 1 => migrate(&mut value),
        Some(found) => {
            let fault = format!("expected format 1, {FORMAT} or {INT8_FORMAT}, found {found}; use a newer Vitral");
            return Err(WeightsError::description(file, fault));
        }
    }
    migrate_rotary(&mut value);
    let read: File = serde_json::from_value(value).map_err(|error| WeightsError::description(file, error))?;
    if let Some(dialect) = &read.dialect {
        Dialect::named(dialect)?;
    }
    let precision = read.precision.map(|name| name.parse::<Precision>()).transpose();
    let precision = precision.map_err(|fault| WeightsError::description(file, format!("`precision`: {fault}")))?;
    if let Some(labels) = read.labels.as_ref().filter(|labels| labels.len() != read.model.classes) {
        return Err(WeightsError::description(
            file,
            format!("`labels`: expected {} (`model.classes`), found {}", read.model.classes, labels.len()),
        ));
    }
    let torchvision = read.preprocess.as_ref().filter(|steps| steps.get("torchvision").is_some());
    let weights = torchvision.and_then(|steps| steps.get("weights")?.as_str());
    let set = weights.and_then(|weights| LabelSet::of_torchvision(weights, read.model.classes));
    let labels = read.labels.or_else(|| set.map(LabelSet::names));
    let mut names = Vec::new();
    for (ours, theirs) in read.names {
        let source: Source = serde_json::from_value(theirs).map_err(|_| {
            WeightsError::description(
                file,
                format!(
                    "`names.{ours}`: expected a tensor's name, a list of names to concatenate, or an object with `from`"
                ),
            )
        })?;
        names.push((ours, source));
    }
    Ok(Description {
        name: read.name.unwrap_or(stem),
        config: read.model,
        preprocess: read.preprocess.map_or(PreprocessSource::Absent, PreprocessSource::Vitral),
        labels,
        license: read.license,
        precision,
        dialect: read.dialect,
        names,
        files,
    })
}
