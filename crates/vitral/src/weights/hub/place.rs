//! Where models are downloaded from, and where they are stored.

use std::path::PathBuf;

/// A hub and its local cache.
#[derive(Clone, Debug)]
pub struct Hub {
    /// `https://huggingface.co`, or a mirror of it.
    pub endpoint: String,
    /// The token for gated and private models; sent only to the endpoint.
    pub token: Option<String>,
    /// The folder that contains `models--…`.
    pub cache: PathBuf,
    /// Whether only the cache may be used.
    pub offline: bool,
}

impl Hub {
    /// Reads the environment: HF_ENDPOINT, HF_TOKEN (or the file written by `hf auth login`), HF_HUB_CACHE, HF_HOME,
    /// HF_HUB_OFFLINE.
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = set("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
            let user = || PathBuf::from(set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_else(|| ".".into()));
            cache.unwrap_or_else(|| user().join(".cache")).join("huggingface")
        });
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = set("HF_TOKEN").or_else(|| std::fs::read_to_string(token_file).ok());
        let truth = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        Hub {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            offline: set("HF_HUB_OFFLINE").is_some_and(truth),
        }
    }
}
