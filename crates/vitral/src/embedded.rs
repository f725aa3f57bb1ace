//! The built-in model: a small hybrid Vision Transformer that classifies CIFAR-10.

use std::path::Path;

use crate::Device;
use crate::error::Error;
use crate::load::{LoadOptions, Model};
use crate::weights::{Container, Description};

/// `vitral.json` of `assets/cifar10`.
const DESCRIPTION: &[u8] = include_bytes!("../assets/cifar10/vitral.json");
/// Its weights.
const WEIGHTS: &[u8] = include_bytes!("../assets/cifar10/model.safetensors");

/// The name used in error messages.
const NAME: &str = "the built-in model";

impl Model {
    /// The built-in model, documented in `assets/cifar10`.
    ///
    /// # Errors
    /// None in a correct build.
    pub fn embedded(device: &Device) -> Result<Self, Error> {
        Model::embedded_with(&LoadOptions::default(), device)
    }

    /// The built-in model, loaded with options.
    ///
    /// # Errors
    /// If the options do not fit it.
    pub fn embedded_with(options: &LoadOptions, device: &Device) -> Result<Self, Error> {
        let description = Description::from_bundle(NAME, DESCRIPTION)?;
        Model::assemble(Path::new(NAME), description, &Model::embedded_weights()?, options, device)
    }

    /// The weights of the built-in model, as stored.
    ///
    /// # Errors
    /// As [`Model::embedded`].
    pub fn embedded_weights() -> Result<Container, Error> {
        Ok(Container::from_bytes(NAME, WEIGHTS.to_vec())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_classifies_its_images() {
        let model = Model::embedded(&Device::cpu(1)).expect("a correct build");
        for (image, label) in [
            (&include_bytes!("../../../assets/images/automobile.jpg")[..], "automobile"),
            (include_bytes!("../../../assets/images/bird.jpg"), "bird"),
            (include_bytes!("../../../assets/images/cat.jpg"), "cat"),
        ] {
            let answers = model.classify_bytes(image, 1).expect("an image");
            assert_eq!(answers[0].label, label);
        }
    }
}
