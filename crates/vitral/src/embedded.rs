//! The model that comes with the library: a small hybrid Vision Transformer that tells CIFAR-10's ten
//! classes apart.

use std::path::Path;

use crate::Device;
use crate::error::Error;
use crate::load::{LoadOptions, Model};
use crate::weights::{Container, Description};

/// `vitral.json` of `assets/cifar10`.
const DESCRIPTION: &[u8] = include_bytes!("../assets/cifar10/vitral.json");
/// Its weights.
const WEIGHTS: &[u8] = include_bytes!("../assets/cifar10/model.safetensors");

/// What errors call it.
const NAME: &str = "the built-in model";

impl Model {
    /// The model that comes with the library; `assets/cifar10` says more of it.
    ///
    /// # Errors
    /// None that a build with its assets in order can have.
    pub fn embedded(device: &Device) -> Result<Self, Error> {
        let description = Description::from_bundle(NAME, DESCRIPTION)?;
        Model::assemble(Path::new(NAME), description, &Model::embedded_weights()?, &LoadOptions::default(), device)
    }

    /// The weights of the model that comes with the library, as they are stored.
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
    fn the_built_in_model_knows_its_images() {
        let model = Model::embedded(&Device::cpu(1)).expect("in order");
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
