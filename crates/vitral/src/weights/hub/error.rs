//! Errors in pulling a model from a hub.

use std::path::{Path, PathBuf};

/// An error in pulling a model from a hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that no model can have.
    #[error("`{found}` is not a model name; expected `hf:ORG/NAME`, `hf:ORG/NAME@REVISION` or `timm/NAME`")]
    Name {
        /// What was given.
        found: String,
    },
    /// The hub cannot be reached.
    #[error("{url}: {fault}; check the connection, or set HF_ENDPOINT to a mirror")]
    Connection {
        /// The requested URL.
        url: String,
        /// What went wrong.
        fault: String,
    },
    /// The hub refused the request.
    #[error("{url}: the hub answers {status}: {meaning}")]
    Status {
        /// The requested URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the status means, and what to do.
        meaning: &'static str,
    },
    /// The hub's answer does not follow its protocol.
    #[error("{url}: {fault}; is HF_ENDPOINT a Hugging Face hub?")]
    Answer {
        /// The requested URL.
        url: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A download does not match what the hub announced.
    #[error("`{file}` of {name}: expected {expected}, found {found}; it was deleted, fetch it again")]
    Checksum {
        /// The file.
        file: String,
        /// The model.
        name: String,
        /// Size or SHA-256.
        expected: String,
        /// Size or SHA-256 of the download.
        found: String,
    },
    /// A model without any file we can read.
    #[error("{name} has no weights in a supported format (safetensors, `pytorch_model.bin`, `.npz`); it has {found}")]
    NoWeights {
        /// The model.
        name: String,
        /// Its files.
        found: String,
    },
    /// The model is not in the cache, and downloads are disabled.
    #[error("{name} is not in the cache at `{}`, and HF_HUB_OFFLINE disables downloads; unset it, or give a folder", cache.display())]
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
        /// The system's error.
        source: std::io::Error,
    },
}

impl HubError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
        move |source| HubError::Io { path: path.to_owned(), source }
    }
}
