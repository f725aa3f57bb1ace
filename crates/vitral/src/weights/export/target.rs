//! The formats to export to.

use std::fmt;

/// A format to export to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Hugging Face folder: `config.json`, `preprocessor_config.json`, `model.safetensors`.
    HuggingFace,
    /// A timm folder: `config.json`, `model.safetensors`.
    Timm,
    /// A Google JAX file: `model.npz`.
    Jax,
    /// big_vision's file for training with `scan`: `model.npz`, blocks stacked along a first axis.
    BigVision,
    /// torchvision's names in `model.safetensors`, described by our `config.json`.
    Torchvision,
    /// Our own bundle: `vitral.json`, `model.safetensors`.
    Bundle,
}

impl Target {
    /// All targets.
    pub const ALL: [Target; 6] =
        [Target::HuggingFace, Target::Timm, Target::Jax, Target::BigVision, Target::Torchvision, Target::Bundle];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::HuggingFace => "huggingface",
            Target::Timm => "timm",
            Target::Jax => "jax",
            Target::BigVision => "big_vision",
            Target::Torchvision => "torchvision",
            Target::Bundle => "bundle",
        }
    }

    /// Whether it is a single NumPy archive, described only by its arrays.
    pub(super) fn is_archive(self) -> bool {
        matches!(self, Target::Jax | Target::BigVision)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Target::ALL.map(Target::name).join(", ");
        let name = match text.to_ascii_lowercase().replace('-', "_").as_str() {
            "hf" | "transformers" | "hugging_face" => "huggingface".to_owned(),
            "vitral" => "bundle".to_owned(),
            other => other.to_owned(),
        };
        Target::ALL
            .into_iter()
            .find(|target| target.name() == name)
            .ok_or_else(|| format!("expected one of {}", known()))
    }
}
