//! Who may import whom: the rooms of the library, held by their `use crate::` lines.

use std::path::{Path, PathBuf};

/// A room, and the rooms it may see. What is not listed joins the others and may see all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("image", &["config"]),
    ("model", &["config"]),
    ("weights", &["config", "model", "image", "npy", "whole"]),
    ("labels", &["numbers"]),
    // Reads what a forward pass shows; never weight files.
    ("explain", &["config", "error", "image", "labels", "model", "numbers", "predict", "trace"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source names after `crate::`.
fn named(text: &str) -> Vec<String> {
    text.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        .filter(|room| room.starts_with(|c: char| c.is_lowercase()))
        .collect()
}

#[test]
fn rooms_see_only_what_they_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30);
    let mut faults = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
        let room = relative.split(['/', '\\', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == room) else { continue };
        let text = std::fs::read_to_string(&file).expect("a source");
        for seen in named(&text) {
            if seen != room && !allowed.contains(&seen.as_str()) {
                faults.push(format!("{relative} sees `{seen}`; `{room}` may see {allowed:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
