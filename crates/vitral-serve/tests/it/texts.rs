//! Models of images and texts: labels in words, and vectors of texts.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vitral::features::FeatureKind;
use vitral::image::{Limits, decode};
use vitral::text::{TextLabels, TextModel};
use vitral::{Device, LoadOptions, Model};
use vitral_serve::{ModelSource, Options};

use crate::started::{Started, cat, read, some};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/texts").join(name)
}

/// Serves CLIP, then SigLIP and the built-in model, which takes no texts.
fn started() -> Started {
    let path = |name| ModelSource::path(golden(name), LoadOptions::default());
    let models = [("clip", path("clip")), ("siglip", path("siglip")), ("cifar10", ModelSource::embedded(None))];
    Started::serving(models, Options::default())
}

/// What the library gives for labels and a template.
fn expected(name: &str, labels: &[&str], template: &str) -> Vec<(String, f32)> {
    let labels = TextLabels::new(labels.iter().copied()).templates([template]);
    let model = Model::load(golden(name), &LoadOptions::default().labels(labels), &Device::cpu(1)).expect("a model");
    let ranked = model.classify_bytes(&cat(), usize::MAX).expect("labels");
    ranked.into_iter().map(|one| (one.label, one.probability)).collect()
}

/// Labels and scores, as they are in an answer.
fn same(found: &Value, expected: &[(String, f32)]) {
    let found = found.as_array().unwrap_or_else(|| panic!("{found}"));
    assert_eq!(found.len(), expected.len());
    for (found, (label, score)) in found.iter().zip(expected) {
        assert_eq!(found["label"], json!(label), "{found}");
        let near = (found["score"].as_f64().expect("a number") - f64::from(*score)).abs() < 1e-5;
        assert!(near, "{found}, expected {score}");
        assert_eq!(found.as_object().expect("a label").len(), 2);
    }
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

#[test]
fn labels_in_words_are_ranked_as_the_library_ranks_them() {
    let server = started();
    let labels = ["cat", "dog", "a ship"];
    let body = |parameters: Value| json!({ "inputs": STANDARD.encode(cat()), "parameters": parameters });
    let (status, found) = server.json("/", &body(json!({ "candidate_labels": labels })));
    assert_eq!(status, 200, "{found}");
    same(&found, &expected("clip", &labels, "This is a photo of {}."));
    // The small SigLIP takes short texts only.
    for (path, name) in [("/", "clip"), ("/models/siglip", "siglip")] {
        let asked = |labels: Value| json!({ "candidate_labels": labels, "hypothesis_template": "a {}" });
        let (status, found) = server.json(path, &body(asked(json!(labels))));
        assert_eq!(status, 200, "{found}");
        same(&found, &expected(name, &labels, "a {}"));
        // The same again, from what was kept, and in other forms.
        assert_eq!(server.json(path, &body(asked(json!(labels)))).1, found);
        assert_eq!(server.json(path, &body(asked(json!("cat, dog,a ship")))).1, found);
        let query = format!("{path}?hypothesis_template=a%20%7B%7D&candidate_labels=cat,dog,a%20ship");
        assert_eq!(server.image(&query, &cat()), (200, found.clone()));
        let query = format!(
            "{path}?hypothesis_template=a+%7B%7D&candidate_labels=cat&candidate_labels=dog&candidate_labels=a+ship"
        );
        assert_eq!(server.image(&query, &cat()), (200, found));
        let parameters = json!({ "candidate_labels": labels, "hypothesis_template": "the {}", "top_k": 2 });
        let (status, found) = server.json(path, &body(parameters));
        assert_eq!(status, 200, "{found}");
        same(&found, &expected(name, &labels, "the {}")[..2]);
    }
    let (_, info) = read(server.get("/info"));
    assert_eq!(info["pipeline_tag"], json!("zero-shot-image-classification"));
}

#[test]
fn texts_and_images_are_embedded_side_by_side() {
    let server = started();
    for name in ["clip", "siglip"] {
        let texts = TextModel::load(&golden(name), None, &Device::cpu(1)).expect("a text tower");
        let vectors = texts.embed(&["a photo of a cat", "two dogs"]).expect("vectors");
        let model = Model::load(golden(name), &LoadOptions::default(), &Device::cpu(1)).expect("a model");
        let image = decode(&cat(), &Limits::default()).expect("an image");
        let pixels = model.pixels(&[image]).expect("pixels");
        let output = model.run(&pixels, None).expect("an output");
        let own = match output.logits {
            Some(projected) => projected.to_vec(),
            None => model.features(&pixels, FeatureKind::Pooled).expect("features").to_vec(),
        };
        let uri = format!("data:image/jpeg;base64,{}", STANDARD.encode(cat()));
        let request = json!({ "model": name, "input": ["a photo of a cat", uri, "two dogs"] });
        let (status, found) = server.json("/v1/embeddings", &request);
        assert_eq!(status, 200, "{found}");
        for (index, expected) in [&vectors[0], &own.expect("values"), &vectors[1]].into_iter().enumerate() {
            assert_eq!(&floats(&found["data"][index]["embedding"]), expected, "{name}, input {index}");
            assert_eq!(found["data"][index]["index"], json!(index));
        }
        let tokens: usize =
            ["a photo of a cat", "two dogs"].iter().map(|text| texts.tokens(text).expect("tokens").len()).sum();
        assert_eq!(found["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
        // One text alone, in bytes.
        let request = json!({ "model": name, "input": "two dogs", "encoding_format": "base64" });
        let (status, found) = server.json("/v1/embeddings", &request);
        assert_eq!(status, 200, "{found}");
        let bytes: Vec<u8> = vectors[1].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(found["data"][0]["embedding"], json!(STANDARD.encode(bytes)));
    }
    let (_, models) = read(server.get("/v1/models"));
    let takes: Vec<&Value> = models["data"].as_array().expect("models").iter().map(|model| &model["texts"]).collect();
    assert_eq!(takes, [&json!(true), &json!(true), &json!(false)]);
}

#[test]
fn what_cannot_be_answered_is_said() {
    let server = started();
    let image = STANDARD.encode(cat());
    let zero_shot = |labels: Value| json!({ "inputs": image, "parameters": { "candidate_labels": labels } });
    let long = "cat ".repeat(200);
    for (path, body, status, says) in [
        ("/models/cifar10", zero_shot(json!(["cat", "dog"])), 400, "takes no texts"),
        ("/models/clip", json!({ "inputs": image }), 400, "candidate_labels"),
        ("/models/clip", zero_shot(json!([])), 400, "at least one label"),
        ("/models/clip", zero_shot(json!(["cat", "cat"])), 400, "given twice"),
        ("/models/clip", zero_shot(json!(["cat", ""])), 400, "none of them empty"),
        ("/models/clip", zero_shot(json!([long])), 400, "tokens"),
        ("/models/clip", zero_shot(json!(3)), 400, "candidate_labels"),
        ("/models/clip", zero_shot(json!(vec!["cat"; 129])), 413, "at most 128 texts"),
        (
            "/models/clip",
            json!({ "inputs": image, "parameters": { "candidate_labels": ["cat"], "hypothesis_template": "no place" } }),
            400,
            "no place",
        ),
        (
            "/models/clip",
            json!({ "inputs": image, "parameters": { "candidate_labels": ["cat"], "function_to_apply": "sigmoid" } }),
            400,
            "function_to_apply",
        ),
        (
            "/models/cifar10",
            json!({ "inputs": image, "parameters": { "hypothesis_template": "a {}" } }),
            400,
            "hypothesis_template",
        ),
        ("/v1/embeddings", json!({ "model": "cifar10", "input": "a photo of a cat" }), 400, "takes no texts"),
        ("/v1/embeddings", json!({ "model": "cifar10", "input": ["cats"] }), 415, "takes no texts"),
        ("/v1/embeddings", json!({ "model": "clip", "input": "https://example.org/cat.jpg" }), 400, "fetches nothing"),
        ("/v1/embeddings", json!({ "model": "clip", "input": image }), 400, "data URI"),
        ("/v1/embeddings", json!({ "model": "clip", "input": ["cat", 7] }), 400, "input 1"),
    ] {
        let (found, answer) = server.json(path, &body);
        let said = answer.to_string();
        assert_eq!(found, status, "{path}: {said}");
        assert!(said.contains(says) && !said.contains("goldens"), "{path}: {said}");
    }
    let (found, said) = read(server.post("/v1/classify?model=clip", "image/png", &cat()));
    assert_eq!(found, 400);
    assert!(said.to_string().contains("POST /?candidate_labels=a+cat,a+dog"), "{said}");
    // Neither of them is in the way of the next.
    assert_eq!(server.json("/models/clip", &zero_shot(json!(["cat"]))).0, 200);
}

#[test]
fn a_model_is_served_without_the_words_that_cannot_be_read() {
    // A copy without its tokenizer.
    let folder = tempfile::tempdir().expect("a folder");
    for entry in golden("clip").read_dir().expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["config.json", "preprocessor_config.json"].contains(&&*name) || name.ends_with(".safetensors") {
            std::fs::copy(entry.path(), folder.path().join(name)).expect("copied");
        }
    }
    let source = ModelSource::path(folder.path(), LoadOptions::default());
    let server = Started::serving([("clip", source)], Options::default().max_queue_size(some(4)));
    let uri = format!("data:image/jpeg;base64,{}", STANDARD.encode(cat()));
    assert_eq!(server.json("/v1/embeddings", &json!({ "input": uri })).0, 200);
    let body = json!({ "inputs": STANDARD.encode(cat()), "parameters": { "candidate_labels": ["cat", "dog"] } });
    let (status, answer) = server.json("/", &body);
    assert_eq!(status, 400);
    assert!(answer.to_string().contains("the server's log says why"), "{answer}");
}

#[test]
fn many_clients_with_many_labels_are_answered() {
    let server = started();
    let image = STANDARD.encode(cat());
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (server, image) = (&server, &image);
            scope.spawn(move || {
                for round in 0..4 {
                    let labels = [format!("cat {}", (client + round) % 3), "dog".to_owned()];
                    let body = json!({ "inputs": image, "parameters": { "candidate_labels": labels } });
                    let (status, found) = server.json("/", &body);
                    assert_eq!(status, 200, "{found}");
                    let sum: f64 =
                        found.as_array().expect("labels").iter().filter_map(|one| one["score"].as_f64()).sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{found}");
                }
            });
        }
    });
}
