//! A model in our own form: `vitral.json`, which says all there is to say of it, beside `model.safetensors`.

use std::borrow::Cow;
use std::path::Path;

use safetensors::tensor::{Dtype, View};
use serde_json::json;

use crate::error::Error;
use crate::predict::Model;
use crate::weights::WeightsError;
use crate::weights::description::FORMAT;

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

impl Model {
    /// Writes the model as a Vitral bundle, float32, into a folder that is made if it is not there.
    ///
    /// # Errors
    /// If the folder cannot be written to, or the model's preprocessing cannot be read.
    pub fn save_bundle(&self, folder: &Path) -> Result<(), Error> {
        let description = json!({
            "format": FORMAT,
            "name": self.name,
            "licence": self.licence,
            "model": self.vit.config(),
            "preprocess": self.preprocess()?,
            "labels": self.labels.names(),
        });
        let declarations = self.vit.declarations();
        let tensors = declarations.ids().map(|id| {
            let spec = declarations.spec(id);
            let bytes = self.parameters.read(id).iter().flat_map(|value| value.to_le_bytes()).collect();
            (spec.name.clone(), Values { shape: spec.shape.clone(), bytes })
        });
        let file = folder.join("model.safetensors");
        let failed = |path: &Path, fault| WeightsError::io(path, fault);
        let weights =
            safetensors::serialize(tensors, None).map_err(|fault| failed(&file, std::io::Error::other(fault)))?;
        std::fs::create_dir_all(folder).map_err(|fault| failed(folder, fault))?;
        std::fs::write(&file, weights).map_err(|fault| failed(&file, fault))?;
        let file = folder.join("vitral.json");
        std::fs::write(&file, format!("{description:#}\n")).map_err(|fault| failed(&file, fault))?;
        Ok(())
    }
}
