//! Real photographs and unusual files, which are not part of this repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vitral::config::Size;
use vitral::image::{Filter, Limits, open, resize};

use crate::shared_data;

use super::{digest, furthest, golden_bytes, golden_digests, golden_json, levels_apart, numbers};

/// The goldens store only a subset of rows and columns.
#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn photographs_are_preprocessed_as_in_the_libraries_with_shared_data() {
    let folder = shared_data("");
    let bytes = golden_bytes("shared.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut worst = 0f32;
    for (index, case) in golden_json("shared.json").as_array().unwrap().iter().enumerate() {
        let image = open(folder.join(case["image"].as_str().unwrap()), &Limits::default()).unwrap();
        let apart = levels_apart(case, &numbers(&tensors, &index.to_string()), &image);
        assert!(apart < 1e-3, "{case}: {apart} levels away");
        worst = worst.max(apart);
    }
    println!("largest difference: {worst} levels");
}

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn photographs_and_unusual_jpegs_match_pillow_exactly_with_shared_data() {
    let folder = shared_data("");
    let mut digests = golden_digests("jpeg_shared.json");
    digests.remove("cifar10-jpeg/test.tar.gz");
    let flowers = digests.remove("flowers12").unwrap();
    for (name, expected) in digests {
        assert_eq!(digest(&open(folder.join(&name), &Limits::default()).unwrap()), expected, "`{name}`");
    }
    let mut paths: Vec<PathBuf> = walkdir(&folder.join("flowers12"));
    paths.sort();
    let mut together = Sha256::new();
    for path in paths {
        together.update(open(path, &Limits::default()).unwrap().pixels());
    }
    assert_eq!(format!("{:x}", together.finalize()), flowers);
}

/// Every JPEG below a folder.
fn walkdir(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => walkdir(&path),
        false => Vec::from_iter(path.extension().is_some_and(|ending| ending == "jpg").then_some(path)),
    };
    entries.flat_map(below).collect()
}

/// Files for which we differ from Pillow on purpose or because decoders tolerate different errors, with the reason.
const EXCEPTIONS: [(&str, &str); 4] = [
    ("bmp/images/pal4rletrns.bmp", "skipped pixels of a run-length bitmap are black, not the first color"),
    ("bmp/images/lenient/", "invalid bitmaps; Pillow and the decoder tolerate different ones"),
    ("webp/extended_images/anim.webp", "a transparent first frame shows its canvas"),
    ("png/xcsn0g01.png", "a wrong checksum, which Pillow tolerates"),
];

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn the_corpus_decodes_as_in_pillow_or_is_rejected_with_shared_data() {
    let folder = shared_data("");
    let bytes = golden_bytes("corpus.safetensors");
    let thumbnails = SafeTensors::deserialize(&bytes).unwrap();
    let corpus: BTreeMap<String, Value> = serde_json::from_value(golden_json("corpus.json")).unwrap();
    let mut faults = Vec::new();
    for (name, expected) in &corpus {
        let outcome = open(folder.join(name), &Limits::default());
        let allowed = if name.ends_with("jpg") || name.ends_with("jpeg") { 0 } else { 1 };
        let fault = match (&outcome, expected.get("refused")) {
            // We read more bitmaps than Pillow does.
            (Ok(_), Some(_)) if name.ends_with(".bmp") => None,
            (Err(error), Some(_)) if error.to_string().contains(name) => None,
            (Ok(image), None) if expected["width"] != image.width() || expected["height"] != image.height() => {
                Some(format!("a size of {}", image.size()))
            }
            (Ok(image), None) => {
                let thumbnail = resize(image, Size::square(16), Filter::Bicubic);
                let apart = furthest(thumbnail.pixels(), thumbnails.tensor(name).unwrap().data());
                (apart > allowed).then(|| format!("{apart} levels away"))
            }
            (Ok(_), Some(_)) => Some("accepted, but rejected by Pillow".to_string()),
            (Err(error), _) => Some(error.to_string()),
        };
        let excepted = EXCEPTIONS.iter().any(|(part, _)| name.contains(part));
        if let Some(fault) = fault.filter(|_| !excepted) {
            faults.push(format!("{name}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{} of {} differ:\n{}", faults.len(), corpus.len(), faults.join("\n"));
}
