//! What takes time to make, kept on disk between runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where what takes time to make is kept between runs: `$VITRAL_CACHE/cuda`, or `vitral/cuda` in the user's folder of
/// caches.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME").or_else(|| set("USERPROFILE"))?.join(".cache")));
    Some(set("VITRAL_CACHE").or_else(|| Some(caches()?.join("vitral")))?.join("cuda"))
}

/// Writes a file of the cache, whole or not at all. A cache that cannot be written costs time, not the run.
pub(super) fn keep(path: &std::path::Path, contents: &[u8]) {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let Some(folder) = path.parent() else { return };
    // Others may write the same file at this moment, threads of this program among them.
    let own = format!("{}-{}.tmp", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed));
    let unfinished = path.with_extension(own);
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&unfinished, contents))
        .and_then(|()| std::fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
}
