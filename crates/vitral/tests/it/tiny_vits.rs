//! Four checkpoints trained by others, on the data they were trained for: their own logits and their accuracy.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use vitral::image::{Limits, RgbImage, decode};
use vitral::numbers::apart;
use vitral::{Device, LoadOptions, Model};

use crate::{fetched, shared_data};

const SIDE: usize = 28;

fn load(data: &Path, name: &str, file: &str) -> Model {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../goldens/tiny-vits/{name}.json"));
    let options = LoadOptions::default().config(config);
    let path = data.join("tiny-vits").join(name).join(file);
    Model::load(&path, &options, &Device::cpu(0)).unwrap_or_else(|error| panic!("{error}"))
}

fn reference(data: &Path, name: &str) -> Value {
    let text = std::fs::read(data.join("tiny-vits").join(name).join("reference_logits.json")).expect("a reference");
    serde_json::from_slice(&text).expect("JSON")
}

/// Compares the logits of the first images with the reference.
fn compare(model: &Model, images: &[RgbImage], reference: &Value) {
    let expected: Vec<Vec<f32>> = serde_json::from_value(reference["logits"].clone()).expect("rows of logits");
    let output = model.run(&model.pixels(&images[..expected.len()]).expect("pixels"), None).expect("runs");
    let found = output.logits.expect("a classifier");
    let expected = expected.concat();
    assert_eq!(found.to_vec().unwrap().len(), expected.len());
    let worst = apart(&found.to_vec().unwrap(), &expected);
    println!("{}: largest difference in logits {worst:.1e}", model.name());
    assert!(worst < 1e-3, "{}: {worst}", model.name());
}

/// Top-1 accuracy in percent.
fn accuracy(model: &Model, images: &[RgbImage], labels: &[u8]) -> f64 {
    assert_eq!(images.len(), labels.len());
    let right = |(images, labels): (&[RgbImage], &[u8])| {
        let answers = model.classify(images, 1).expect("classified");
        answers.iter().zip(labels).filter(|(answer, label)| answer[0].class == usize::from(**label)).count()
    };
    let right: usize = images.chunks(100).zip(labels.chunks(100)).map(right).sum();
    let percent = 100.0 * right as f64 / images.len() as f64;
    println!("{}: {percent:.2} % of {}", model.name(), images.len());
    percent
}

/// The test images and labels of MNIST or Fashion-MNIST.
fn idx(folder: &Path) -> (Vec<RgbImage>, Vec<u8>) {
    let unpacked = |name: &str, header: usize| {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(folder.join(name)).expect("a file");
        GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
        bytes.split_off(header)
    };
    let pixels = unpacked("t10k-images-idx3-ubyte.gz", 16);
    let image = |gray: &[u8]| RgbImage::from_gray(SIDE, SIDE, gray).expect("an image");
    (pixels.chunks_exact(SIDE * SIDE).map(image).collect(), unpacked("t10k-labels-idx1-ubyte.gz", 8))
}

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn digits_have_the_published_accuracy_with_shared_data() {
    let data = shared_data("");
    let (images, labels) = idx(&data.join("mnist"));
    for (name, file, expected) in
        [("mnist_lucid_p4", "vit_mnist_gpu.pt", 97.21), ("mnist_torchvision_p2", "vit_weights.pth", 95.88)]
    {
        let model = load(&data, name, file);
        compare(&model, &images, &reference(&data, name));
        let found = accuracy(&model, &images, &labels);
        assert!((found - expected).abs() < 0.015, "{name}: {found} %, expected {expected} %");
    }
}

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA and Fashion-MNIST in VITRAL_DATA"]
fn fashion_has_the_published_accuracy_with_fashion_mnist() {
    let data = shared_data("");
    let model = load(&data, "fashion_prenorm_p4", "best_vit_model.pth");
    let (images, labels) = idx(&fetched("fashion-mnist"));
    compare(&model, &images, &reference(&data, "fashion_prenorm_p4"));
    let found = accuracy(&model, &images, &labels);
    assert!((found - 90.77).abs() < 0.015, "{found} %");
}

/// Files of an uncompressed tar archive.
fn tar(bytes: &[u8]) -> Vec<(String, &[u8])> {
    let mut files = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 512 && rest[0] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let field = &rest[range];
            String::from_utf8_lossy(&field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())])
                .into_owned()
        };
        let length = usize::from_str_radix(text(124..136).trim(), 8).expect("a length");
        files.push((text(0..100), &rest[512..512 + length]));
        rest = &rest[512 + length.next_multiple_of(512)..];
    }
    files
}

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn cifar_matches_its_reference_and_accuracy_with_shared_data() {
    let data = shared_data("");
    let model = load(&data, "cifar10_prenorm_p4", "best_vit.pth");
    let mut bytes = Vec::new();
    let archive = std::fs::File::open(data.join("cifar10-jpeg/test.tar.gz")).expect("an archive");
    GzDecoder::new(archive).read_to_end(&mut bytes).expect("gzip");
    let files = tar(&bytes);

    let reference = reference(&data, "cifar10_prenorm_p4");
    let inputs: Vec<String> = serde_json::from_value(reference["inputs"].clone()).expect("names");
    let image = |input: &String| {
        let (_, bytes) = files.iter().find(|(name, _)| name.ends_with(input.as_str())).expect("a file of the archive");
        decode(bytes, &Limits::default()).expect("an image")
    };
    compare(&model, &inputs.iter().map(image).collect::<Vec<_>>(), &reference);

    let names = model.labels().names().expect("labels");
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let folder = name.split('/').rev().nth(1).unwrap_or_default();
        if let Some(label) = names.iter().position(|known| known == folder && !bytes.is_empty()) {
            images.push(decode(bytes, &Limits::default()).expect("an image"));
            labels.push(label as u8);
        }
    }
    // Measured by others on a part of these images, which are lossy.
    let found = accuracy(&model, &images, &labels);
    assert!((found - 50.8).abs() < 3.0, "{found} %");
}
