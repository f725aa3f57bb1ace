//! Models by name from a Hugging Face hub, stored in the cache of Hugging Face's own tools.
//!
//! The cache has the hub's layout (`models--ORG--NAME/blobs`, `refs`, `snapshots`), so files downloaded by
//! `huggingface_hub` are found here and vice versa. An interrupted download is resumed, its SHA-256 is checked if the
//! hub has one, and the file is put in place atomically.

mod cache;
mod error;
mod fetch;
mod name;
mod place;

use std::path::{Path, PathBuf};

use cache::Cache;
use fetch::Fetcher;

pub use error::HubError;
pub use fetch::Progress;
pub use name::HubName;
pub use place::Hub;

impl Hub {
    /// The folder of a model, downloaded if it is not in the cache. A failed connection is not an error if the cache
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
        let texts = files.iter().any(|file| file == CONFIG).then(|| {
            let place = fetcher.file(name, &listed.commit, CONFIG, &cache, progress)?;
            Ok::<_, HubError>(has_texts(&place))
        });
        if texts.transpose()?.unwrap_or(false) {
            files.extend(tokenizer(&listed.files));
        }
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

/// A model's folder from user input: a path, or a name that is pulled.
///
/// # Errors
/// Any [`HubError`] for a name; paths are returned unchanged.
pub fn locate(given: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, HubError> {
    match HubName::in_place_of_path(given)? {
        Some(name) => Hub::from_environment().pull(&name, progress),
        None => Ok(given.into()),
    }
}

/// The files of a model: its descriptions, and its weights in the best format available.
fn wanted(listed: &[String]) -> Option<Vec<String>> {
    const DESCRIPTIONS: [&str; 5] =
        ["vitral.json", "config.json", "preprocessor_config.json", "processor_config.json", super::CHECK_FILE];
    const WEIGHTS: [&str; 4] =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
    let has = |name: &&str| listed.iter().any(|file| file == name);
    let mut archives = listed.iter().filter(|file| file.ends_with(".npz") && !file.contains('/'));
    let weights = WEIGHTS.into_iter().find(has).map(str::to_owned);
    let weights = weights.or_else(|| archives.next().filter(|_| archives.next().is_none()).cloned())?;
    Some(DESCRIPTIONS.into_iter().filter(has).map(str::to_owned).chain([weights]).collect())
}

const CONFIG: &str = "config.json";

/// Whether a configuration is of a model with a text tower.
fn has_texts(config: &Path) -> bool {
    let json = std::fs::read(config).ok().and_then(|text| super::json::parse(&text).ok());
    json.is_some_and(|json| json.get("text_config").or_else(|| json.get("text_config_dict")).is_some())
}

/// The files of a tokenizer, with the one that says what else is done to a text. Which of several forms is read depends on
/// that one, so all of them are fetched.
fn tokenizer(listed: &[String]) -> Vec<String> {
    const FILES: [&str; 5] = ["tokenizer_config.json", "tokenizer.json", "vocab.json", "merges.txt", "spiece.model"];
    let has = |name: &&str| listed.iter().any(|file| file == name);
    FILES.into_iter().filter(has).map(str::to_owned).collect()
}

/// The weight files that an index lists and the hub has.
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
        assert_eq!((timm.organization.as_str(), timm.revision.as_str()), ("timm", "main"));
        assert_eq!(HubName::in_place_of_path("./models/vit").unwrap(), None);
        for wrong in ["hf:vit", "hf:/x", "hf:a/..", "hf:a/b@../../x", "hf:a/b/c", "hf:a/b@", "hf:a b/c", "hf:../x/y"] {
            assert!(wrong.parse::<HubName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_best_weight_format_is_chosen() {
        let of = |files: &[&str]| wanted(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            of(&["README.md", "config.json", "pytorch_model.bin", "model.safetensors"]).unwrap(),
            ["config.json", "model.safetensors"]
        );
        assert_eq!(
            of(&["config.json", "processor_config.json", "model.safetensors"]).unwrap(),
            ["config.json", "processor_config.json", "model.safetensors"]
        );
        assert_eq!(of(&["ViT-B_16.npz"]).unwrap(), ["ViT-B_16.npz"]);
        assert!(of(&["a.npz", "b.npz"]).is_none() && of(&["tf_model.h5"]).is_none());
    }
}
