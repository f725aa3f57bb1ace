//! Models and images of other bands than color, against timm, PyTorch and NumPy (`tools/golden/bands.py`).

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::json;
use vitral::image::preprocess::Channels;
use vitral::image::statistics::BandStatistics;
use vitral::image::{BandImage, DecodeOptions, Image, Note, Preprocess, decode_for, open, open_for};
use vitral::numbers::apart;
use vitral::{Device, LoadOptions, Model};

use crate::parity::difference;

/// The largest difference of logits and features, in standard deviations of timm's.
const ALLOWED: f32 = 2e-4;

/// The largest difference of a prepared value: PyTorch sums its weights in another order.
const PREPARED: f64 = 5e-5;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/bands")
}

fn tensors(file: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(file).expect("a golden");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
    let four = |bytes: &[u8]| -> [u8; 4] { bytes.try_into().expect("four") };
    match tensor.dtype() {
        safetensors::Dtype::F32 => tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(four(b))).collect(),
        safetensors::Dtype::I32 => tensor.data().chunks_exact(4).map(|b| i32::from_le_bytes(four(b)) as f32).collect(),
        safetensors::Dtype::U8 => tensor.data().iter().copied().map(f32::from).collect(),
        other => panic!("{other:?}"),
    }
}

fn expected(name: &str) -> Vec<f32> {
    tensors(&goldens().join("expected.safetensors"), name)
}

fn model(bands: usize) -> Model {
    let path = goldens().join(format!("model_{bands}"));
    Model::load(path, &LoadOptions::default(), &Device::cpu(0)).expect("a model of timm")
}

fn bands_of(name: &str, bands: usize) -> BandImage {
    let file = goldens().join("images").join(name);
    match open_for(file, Channels::Bands(bands), &DecodeOptions::default()).expect("an image").into_image() {
        Image::Bands(image) => image,
        Image::Rgb(_) => panic!("{name} in color"),
    }
}

#[test]
fn models_of_any_number_of_bands_give_the_numbers_of_timm() {
    for bands in [1, 2, 5, 12] {
        let (model, folder) = (model(bands), goldens().join(format!("model_{bands}")));
        let preprocess = model.preprocess().expect("timm's own");
        let channels = if bands == 1 { Channels::Gray } else { Channels::Bands(bands) };
        assert_eq!(preprocess.channels, channels);
        let pixels = tensors(&folder.join("input.safetensors"), "pixel_values");
        let pixels = Device::cpu(0).upload([1, bands, 32, 32], &pixels).expect("memory");
        let output = model.run(&pixels, None).expect("runs");
        let expected = |name| tensors(&folder.join("expected.safetensors"), name);
        let logits = difference(&output.logits.expect("a head").to_vec().expect("values"), &expected("logits"));
        let features = difference(&output.features.to_vec().expect("values"), &expected("features"));
        println!("{bands} bands: logits {logits:.1e}, features {features:.1e}");
        assert!(logits < ALLOWED && features < ALLOWED, "{bands}: {logits} {features}");
    }
}

#[test]
fn every_kind_of_file_holds_the_same_samples() {
    let samples = expected("samples");
    for name in [
        "interleaved.tif",
        "planar.tif",
        "pages.tif",
        "deflate_predictor_tiles.tif",
        "planar_big_endian.tif",
        "big.tif",
        "rgb_and_more.tif",
        "last.npy",
        "first.npy",
        "fortran.npy",
        "compressed.npz",
        "first.safetensors",
    ] {
        let image = bands_of(name, 5);
        assert_eq!((image.bands(), image.full()), (5, 65535.0), "{name}");
        assert_eq!(image.values(), samples, "{name}");
    }
    let real: Vec<f32> = samples.iter().map(|sample| sample / 65535.0).collect();
    for name in ["float32.tif", "float32.npy"] {
        let image = bands_of(name, 5);
        assert_eq!((image.values(), image.full()), (&real[..], 1.0), "{name}");
    }
    for (name, bands) in [("rgba", 4), ("la", 2)] {
        let image = bands_of(&format!("{name}.png"), bands);
        assert_eq!((image.values(), image.full()), (&expected(name)[..], 255.0), "alpha is a band of {name}");
    }
    let gray = bands_of("gray16.png", 1);
    assert_eq!((gray.values(), gray.full()), (&samples[..40 * 52], 65535.0));
}

#[test]
fn prepared_bands_are_those_of_pytorch() {
    let model = model(5);
    let image = bands_of("interleaved.tif", 5);
    let preprocess = model.preprocess().expect("timm's own");
    let mut bilinear = serde_json::to_value(&preprocess).expect("plain data");
    bilinear["steps"][0]["resize"]["filter"] = json!("bilinear");
    let bilinear = Preprocess::from_vitral(&bilinear).expect("our own format");
    for (name, preprocess) in [("bicubic", &preprocess), ("bilinear", &bilinear)] {
        let (found, expected) =
            (preprocess.apply(&image).expect("a tensor"), expected(&format!("pixel_values.{name}")));
        let worst = apart(&found, &expected);
        println!("{name}: largest difference {worst:.1e}");
        assert!(worst < PREPARED, "{name}: {worst}");
    }
    // Real numbers from 0 to 1 are the same image.
    let real = preprocess.apply(&bands_of("float32.tif", 5)).expect("a tensor");
    let whole = preprocess.apply(&image).expect("a tensor");
    assert!(apart(&real, &whole) < PREPARED);
    let logits = model.logits(&model.pixels(&[image]).expect("pixels")).expect("a head").to_vec().expect("values");
    let apart = difference(&logits, &expected("logits"));
    assert!(apart < ALLOWED, "{apart}");
}

#[test]
fn statistics_are_those_of_numpy() {
    let model = model(5);
    let mut found = BandStatistics::new(&model.preprocess().expect("timm's own"));
    found.add(&bands_of("planar.tif", 5)).expect("five bands");
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 2e-7 * b.abs());
    assert!(near(&found.mean(), &expected("mean")) && near(&found.std(), &expected("std")), "{found:?}");
}

#[test]
fn an_image_of_other_bands_is_refused_by_name() {
    let folder = goldens().join("images");
    let said = |name: &str, bands: usize| {
        let opened = open_for(folder.join(name), Channels::Bands(bands), &DecodeOptions::default());
        opened.expect_err("other bands").to_string()
    };
    for (name, bands, found) in [
        ("interleaved.tif", 4, "found 5"),
        ("interleaved.tif", 12, "found 5"),
        ("pages.tif", 12, "found 5, in 5 pages"),
        ("pages.tif", 3, "found more than 3"),
        ("last.npy", 4, "[40, 52, 5]"),
        ("rgba.png", 5, "found 4"),
    ] {
        let said = said(name, bands);
        assert!(said.contains(name) && said.contains(found), "{said}");
    }
    // Models that take color see what they saw before: a TIFF of bands is an error, a PNG loses its alpha.
    let said = open(folder.join("interleaved.tif"), &Default::default()).expect_err("no colors").to_string();
    assert!(said.contains("found 5 bands without colors") && said.contains("`--bands 5`"), "{said}");
    assert_eq!(open(folder.join("rgba.png"), &Default::default()).expect("a PNG").size().height, 40);
    assert!(
        open(folder.join("last.npy"), &Default::default()).expect_err("no image").to_string().contains("NumPy array")
    );
}

#[test]
fn the_first_page_of_several_is_not_taken_silently() {
    let notes = |name: &str, bands| {
        let path = goldens().join("images").join(name);
        let decoded = open_for(path, Channels::Bands(bands), &DecodeOptions::default()).expect("an image");
        decoded.notes().to_vec()
    };
    assert_eq!(notes("pages.tif", 1), [Note::FirstPage]);
    assert_eq!((notes("pages.tif", 5), notes("interleaved.tif", 5)), (vec![], vec![]));
}

#[test]
fn color_can_be_three_bands_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/images/cat.jpg");
    let bytes = std::fs::read(root).expect("a photograph");
    let decode = |bands| decode_for(&bytes, Channels::Bands(bands), &DecodeOptions::default());
    assert!(matches!(decode(3).expect("three").into_image(), Image::Bands(image) if image.bands() == 3));
    let said = decode(4).expect_err("four").to_string();
    assert!(said.contains("4 bands") && said.contains("red, green and blue"), "{said}");
}

#[test]
fn damaged_files_are_errors_or_images_of_the_same_bands() {
    let mut state = 11u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for name in
        ["planar.tif", "pages.tif", "deflate_predictor_tiles.tif", "first.npy", "compressed.npz", "first.safetensors"]
    {
        let whole = std::fs::read(goldens().join("images").join(name)).expect("a golden");
        for round in 0..200 {
            let mut bytes = whole.clone();
            if round % 4 == 0 {
                bytes.truncate(random(whole.len()));
            }
            // Headers are at either end.
            for _ in 0..1 + round % 3 {
                let far = if random(2) == 0 { random(400) } else { whole.len().saturating_sub(1 + random(600)) };
                if let Some(byte) = bytes.get_mut(far) {
                    *byte = random(256) as u8;
                }
            }
            if let Ok(decoded) = decode_for(&bytes, Channels::Bands(5), &DecodeOptions::default()) {
                assert!(matches!(decoded.image(), Image::Bands(image) if image.bands() == 5), "{name}");
            }
        }
    }
}
