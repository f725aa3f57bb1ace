//! Integration tests of the library, in one binary.

mod bands;
mod dinov2;
mod explain;
mod field;
mod geometry;
mod image;
mod modules;
mod onnx;
mod parity;
mod predict;
mod relative;
mod resnet;
mod search;
mod sizes;
mod stem;
mod texts;
mod tiles;
mod tiny_vits;
mod weights;

use std::path::{Path, PathBuf};

/// A file or folder of data outside this repository, in `VITRAL_SHARED_DATA` or `../shared/data`. Tests that need it
/// are ignored unless requested by name, and then fail without it.
pub(crate) fn shared_data(name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("VITRAL_SHARED_DATA").map_or_else(beside, Into::into);
    there(folder.join(name), "VITRAL_SHARED_DATA")
}

/// A folder that was downloaded because it is too large for this repository, in `VITRAL_DATA` or
/// `~/.cache/vitral-data`.
pub(crate) fn fetched(name: &str) -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".cache/vitral-data");
    let folder = std::env::var_os("VITRAL_DATA").map_or_else(home, Into::into);
    there(folder.join(name), "VITRAL_DATA")
}

fn there(path: PathBuf, variable: &str) -> PathBuf {
    assert!(path.exists(), "this test needs `{}`, which is missing; set `{variable}` to its folder", path.display());
    path
}
