//! The cache of `huggingface_hub`: files named by checksum, and a folder of links for every commit.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::HubError;
use super::name::HubName;
use crate::atomic;

/// One model's part of the cache.
pub(super) struct Cache {
    root: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(cache: &Path, name: &HubName) -> Self {
        let own = format!("models--{}--{}", name.organization, name.name);
        Cache { root: cache.join(&own), locks: cache.join(".locks").join(own) }
    }

    /// The folder of a commit.
    pub(super) fn folder(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The folder of a revision that was pulled before.
    pub(super) fn snapshot(&self, revision: &str) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.root.join("refs").join(revision));
        let commit = commit.map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
        let plain = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Some(self.folder(&commit)).filter(|folder| plain && folder.is_dir())
    }

    /// The path of a file with this checksum.
    pub(super) fn blob(&self, checksum: &str) -> PathBuf {
        self.root.join("blobs").join(checksum)
    }

    /// Locks a file while it is downloaded, so that two processes do not write it at once.
    pub(super) fn lock(&self, checksum: &str) -> Result<fs::File, HubError> {
        let path = self.locks.join(format!("{checksum}.lock"));
        let create = || {
            fs::create_dir_all(&self.locks)?;
            fs::create_dir_all(self.root.join("blobs"))?;
            let file = fs::File::create(&path)?;
            file.lock()?;
            Ok(file)
        };
        create().map_err(HubError::io(&path))
    }

    /// Links a file into a commit's folder under its name.
    pub(super) fn link(&self, commit: &str, file: &str, checksum: &str) -> Result<PathBuf, HubError> {
        let place = self.folder(commit).join(file);
        let make = || {
            let folder = place.parent().unwrap_or(&self.root);
            fs::create_dir_all(folder)?;
            if place.exists() {
                return Ok(());
            }
            // A broken link.
            let _ = fs::remove_file(&place);
            link(&self.blob(checksum), checksum, file, &place)
        };
        make().map_err(HubError::io(&place))?;
        Ok(place)
    }

    /// Records the commit of a revision.
    pub(super) fn refer(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.root.join("refs").join(revision);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            atomic::write(&path, commit.as_bytes())
        };
        // A commit is its own name.
        if revision == commit { Ok(()) } else { write().map_err(HubError::io(&path)) }
    }
}

/// A relative link, as made by the hub's own tools; a copy where there are no links.
#[cfg(unix)]
fn link(_: &Path, checksum: &str, file: &str, place: &Path) -> std::io::Result<()> {
    let up = "../".repeat(2 + file.matches('/').count());
    std::os::unix::fs::symlink(format!("{up}blobs/{checksum}"), place)
}

#[cfg(not(unix))]
fn link(blob: &Path, _: &str, _: &str, place: &Path) -> std::io::Result<()> {
    fs::copy(blob, place).map(|_| ())
}
