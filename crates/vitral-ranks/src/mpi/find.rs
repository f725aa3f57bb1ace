//! Where the MPI library is that belongs to a launcher.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::error::RanksError;
use crate::launcher::Launcher;

/// The library of the MPI-5 standard ABI.
const STANDARD: &[&str] = if cfg!(target_os = "macos") { &["libmpi_abi.1.dylib"] } else { &["libmpi_abi.so.1"] };
const OPEN_MPI: &[&str] = if cfg!(target_os = "macos") { &["libmpi.40.dylib"] } else { &["libmpi.so.40"] };
const MPICH: &[&str] =
    if cfg!(target_os = "macos") { &["libmpi.12.dylib"] } else { &["libmpi.so.12", "libmpich.so.12"] };

/// A library that was found.
pub(super) struct Found {
    pub(super) library: Library,
    pub(super) path: PathBuf,
}

/// The variable that names a library, or a folder with one.
const VARIABLE: &str = "VITRAL_MPI";

/// What the user has named.
pub(super) fn named() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Opens the library of the launcher: the one that the user names, the one beside the launcher, or the first that the
/// system finds.
///
/// # Errors
/// What was looked for, if there is none.
pub(super) fn find(launcher: &Launcher) -> Result<Found, RanksError> {
    let names: Vec<&str> = match () {
        () if launcher.is_open_mpi() => [OPEN_MPI, STANDARD].concat(),
        () if launcher.is_mpich() => [STANDARD, MPICH].concat(),
        () => [STANDARD, OPEN_MPI, MPICH].concat(),
    };
    if let Some(given) = named() {
        let path = if given.is_dir() {
            let inside = names.iter().map(|name| given.join(name)).find(|path| path.exists());
            let looked = || RanksError::NoLibrary {
                launcher: launcher.name.to_owned(),
                looked: format!("looked for {} in `{}`, which `{VARIABLE}` names", listed(&names), given.display()),
            };
            inside.ok_or_else(looked)?
        } else {
            given
        };
        return open(&path).map_err(|fault| RanksError::Library { path: path.display().to_string(), fault });
    }
    let mut faults = Vec::new();
    let folders = folders();
    for path in folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name))) {
        if path.exists() {
            match open(&path) {
                Ok(found) => return Ok(found),
                Err(fault) => faults.push(fault),
            }
        }
    }
    for name in &names {
        if let Ok(found) = open(Path::new(name)) {
            return Ok(found);
        }
    }
    let places: Vec<String> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
    let mut looked = format!("looked for {} where the system looks and in {}", listed(&names), places.join(", "));
    if !faults.is_empty() {
        looked += &format!("; {}", faults.join("; "));
    }
    Err(RanksError::NoLibrary { launcher: launcher.name.to_owned(), looked })
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn open(path: &Path) -> Result<Found, String> {
    // Global, because Open MPI's own plugins look for the library's symbols among all.
    // SAFETY: an MPI library does nothing on loading that another thread could be hurt by.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| error.to_string())?;
    Ok(Found { library, path: path.to_owned() })
}

/// Folders beside the launcher, then those that environments and distributions have.
fn folders() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = launcher_root().into_iter().collect();
    roots.extend(["MPI_HOME", "OPAL_PREFIX", "I_MPI_ROOT"].iter().filter_map(std::env::var_os).map(PathBuf::from));
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let mut folders: Vec<PathBuf> = roots
        .iter()
        .flat_map(|root| {
            ["lib", "lib64", "lib/release"]
                .map(|lib| root.join(lib))
                .into_iter()
                .chain([root.join("lib").join(&machine)])
        })
        .collect();
    folders.extend(
        ["/usr/lib64/openmpi/lib", "/usr/lib64/mpich/lib", "/opt/openmpi/lib", "/opt/homebrew/lib", "/usr/local/lib"]
            .map(PathBuf::from),
    );
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| folder.is_dir() && seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())));
    folders
}

/// The folder above the `bin` of the program that started this one: `mpirun` itself, or its deputy on the machine.
fn launcher_root() -> Option<PathBuf> {
    let parent = std::os::unix::process::parent_id();
    let program = std::fs::read_link(format!("/proc/{parent}/exe")).ok()?;
    let bin = program.parent()?;
    (bin.file_name()? == "bin").then(|| bin.parent().map(Path::to_owned))?
}
