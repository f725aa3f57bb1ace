//! What can go wrong between a name and a folder.

use std::path::{Path, PathBuf};

/// A fault between a name and a folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that no model can have.
    #[error("`{found}` is no model's name; expected `hf:ORG/NAME`, `hf:ORG/NAME@REVISION` or `timm/NAME`")]
    Name {
        /// What was given.
        found: String,
    },
    /// The hub cannot be reached.
    #[error("{url}: {fault}; check the connection, or set HF_ENDPOINT to a mirror")]
    Connection {
        /// What was asked for.
        url: String,
        /// What went wrong.
        fault: String,
    },
    /// The hub answered with a refusal.
    #[error("{url}: the hub answers {status}: {meaning}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What that means, and what to do.
        meaning: &'static str,
    },
    /// The hub's answer is not what its protocol says.
    #[error("{url}: {fault}; is HF_ENDPOINT a Hugging Face hub?")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A download is not what the hub promised.
    #[error("`{file}` of {name}: expected {expected}, found {found}; it was thrown away, fetch it again")]
    Checksum {
        /// The file.
        file: String,
        /// The model.
        name: String,
        /// Size or SHA-256.
        expected: String,
        /// What came.
        found: String,
    },
    /// A model that holds no file known here.
    #[error("{name} holds no weights that are read here (safetensors, `pytorch_model.bin`, `.npz`); it has {found}")]
    NoWeights {
        /// The model.
        name: String,
        /// Its files.
        found: String,
    },
    /// Nothing may be fetched, and the cache does not have it.
    #[error("{name} is not in the cache at `{}`, and HF_HUB_OFFLINE forbids to fetch it; unset it, or give a folder", cache.display())]
    Offline {
        /// The model.
        name: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The cache cannot be written or read.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word on it.
        source: std::io::Error,
    },
}

impl HubError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
        move |source| HubError::Io { path: path.to_owned(), source }
    }
}
