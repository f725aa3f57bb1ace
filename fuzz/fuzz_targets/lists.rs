#![no_main]
//! Any bytes as a list of images, an archive, and the names of folders: a data set or an error.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vitral_train::data::{Split, ValidationSplit, open_part};

/// Opens the data at a path in every split.
fn opened(path: &Path) {
    for split in [Split::Train, Split::Validation, Split::Test] {
        if let Ok(part) = open_part(path, split, ValidationSplit::default()) {
            for index in 0..part.dataset.len() {
                let (labels, classes) = (part.dataset.labels(index), part.dataset.classes().len());
                assert!(labels.iter().all(|&label| label < classes));
                let _ = part.dataset.image(index);
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let place = tempfile::tempdir().expect("a folder");
    for name in ["list.csv", "list.tsv", "list.jsonl", "data.tar", "data.tar.gz", "data.zip", "images-idx3-ubyte"] {
        let path = place.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        opened(&path);
        std::fs::remove_file(&path).expect("removed");
    }
    // A tree of folders and files named by the bytes.
    for line in bytes.split(|&byte| byte == b'\n').take(20) {
        let Ok(name) = std::str::from_utf8(line) else { continue };
        let path = place.path().join(name.trim_start_matches('/').replace("..", "_"));
        if path.starts_with(place.path()) && path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok()) {
            let _ = std::fs::write(&path, b"P5 1 1 255 x");
        }
    }
    opened(place.path());
});
