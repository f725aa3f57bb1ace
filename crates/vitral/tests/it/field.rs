//! Model files as people have them (`goldens/field`, by `tools/golden/field.py`): read as the libraries read them, or refused
//! in words that name what is wrong.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vitral::image::{Limits, RgbImage, decode};
use vitral::labels::Ranked;
use vitral::weights::{Container, load_description};
use vitral::{Device, Error, LoadOptions, Model};

use crate::weights::goldens;

/// A case's folder.
fn case(name: &str) -> PathBuf {
    goldens().join("field").join(name)
}

fn expected(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("expected.json")).expect("expected.json")).expect("JSON")
}

fn image() -> RgbImage {
    decode(&std::fs::read(case("plain.png")).expect("the image"), &Limits::default()).expect("a PNG")
}

fn numbers(value: &Value) -> Option<Vec<f32>> {
    value.as_array().map(|all| all.iter().filter_map(|value| value.as_f64().map(|value| value as f32)).collect())
}

/// The model's answer to the image: logits, or features without a classifier.
fn answer(model: &Model) -> Result<Vec<f32>, Error> {
    let output = model.run(&model.pixels(&[image()])?, None)?;
    Ok(output.logits.unwrap_or(output.features).to_vec()?)
}

/// How the model's answer differs from the scores of the library's pipeline, by label.
fn unlike_scores(model: &Model, scores: &serde_json::Map<String, Value>) -> Option<String> {
    let ranked = model.classify(&[image()], 100).expect("an answer").remove(0);
    let near = |ranked: &Ranked| {
        // The library calls classes without names LABEL_0 and so on.
        let other = format!("LABEL_{}", ranked.class);
        let score = scores.get(&ranked.label).or_else(|| scores.get(&other)).and_then(Value::as_f64);
        score.is_some_and(|score| (score - f64::from(ranked.probability)).abs() < 1e-4)
    };
    let same = ranked.len() == scores.len() && ranked.iter().all(near);
    (!same).then(|| format!("expected {scores:?}, found {ranked:?}"))
}

/// What is wrong with a case.
fn fault(folder: &Path) -> Option<String> {
    let expected = expected(folder);
    let own = std::fs::read_to_string(folder.join("config.json")).unwrap_or_default().contains("\"dialect\"");
    let options = LoadOptions::default().config(own.then(|| folder.join("config.json")));
    let model = match (Model::load(folder, &options, &Device::cpu(1)), expected["refused"].as_str()) {
        (Ok(model), None) => model,
        (Ok(_), Some(_)) => return Some("was not refused".into()),
        (Err(error), None) => return Some(error.to_string()),
        (Err(error), Some(part)) => {
            return (!error.to_string().contains(part)).then(|| format!("`{part}` is not in: {error}"));
        }
    };
    if let Some(fault) = expected["scores"].as_object().and_then(|scores| unlike_scores(&model, scores)) {
        return Some(fault);
    }
    // Of some, only that everything is found is checked.
    let expected = numbers(&expected["logits"]).or_else(|| numbers(&expected["features"]))?;
    let found = match answer(&model) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let spread = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
    let near =
        expected.len() == found.len() && expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 2e-5 * spread);
    (!near).then(|| format!("expected {expected:?}, found {found:?}"))
}

#[test]
fn every_file_is_read_as_its_library_reads_it_or_refused_in_words() {
    let folders = std::fs::read_dir(goldens().join("field")).expect("the cases");
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.expect("an entry").path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    assert!(folders.len() > 80, "the cases are incomplete");
    let named = |folder: &PathBuf| fault(folder).map(|fault| format!("{}: {fault}", folder.display()));
    let faults: Vec<String> = folders.iter().filter_map(named).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn long_lists_are_cut_with_a_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = json!({ "model": { "depth": 24 }, "dialect": "timm" });
    std::fs::write(folder.path().join("model.json"), own.to_string()).expect("written");
    let weights = case("wrapper-net").join("pytorch_model.bin");
    let options = LoadOptions::default().config(folder.path().join("model.json"));
    let error = Model::load(&weights, &options, &Device::cpu(1)).expect_err("another model").to_string();
    assert!(error.contains("more missing") && error.lines().count() < 45, "{error}");
}

#[test]
fn labels_are_those_of_the_set_that_the_weights_name() {
    let labels = |config: Value| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
        std::fs::write(folder.path().join("model.safetensors"), b"").expect("written");
        load_description(folder.path(), None).expect("a description").labels
    };
    let timm = |tag: &str, classes: usize| {
        labels(json!({
            "architecture": "vit_tiny_patch16_224", "num_classes": classes,
            "pretrained_cfg": { "tag": tag, "num_classes": classes, "input_size": [3, 224, 224] },
        }))
    };
    let tabby = |labels: Option<Vec<String>>| labels.map(|labels| labels[281].clone());
    assert_eq!(tabby(timm("augreg_in21k_ft_in1k", 1000)).as_deref(), Some("tabby, tabby cat"));
    assert_eq!(timm("augreg_in21k", 21_843).expect("names").len(), 21_843);
    assert_eq!(timm("ft_in12k", 11_821).expect("names").len(), 11_821);
    for (tag, classes) in [("augreg_in21k_ft_in1k", 37), ("dino", 1000), ("", 1000)] {
        assert_eq!(timm(tag, classes), None, "{tag} {classes}");
    }
    let torchvision = |preprocess: Value| {
        labels(json!({ "model": { "classes": 1000 }, "dialect": "torchvision", "preprocess": preprocess }))
    };
    let preset = json!({ "torchvision": "vit_b_16", "weights": "IMAGENET1K_V1" });
    assert_eq!(tabby(torchvision(preset)).as_deref(), Some("tabby, tabby cat"));
    assert_eq!(torchvision(Value::Null), None);
}

#[test]
fn a_name_on_a_hub_without_its_mark_gets_a_hint() {
    let said = |path: &str| load_description(Path::new(path), None).expect_err("no such folder").to_string();
    assert!(said("google/vit-base-patch16-224").contains("write `hf:google/vit-base-patch16-224`"));
    for path in ["./models/vit", "/models/vit", "vit", "src/nothing", "a/b/c", "models/../vit"] {
        assert!(!said(path).contains("write `hf:"), "{path}");
    }
}

#[test]
fn sections_are_named_as_they_are_found() {
    let section = |name: &str| {
        let container = Container::open(&case(name).join("pytorch_model.bin")).expect("a checkpoint");
        container.section().map(str::to_owned)
    };
    assert_eq!(section("section-my-weights").as_deref(), Some("my_weights"));
    assert_eq!(section("section-beside-tensor").as_deref(), Some("model"));
    assert_eq!(section("whole-model-in-section").as_deref(), Some("model"));
    assert_eq!(section("whole-model"), None);
}
