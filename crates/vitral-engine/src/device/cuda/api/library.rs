//! Where NVIDIA's libraries are.

use std::path::{Path, PathBuf};

use libloading::Library;

/// A library that was found.
pub(super) struct Found {
    pub(super) library: Library,
    /// The name that it was found by.
    pub(super) name: String,
}

/// Opens the first of some names that is found: in the folder that the user gave, by the system's own search, or in the
/// places where CUDA's installers and Python's wheels put it.
///
/// # Errors
/// What was looked for, and where.
pub(super) fn open(names: &[String], given: Option<&Path>) -> Result<Found, String> {
    let mut tried = Vec::new();
    let mut open = |path: PathBuf| {
        // SAFETY: NVIDIA's libraries do nothing on loading that another thread could be hurt by.
        let found = unsafe { Library::new(&path) };
        match found {
            Ok(library) => Some(Found { library, name: path.display().to_string() }),
            Err(error) => {
                if path.components().count() > 1 {
                    tried.push(format!("`{}`: {error}", path.display()));
                }
                None
            }
        }
    };
    if let Some(folder) = given {
        for folder in [folder.to_owned(), folder.join("lib64"), folder.join("lib")] {
            for path in names.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
                if let Some(found) = open(path) {
                    return Ok(found);
                }
            }
        }
    }
    for name in names {
        if let Some(found) = open(name.into()) {
            return Ok(found);
        }
    }
    for folder in usual_folders() {
        for path in names.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
            if let Some(found) = open(path) {
                return Ok(found);
            }
        }
    }
    let named = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let folder = given.map_or_else(String::new, |folder| format!(" in `{}`,", folder.display()));
    let why = if tried.is_empty() { String::new() } else { format!("; {}", tried.join("; ")) };
    Err(format!("looked for {named}{folder} where the system looks and in the usual places{why}"))
}

/// Folders of CUDA's installers, of conda, and of Python's wheels (`nvidia-cublas`, `nvidia-cuda-nvrtc`).
fn usual_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for home in ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(std::env::var_os).map(PathBuf::from) {
        folders.extend([home.join("lib64"), home.join("lib"), home.join("bin")]);
    }
    folders.extend(
        [
            "/usr/local/cuda/lib64",
            "/usr/local/cuda/targets/x86_64-linux/lib",
            "/usr/local/cuda/targets/sbsa-linux/lib",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/usr/local/nvidia/lib64",
            "/usr/lib/wsl/lib",
            "/opt/cuda/lib64",
        ]
        .map(PathBuf::from),
    );
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let python = folder.join("python3");
        prefixes.extend(python.exists().then(|| folder.parent().map(Path::to_owned)).flatten());
        // The Python that a link in a common folder stands for.
        let real = python.canonicalize().ok();
        prefixes.extend(real.and_then(|path| Some(path.parent()?.parent()?.to_owned())));
    }
    prefixes.dedup();
    for prefix in prefixes {
        folders.push(prefix.join("lib"));
        let versions = entries(&prefix.join("lib"));
        for packages in versions.map(|version| version.join("site-packages/nvidia")).filter(|path| path.is_dir()) {
            folders.extend(entries(&packages).map(|package| package.join("lib")).filter(|path| path.is_dir()));
        }
    }
    folders
}

/// What is in a folder, in order.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter()
}
