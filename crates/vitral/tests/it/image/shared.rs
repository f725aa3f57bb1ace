//! Real photographs and awkward files, which are not part of this repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vitral::config::Size;
use vitral::image::{Filter, Limits, open, resize};

use crate::shared_data;

use super::{digest, furthest, golden_bytes, golden_digests, golden_json, levels_apart, numbers};

/// The goldens keep every few rows and columns only.
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
fn photographs_and_awkward_jpegs_are_pillows_to_the_bit_with_shared_data() {
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

/// Files where this and Pillow differ on purpose or by a decoder's leniency, and why.
const EXCEPTIONS: [(&str, &str); 5] = [
    ("bmp/images/pal4rletrns.bmp", "skipped pixels of a run-length bitmap are black, not the first color"),
    ("bmp/images/rgb16", "5-bit and 6-bit fields are widened with another rounding, one level away"),
    ("bmp/images/lenient/", "invalid bitmaps; Pillow and the decoder forgive different ones"),
    ("webp/extended_images/anim.webp", "a transparent first frame shows its canvas"),
    ("png/xcsn0g01.png", "a wrong checksum, which Pillow forgives"),
];

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn the_corpus_decodes_as_in_pillow_or_is_refused_with_shared_data() {
    let folder = shared_data("");
    let bytes = golden_bytes("corpus.safetensors");
    let thumbnails = SafeTensors::deserialize(&bytes).unwrap();
    let corpus: BTreeMap<String, Value> = serde_json::from_value(golden_json("corpus.json")).unwrap();
    let mut faults = Vec::new();
    for (name, expected) in &corpus {
        let outcome = open(folder.join(name), &Limits::default());
        let allowed = if name.ends_with("jpg") || name.ends_with("jpeg") { 0 } else { 1 };
        let fault = match (&outcome, expected.get("refused")) {
            // More bitmaps are read here than Pillow reads.
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
            (Ok(_), Some(_)) => Some("accepted, where Pillow refuses".to_string()),
            (Err(error), _) => Some(error.to_string()),
        };
        let excepted = EXCEPTIONS.iter().any(|(part, _)| name.contains(part));
        if let Some(fault) = fault.filter(|_| !excepted) {
            faults.push(format!("{name}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{} of {} differ:\n{}", faults.len(), corpus.len(), faults.join("\n"));
}
