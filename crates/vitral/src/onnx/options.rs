//! How a model is exported.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use vitral_engine::DType;

use crate::config::Size;

/// The version of ONNX's set of operators that a graph is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opset {
    /// The first with LayerNormalization; read by every runtime of the last years.
    #[default]
    V17,
    /// Has a GELU of its own.
    V20,
    /// Has RMSNormalization and Attention.
    V23,
}

impl Opset {
    /// All of them.
    pub const ALL: [Opset; 3] = [Opset::V17, Opset::V20, Opset::V23];

    /// Its number.
    pub fn number(self) -> i64 {
        match self {
            Opset::V17 => 17,
            Opset::V20 => 20,
            Opset::V23 => 23,
        }
    }

    /// The version of the file format that came out with it, so that readers of its time read the file.
    pub(super) fn format(self) -> i64 {
        match self {
            Opset::V17 => 8,
            Opset::V20 => 9,
            Opset::V23 => 11,
        }
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl FromStr for Opset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Opset::ALL.into_iter().find(|opset| opset.to_string() == text);
        found.ok_or_else(|| format!("expected opset 17, 20 or 23, found `{text}`"))
    }
}

/// How a model is exported. By default for opset 17, for the images that its own preprocessing gives.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OnnxOptions {
    pub(super) config: Option<PathBuf>,
    pub(super) opset: Opset,
    pub(super) image_size: Option<Size>,
    pub(super) storage: Option<DType>,
    pub(super) external: bool,
}

impl OnnxOptions {
    /// The file that describes the model, for a checkpoint that does not describe itself.
    #[must_use]
    pub fn config(mut self, file: impl Into<Option<PathBuf>>) -> Self {
        self.config = file.into();
        self
    }

    /// The version of the set of operators.
    #[must_use]
    pub fn opset(mut self, opset: Opset) -> Self {
        self.opset = opset;
        self
    }

    /// The size of the images that the graph takes.
    #[must_use]
    pub fn image_size(mut self, size: impl Into<Option<Size>>) -> Self {
        self.image_size = size.into();
        self
    }

    /// The type of the stored weights. Without it, matrices that the model's files hold in 8 bits stay in 8 bits, beside others
    /// in bfloat16, and any other model is stored in 32. The graph computes in 32 bits in any case.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<Option<DType>>) -> Self {
        self.storage = storage.into();
        self
    }

    /// Whether the weights go into a file beside the graph, `NAME.data`, also where one file would hold them.
    #[must_use]
    pub fn external_data(mut self, external: bool) -> Self {
        self.external = external;
        self
    }
}
