//! Models by name from a Hugging Face hub, kept where its own tools keep them.
//!
//! The cache has the hub's layout (`models--ORG--NAME/blobs`, `refs`, `snapshots`), so what `huggingface_hub` fetched is
//! found here and the other way round. A download goes on where it broke off, is checked against the hub's SHA-256 where it
//! gives one, and takes its place in one step.

mod cache;
mod fetch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cache::Cache;
use fetch::Fetcher;

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
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
        move |source| HubError::Io { path: path.to_owned(), source }
    }
}

/// A model on a hub, in one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// Who published it.
    pub organisation: String,
    /// What it is called.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl FromStr for HubName {
    type Err = HubError;

    /// Reads `hf:ORG/NAME[@REVISION]`; `hf:` may be left out.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let fault = || HubError::Name { found: text.to_owned() };
        let plain = text.strip_prefix("hf:").or_else(|| text.strip_prefix("hf-hub:")).unwrap_or(text);
        let (path, revision) = plain.split_once('@').unwrap_or((plain, "main"));
        let (organisation, name) = path.split_once('/').ok_or_else(fault)?;
        let fits = |part: &str, more: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c);
            !part.is_empty() && !part.contains("..") && !part.starts_with(['.', '/']) && part.chars().all(known)
        };
        if !fits(organisation, "") || !fits(name, "") || !fits(revision, "/") {
            return Err(fault());
        }
        let owned = str::to_owned;
        Ok(HubName { organisation: owned(organisation), name: owned(name), revision: owned(revision) })
    }
}

impl HubName {
    /// The name in what a person gave for a model: `hf:…`, or `timm/…` where no such folder exists. Nothing for paths.
    ///
    /// # Errors
    /// [`HubError::Name`] for `hf:` with something that is no name.
    pub fn in_place_of_path(text: &str) -> Result<Option<Self>, HubError> {
        let marked = text.starts_with("hf:") || text.starts_with("hf-hub:");
        if marked || (text.starts_with("timm/") && !Path::new(text).exists()) {
            return text.parse().map(Some);
        }
        Ok(None)
    }

    fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.name)?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes there are.
    pub done: u64,
    /// Bytes there will be, where known.
    pub total: Option<u64>,
}

/// A hub and the cache of what came from it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// `https://huggingface.co`, or a mirror of it.
    pub endpoint: String,
    /// What opens gated and private models; sent to the endpoint alone.
    pub token: Option<String>,
    /// The folder of `models--…`.
    pub cache: PathBuf,
    /// Whether only the cache may be used.
    pub offline: bool,
}

impl Hub {
    /// What the environment says: HF_ENDPOINT, HF_TOKEN (or the file that `hf auth login` writes), HF_HUB_CACHE, HF_HOME,
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

    /// The folder of a model, fetched where the cache does not have it. A connection that fails is no fault where the cache
    /// has the revision.
    ///
    /// # Errors
    /// Any [`HubError`].
    pub fn pull(&self, name: &HubName, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, HubError> {
        let cache = Cache::new(&self.cache, name);
        if self.offline {
            let kept = cache.snapshot(&name.revision);
            return kept.ok_or_else(|| HubError::Offline { name: name.to_string(), cache: self.cache.clone() });
        }
        let fetcher = Fetcher::new(self);
        let listed = match fetcher.list(name) {
            Ok(listed) => listed,
            Err(HubError::Connection { url, fault }) => {
                return cache.snapshot(&name.revision).ok_or(HubError::Connection { url, fault });
            }
            Err(other) => return Err(other),
        };
        let mut files = wanted(&listed.files).ok_or_else(|| {
            let found = if listed.files.is_empty() { "no file".into() } else { listed.files.join(", ") };
            HubError::NoWeights { name: name.to_string(), found }
        })?;
        let mut at = 0;
        while let Some(file) = files.get(at).cloned() {
            at += 1;
            let place = fetcher.file(name, &listed.commit, &file, &cache, progress)?;
            if file.ends_with(".index.json") {
                files.extend(shards(&place, &listed.files));
            }
        }
        cache.refer(&name.revision, &listed.commit)?;
        Ok(cache.folder(&listed.commit))
    }
}

/// A model's folder from what a person gave: a path, or a name that is pulled.
///
/// # Errors
/// Any [`HubError`] of a name; paths are passed on as they are.
pub fn locate(given: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, HubError> {
    match HubName::in_place_of_path(given)? {
        Some(name) => Hub::from_environment().pull(&name, progress),
        None => Ok(given.into()),
    }
}

/// The files that make a model: its descriptions, and its weights in the best form there is.
fn wanted(listed: &[String]) -> Option<Vec<String>> {
    const DESCRIPTIONS: [&str; 4] = ["vitral.json", "config.json", "preprocessor_config.json", super::CHECK_FILE];
    const WEIGHTS: [&str; 4] =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    let has = |name: &&str| listed.iter().any(|file| file == name);
    let mut archives = listed.iter().filter(|file| file.ends_with(".npz") && !file.contains('/'));
    let weights = WEIGHTS.into_iter().find(has).map(str::to_owned);
    let weights = weights.or_else(|| archives.next().filter(|_| archives.next().is_none()).cloned())?;
    Some(DESCRIPTIONS.into_iter().filter(has).map(str::to_owned).chain([weights]).collect())
}

/// The weight files that an index names and the hub has.
fn shards(index: &Path, listed: &[String]) -> Vec<String> {
    let files = super::container::expand(index).unwrap_or_default();
    let names = files.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| listed.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name: HubName = "hf:google/vit-base-patch16-224@refs/pr/3".parse().unwrap();
        assert_eq!(name.to_string(), "google/vit-base-patch16-224@refs/pr/3");
        let timm = HubName::in_place_of_path("timm/vit_tiny_patch16_224.augreg_in21k").unwrap().unwrap();
        assert_eq!((timm.organisation.as_str(), timm.revision.as_str()), ("timm", "main"));
        assert_eq!(HubName::in_place_of_path("./models/vit").unwrap(), None);
        for wrong in ["hf:vit", "hf:/x", "hf:a/..", "hf:a/b@../../x", "hf:a/b/c", "hf:a/b@", "hf:a b/c", "hf:../x/y"] {
            assert!(wrong.parse::<HubName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_best_form_of_the_weights_is_taken() {
        let of = |files: &[&str]| wanted(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            of(&["README.md", "config.json", "pytorch_model.bin", "model.safetensors"]).unwrap(),
            ["config.json", "model.safetensors"]
        );
        assert_eq!(of(&["ViT-B_16.npz"]).unwrap(), ["ViT-B_16.npz"]);
        assert!(of(&["a.npz", "b.npz"]).is_none() && of(&["tf_model.h5"]).is_none());
    }
}
