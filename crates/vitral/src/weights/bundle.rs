//! A model in our own form: `vitral.json`, which says all there is to say of it, beside `model.safetensors`.

use std::borrow::Cow;
use std::path::Path;

use safetensors::tensor::{Dtype, View};
use serde_json::json;
use vitral_engine::Parameters;

use super::WeightsError;
use super::description::FORMAT;
use crate::config::ModelConfig;
use crate::image::Preprocess;

/// A parameter's values on their way into a file.
struct Values {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Values {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// What a bundle says of a model, beside its weights.
pub struct Bundle<'a> {
    /// What the model is called.
    pub name: &'a str,
    /// Its licence, where stated.
    pub licence: Option<&'a str>,
    /// The architecture.
    pub config: &'a ModelConfig,
    /// How its pictures are prepared.
    pub preprocess: &'a Preprocess,
    /// Names of its classes.
    pub labels: Option<&'a [String]>,
}

impl Bundle<'_> {
    /// Writes the bundle with its weights in float32 into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, folder: &Path, parameters: &Parameters) -> Result<(), WeightsError> {
        let description = json!({
            "format": FORMAT,
            "name": self.name,
            "licence": self.licence,
            "model": self.config,
            "preprocess": self.preprocess,
            "labels": self.labels,
        });
        let declarations = parameters.declarations();
        let tensors = declarations.ids().map(|id| {
            let spec = declarations.spec(id);
            let bytes = parameters.read(id).iter().flat_map(|value| value.to_le_bytes()).collect();
            (spec.name.clone(), Values { shape: spec.shape.clone(), bytes })
        });
        let file = folder.join("model.safetensors");
        let weights = safetensors::serialize(tensors, None)
            .map_err(|fault| WeightsError::io(&file, std::io::Error::other(fault)))?;
        std::fs::create_dir_all(folder).map_err(|fault| WeightsError::io(folder, fault))?;
        std::fs::write(&file, weights).map_err(|fault| WeightsError::io(&file, fault))?;
        let file = folder.join("vitral.json");
        std::fs::write(&file, format!("{description:#}\n")).map_err(|fault| WeightsError::io(&file, fault))
    }
}
