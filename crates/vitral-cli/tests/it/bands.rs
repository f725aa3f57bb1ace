//! Images of five bands through the commands, from fine-tuning a model of color to looking inside.

use std::path::Path;

use serde_json::Value;

use super::{folder, golden, names_in, tensor, vitral};

const SIDE: usize = 36;
const BANDS: usize = 5;
/// The band that tells the classes apart, from 1.
const TELLS: usize = 4;

/// An uncompressed TIFF of 16-bit samples, interleaved.
fn tiff(sample: impl Fn(usize, usize, usize) -> u16) -> Vec<u8> {
    let mut bytes = b"II*\0".to_vec();
    let data = SIDE * SIDE * BANDS * 2;
    bytes.extend((8 + data as u32 + 2 * BANDS as u32).to_le_bytes());
    for row in 0..SIDE {
        for column in 0..SIDE {
            (0..BANDS).for_each(|band| bytes.extend(sample(band, row, column).to_le_bytes()));
        }
    }
    let bits = bytes.len() as u32;
    (0..BANDS).for_each(|_| bytes.extend(16u16.to_le_bytes()));
    // Tag, type (3 is short, 4 long), count, value or place.
    let entries = [
        (256u16, 4u16, 1u32, SIDE as u32),
        (257, 4, 1, SIDE as u32),
        (258, 3, BANDS as u32, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, BANDS as u32),
        (279, 4, 1, data as u32),
        (284, 3, 1, 1),
    ];
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

/// A folder of two classes that differ in one band alone: in which half of the image it is bright.
fn scenes(place: &Path, each: usize) {
    let mut state = 7u64;
    for number in 0..each {
        for class in ["field", "forest"] {
            let mut noise = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 52) as u16
            };
            let samples: Vec<u16> = (0..BANDS * SIDE * SIDE)
                .map(|at| {
                    let (band, row) = (at / (SIDE * SIDE), at / SIDE % SIDE);
                    let bright = band + 1 == TELLS && (row < SIDE / 2) == (class == "field");
                    1000 + noise() + if bright { 3000 } else { 0 }
                })
                .collect();
            let image = tiff(|band, row, column| samples[(band * SIDE + row) * SIDE + column]);
            let folder = place.join(class);
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join(format!("{number:02}.tif")), image).expect("written");
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_model_of_color_learns_a_class_that_one_of_five_bands_shows() {
    let place = folder();
    let at = |name: &str| place.path().join(name).display().to_string();
    scenes(&place.path().join("train"), 24);
    scenes(&place.path().join("test"), 6);
    let color = golden("timm_plain").display().to_string();

    let said = vitral(["finetune", "--model", &color, &at("train"), "--out", &at("no"), "--bands", "5"]).fails(1);
    assert!(said.contains("`data.mean` and `data.std` of 5 bands") && said.contains("--statistics"), "{said}");
    assert!(!place.path().join("no").exists());

    #[rustfmt::skip]
    let run = [
        "finetune", "--model", &color, &at("train"), "--test", &at("test"), "--out", &at("run"), "--bands", "5", "--rgb-bands",
        "3,2,1", "--statistics", "--epochs", "12", "--batch", "8", "--lr", "3e-3", "--set", "augment.vertical_flip=0",
        "--set", "schedule.learning_rate_batch=8",
    ];
    let said = vitral(run).ok();
    assert!(said.contains("best"), "{said}");
    let best = at("run/best");

    // What the classes differ in was learned, and nothing else could be.
    let evaluated = json(&vitral(["evaluate", "--model", &best, &at("test"), "--json"]).ok());
    assert_eq!(evaluated["top1"], 1.0, "{evaluated}");
    let bundle = json(&std::fs::read_to_string(place.path().join("run/best/vitral.json")).expect("a bundle"));
    assert_eq!(bundle["name"], "run");
    assert_eq!(bundle["preprocess"]["channels"], serde_json::json!({ "bands": 5 }), "{bundle}");
    assert_eq!(bundle["model"]["channels"], 5);

    let classified = vitral(["classify", "--model", &best, &at("test/forest"), "--json", "--top", "1"]).ok();
    let rows: Vec<Value> = classified.lines().map(json).collect();
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row["labels"][0]["label"] == "forest"), "{classified}");

    vitral(["embed", "--model", &best, &at("test"), "--output", &at("features.safetensors")]).ok();
    assert_eq!(tensor(&place.path().join("features.safetensors"), "features").0, [12, 24]);
    vitral(["preprocess", "--model", &best, &at("test/field/00.tif"), "--output", &at("pixels.safetensors")]).ok();
    let (shape, pixels) = tensor(&place.path().join("pixels.safetensors"), "pixel_values");
    assert_eq!(shape, [1, 5, 32, 32]);
    assert!(pixels.iter().all(|value| value.abs() < 6.0));
    vitral(["forward", "--model", &best, "--input", &at("pixels.safetensors"), "--output", &at("out.safetensors")])
        .ok();

    let field = at("test/field/00.tif");
    #[rustfmt::skip]
    vitral([
        "explain", "--model", &best, &field, "--method", "chefer,gradient,occlusion,filters,distance", "--show-bands", "4,2,1",
        "--output", &at("maps"), "--report", &at("maps.html"),
    ]).ok();
    assert!(names_in(&place.path().join("maps/00")).contains(&"chefer.png".to_owned()));
    let said =
        vitral(["explain", "--model", &best, &field, "--show-bands", "6,2,1", "--output", &at("maps2")]).fails(1);
    assert!(said.contains("a band from 1 to 5"), "{said}");

    let info = vitral(["info", "--model", &best]).ok();
    assert!(info.contains("5 bands"), "{info}");
    vitral(["doctor", &best]).ok();
    vitral(["bench", "--model", &best, "--batch", "2", "--runs", "1", "--json"]).ok();

    vitral(["quantize", &best, &at("int8"), "--images", &at("test")]).ok();
    vitral(["convert", &best, &at("timm"), "--to", "timm"]).ok();
    vitral(["convert", &best, &at("graph.onnx"), "--to", "onnx"]).ok();
    let again = vitral(["classify", "--model", &at("timm"), &at("test/forest"), "--json", "--top", "1"]).ok();
    assert_eq!(again.lines().count(), 6);

    vitral(["probe", "--model", &best, &at("train"), "--test", &at("test")]).ok();
    vitral(["search", "index", &at("test"), "--model", &best, "--out", &at("index.safetensors")]).ok();
    let near =
        vitral(["search", "query", &at("index.safetensors"), &field, "-k", "3", "--gallery", &at("near.html")]).ok();
    assert!(near.contains("field"), "{near}");

    // Color is another thing, and said to be.
    let said = vitral(["classify", "--model", &best, "assets/images/cat.jpg"]).fails(1);
    assert!(said.contains("expected an image of 5 bands") && said.contains("red, green and blue"), "{said}");
    let said = vitral(["classify", &field]).fails(1);
    assert!(said.contains("5 bands"), "{said}");
}

#[test]
fn statistics_are_printed_as_a_recipe_takes_them() {
    let place = folder();
    let at = |name: &str| place.path().join(name).display().to_string();
    scenes(&place.path().join("scenes"), 2);
    let text = vitral(["statistics", &at("scenes"), "--bands", "5"]).ok();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).map(json);
    assert_eq!(value("bands"), Some(5.into()));
    let found = json(&vitral(["statistics", &at("scenes"), "--bands", "5", "--scale", "1", "--json"]).ok());
    let mean = |band: usize| found["normalize"]["mean"][band].as_f64().expect("a number");
    // Half of the fourth band is 3000 brighter; the noise has a mean of about 2047.
    assert!((mean(0) - 3047.0).abs() < 40.0 && (mean(3) - 4547.0).abs() < 40.0, "{found}");
    let scaled = value("mean").expect("a list")[3].as_f64().expect("a number");
    assert!((scaled * 65535.0 - mean(3)).abs() < 0.5, "{text}");
    let said = vitral(["statistics", &at("scenes"), "--bands", "4"]).fails(1);
    assert!(said.contains("expected an image of 4 bands") && said.contains("found 5"), "{said}");
}

#[test]
fn operations_on_colors_are_refused_for_bands() {
    let place = folder();
    let at = |name: &str| place.path().join(name).display().to_string();
    scenes(&place.path().join("scenes"), 2);
    let color = golden("timm_plain").display().to_string();
    for (setting, word) in [
        ("augment.policy=three", "`policy` changes colors"),
        ("augment.color_jitter={brightness=0.3}", "`color_jitter` changes colors"),
        ("data.scale=-1", "`data.scale` to be above 0"),
    ] {
        #[rustfmt::skip]
        let said = vitral([
            "finetune", "--model", &color, &at("scenes"), "--out", &at("run"), "--bands", "5", "--statistics", "--set", setting,
        ]).fails(1);
        assert!(said.contains(word), "{said}");
    }
}
