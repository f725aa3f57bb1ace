//! Text towers and classes in words, against transformers (`tools/golden/texts.py`).

use std::path::{Path, PathBuf};

use serde_json::Value;
use vitral::config::{Head, Problem};
use vitral::numbers::apart;
use vitral::onnx::{OnnxOptions, convert as to_onnx};
use vitral::text::{TextLabels, TextModel, Tokenizer};
use vitral::weights::export::{Target, export};
use vitral::{Device, Error, LoadOptions, Model, Tensor};

use crate::parity::{Stored, difference};

const MODELS: [&str; 3] = ["clip", "siglip", "siglip2"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/texts").join(name)
}

fn json(name: &str, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name).join(file)).unwrap()).unwrap()
}

fn labels(name: &str) -> Vec<String> {
    serde_json::from_value(json(name, "labels.json")).unwrap()
}

fn stored(name: &str) -> Stored {
    Stored::open(&golden(name).join("expected.safetensors"))
}

fn expected(name: &str, tensor: &str) -> (Vec<usize>, Vec<f32>) {
    stored(name).values(tensor).unwrap_or_else(|| panic!("no {tensor}"))
}

fn texts(name: &str) -> TextModel {
    TextModel::load(&golden(name), None, &Device::cpu(1)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn classifier(name: &str) -> Model {
    let options = LoadOptions::default().labels(TextLabels::new(labels(name)));
    Model::load(golden(name), &options, &Device::cpu(1)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn pixels(name: &str) -> Tensor {
    stored(name).pixels(&Device::cpu(1))
}

/// Compares within 2·10⁻⁴ of the expected values' standard deviation.
fn close(what: &str, found: &[f32], expected: &[f32]) {
    let difference = difference(found, expected);
    assert!(difference <= 2e-4, "{what}: {difference:e} of a deviation");
}

#[test]
fn tokens_equal_transformers_on_200_sentences_in_several_scripts() {
    for name in MODELS {
        let tokenizer = Tokenizer::of_folder(&golden(name)).unwrap();
        let known = json(name, "tokens.json");
        let sentences: Vec<String> = serde_json::from_value(known["sentences"].clone()).unwrap();
        let tokens: Vec<Vec<u32>> = serde_json::from_value(known["tokens"].clone()).unwrap();
        assert_eq!(sentences.len(), 200);
        for (sentence, expected) in sentences.iter().zip(tokens) {
            assert_eq!(tokenizer.tokens(sentence).unwrap(), expected, "{name}: {sentence:?}");
        }
        let filled: Vec<u32> = serde_json::from_value(known["filled"].clone()).unwrap();
        assert_eq!(texts(name).tokens(&labels(name)[0]).unwrap(), filled, "{name}");
    }
}

#[test]
fn vectors_of_texts_equal_transformers_alone_and_among_others() {
    for name in MODELS {
        let (model, labels) = (texts(name), labels(name));
        let vectors = model.embed(&labels).unwrap();
        let (shape, values) = expected(name, "text_features");
        assert_eq!(shape, [labels.len(), model.config().feature_width()], "{name}");
        close(name, &vectors.concat(), &values);
        for (label, vector) in labels.iter().zip(&vectors) {
            assert_eq!(&model.embed(&[label]).unwrap()[0], vector, "{name}: {label}");
        }
    }
}

#[test]
fn zero_shot_probabilities_equal_transformers() {
    for name in MODELS {
        let model = classifier(name);
        let logits = model.logits(&pixels(name)).unwrap().to_vec().unwrap();
        close(name, &logits, &expected(name, "logits").1);
        let problem = model.vit().config().problem;
        assert_eq!(problem == Problem::SingleLabel, name == "clip");
        let each = labels(name).len();
        let found: Vec<f32> = logits.chunks(each).flat_map(|row| vitral::labels::probabilities(row, problem)).collect();
        let largest = apart(&found, &expected(name, "probabilities").1);
        assert!(largest < 1e-5, "{name}: {largest}");
        assert_eq!(model.labels().names(), Some(&labels(name)[..]));
    }
}

#[test]
fn a_bundle_keeps_the_classes_and_so_does_a_graph() {
    let scratch = tempfile::tempdir().unwrap();
    for name in MODELS {
        let (model, bundle) = (classifier(name), scratch.path().join(name));
        export(&model.exported(), &bundle, Target::Bundle, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = Model::load(&bundle, &LoadOptions::default(), &Device::cpu(1)).unwrap();
        assert!(matches!(again.vit().config().head, Head::Cosine { .. }));
        let logits = |model: &Model| model.logits(&pixels(name)).unwrap().to_vec().unwrap();
        assert_eq!(logits(&again), logits(&model), "{name}");
        assert_eq!(again.labels(), model.labels());
        let graph = scratch.path().join(format!("{name}.onnx"));
        to_onnx(&bundle, &graph, &OnnxOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for target in [Target::HuggingFace, Target::Timm] {
            let refused = export(&model.exported(), &scratch.path().join("refused"), target, &[]).unwrap_err();
            assert!(refused.to_string().contains("head"), "{refused}");
        }
    }
}

/// The mean of directions, as in CLIP's paper.
#[test]
fn several_templates_are_one_class() {
    let model = texts("clip");
    let of = |labels: TextLabels| model.classes(&labels).unwrap();
    let one = of(TextLabels::new(["a cat", "a dog"]));
    let same = of(TextLabels::new(["cat", "dog"]).templates(["a {}", "a {}"]));
    assert_eq!(one.directions().len(), same.directions().len());
    close("twice the same", same.directions(), one.directions());
    let two = of(TextLabels::of_names(["red_cat", "dog"]).templates(["a {}", "old {}"]));
    assert_eq!(two.labels(), ["red_cat", "dog"]);
    let vectors = model.embed(&["a red cat", "old red cat"]).unwrap();
    let unit = |vector: &[f32]| {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / length).collect::<Vec<f32>>()
    };
    let [a, b] = [unit(&vectors[0]), unit(&vectors[1])];
    let mean: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    close("two templates", &two.directions()[..mean.len()], &unit(&mean));
}

#[test]
fn what_cannot_be_is_said() {
    let said = |labels: TextLabels, folder: &Path| {
        let loaded = Model::load(folder, &LoadOptions::default().labels(labels), &Device::cpu(1));
        loaded.err().unwrap_or_else(|| panic!("{} loaded", folder.display())).to_string()
    };
    let clip = golden("clip");
    let of = |labels: &[&str]| TextLabels::new(labels.iter().copied());
    assert!(said(of(&[]), &clip).contains("at least one"));
    assert!(said(of(&["a", "b", "a"]), &clip).contains("`a` is given twice"));
    assert!(said(of(&["a"]).templates(["a photo"]), &clip).contains("no `{}`"));
    let long = "cat ".repeat(80);
    assert!(matches!(texts("clip").embed(&[&long]), Err(Error::Text { expected: 77, .. })));
    // A model of images alone, a model that has classes, and one without its tokenizer.
    let models = golden("../models");
    assert!(said(of(&["a"]), &models.join("hf_vit_classifier")).contains("text"));
    let scratch = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(clip.join(file), scratch.path().join(file)).unwrap();
    }
    assert!(said(of(&["a"]), scratch.path()).contains("tokenizer.json"));
    // A tokenizer of another model, with more tokens than this one has.
    std::fs::copy(golden("clip").join("merges.txt"), scratch.path().join("merges.txt")).unwrap();
    let mut vocabulary = json("clip", "vocab.json");
    vocabulary["<|endoftext|>"] = 5000.into();
    std::fs::write(scratch.path().join("vocab.json"), vocabulary.to_string()).unwrap();
    assert!(said(of(&["a"]), scratch.path()).contains("token 5000"));
    for broken in ["", "{", "[]", "{\"a\": 1}"] {
        std::fs::write(scratch.path().join("vocab.json"), broken).unwrap();
        assert!(said(of(&["a"]), scratch.path()).contains("vocab.json"), "{broken}");
    }
    std::fs::write(scratch.path().join("tokenizer.json"), "{\"model\": {}}").unwrap();
    assert!(said(of(&["a"]), scratch.path()).contains("tokenizer.json"));
    std::fs::remove_file(scratch.path().join("tokenizer.json")).unwrap();
    std::fs::remove_file(scratch.path().join("vocab.json")).unwrap();
    // SigLIP 2's file is as good as SigLIP's, and texts are prepared in another way.
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(golden("siglip2").join(file), scratch.path().join(file)).unwrap();
    }
    assert!(said(of(&["a"]), scratch.path()).contains("tokenizer_config.json"));
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(clip.join(file), scratch.path().join(file)).unwrap();
    }
    std::fs::remove_file(scratch.path().join("tokenizer.json")).unwrap();
    for broken in [&b""[..], b"\x0a\xff", b"not a model"] {
        std::fs::write(scratch.path().join("spiece.model"), broken).unwrap();
        assert!(said(of(&["a"]), scratch.path()).contains("spiece.model"));
    }
}
