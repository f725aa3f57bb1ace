//! The model that comes with the library: a small Vision Transformer that reads handwritten digits.

use std::path::Path;

use crate::Cpu;
use crate::error::Error;
use crate::predict::{LoadOptions, Model};
use crate::weights::{Container, Description};

/// `vitral.json` of `assets/digits`.
const DESCRIPTION: &[u8] = include_bytes!("../../../assets/digits/vitral.json");
/// Its weights.
const WEIGHTS: &[u8] = include_bytes!("../../../assets/digits/model.safetensors");

impl Model {
    /// The model that comes with the library; `assets/digits` says more of it.
    ///
    /// # Errors
    /// None that a build with its assets in order can have.
    pub fn embedded(device: &Cpu) -> Result<Self, Error> {
        let name = "the built-in model";
        let description = Description::from_bundle(name, DESCRIPTION)?;
        let container = Container::from_bytes(name, WEIGHTS.to_vec())?;
        Model::assemble(Path::new(name), description, &container, &LoadOptions::default(), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_model_reads_a_seven() {
        let model = Model::embedded(&Cpu::with_threads(1)).expect("in order");
        let seven = include_bytes!("../../../assets/digits/images/seven.png");
        let answers = model.classify_bytes(seven, 1).expect("a picture");
        assert_eq!(answers[0].label, "7");
    }
}
