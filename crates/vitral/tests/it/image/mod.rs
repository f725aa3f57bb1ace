//! Images: decoding, resizing and preprocessing, compared with Pillow and the libraries that use it.

mod decode;
mod hostile;
mod kinds;
mod preprocess;
mod resize;
mod shared;
mod torchvision;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vitral::image::{ImageError, Preprocess, RgbImage};

/// A file of the committed goldens.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/image").join(name)
}

fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
}

fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&golden_bytes(name)).unwrap()
}

/// Digests of pixels by file name.
fn golden_digests(name: &str) -> BTreeMap<String, String> {
    serde_json::from_slice(&golden_bytes(name)).unwrap()
}

/// An image's size and the SHA-256 of its pixels, in the format of the goldens.
fn digest(image: &RgbImage) -> String {
    format!("{}x{} {:x}", image.width(), image.height(), Sha256::digest(image.pixels()))
}

/// Values of a golden tensor.
fn numbers(tensors: &SafeTensors, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap_or_else(|error| panic!("`{name}`: {error}"));
    data.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// The largest difference between two byte strings.
fn furthest(left: &[u8], right: &[u8]) -> u8 {
    assert_eq!(left.len(), right.len(), "lengths must be equal");
    left.iter().zip(right).map(|(left, right)| left.abs_diff(*right)).max().unwrap_or(0)
}

/// The preprocessing described by a golden case.
fn described(case: &Value) -> Result<Preprocess, ImageError> {
    match case["origin"].as_str().unwrap() {
        "huggingface" => Preprocess::from_huggingface(&case["config"], case["model_type"].as_str()),
        "timm" => Preprocess::from_timm(&case["config"]),
        _ => Preprocess::from_torchvision(case["model"].as_str().unwrap(), case["weights"].as_str().unwrap()),
    }
}

/// The difference between a tensor and a golden with every `stride`th row and column, in levels of 255 before
/// normalization.
fn levels_apart(case: &Value, expected: &[f32], image: &RgbImage) -> f32 {
    let preprocess = described(case).unwrap_or_else(|error| panic!("{case}: {error}"));
    let tensor = preprocess.apply(image).unwrap();
    let size = preprocess.output_size_for(image.size());
    let channels = preprocess.channels.count();
    let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
    assert_eq!(shape, [channels, size.height, size.width], "{case}");
    let stride = case["stride"].as_u64().unwrap() as usize;
    let mut expected = expected.iter();
    let mut furthest = 0f32;
    for channel in 0..channels {
        let std = preprocess.normalize.as_ref().map_or(1.0, |normalize| normalize.std[channel]);
        let unit = if preprocess.rescale.is_some() { 255.0 } else { 1.0 };
        for row in (0..size.height).step_by(stride) {
            for column in (0..size.width).step_by(stride) {
                let ours = tensor[(channel * size.height + row) * size.width + column];
                furthest = furthest.max((ours - expected.next().unwrap()).abs() * std * unit);
            }
        }
    }
    assert!(expected.next().is_none(), "{case}: lengths must be equal");
    furthest
}
