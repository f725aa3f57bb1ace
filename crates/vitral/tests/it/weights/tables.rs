//! Every row of a table has a golden: dialects and each of their names, model types of Hugging Face, timm's
//! architectures, the catalog. A new row fails here until a golden of its library is added.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use vitral::config::ModelConfig;
use vitral::weights::catalog::{CATALOG, Origin};
use vitral::weights::description::{huggingface_model_types, timm_architectures};
use vitral::weights::{Dialect, load_description};

use super::{cases, describe, dialect, goldens, specs_of};

/// Whether a parameter's name matches a pattern with placeholders.
fn fits(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.split('.'), name.split('.'));
    loop {
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some("{p}"), Some("weight" | "bias")) => {}
            (Some(part), Some(given)) if part.starts_with('{') && part != "{p}" => {
                if !given.bytes().all(|byte| byte.is_ascii_digit()) {
                    return false;
                }
            }
            (Some(part), Some(given)) if part == given => {}
            _ => return false,
        }
    }
}

#[test]
fn every_name_of_every_dialect_has_a_golden() {
    let mut rows: BTreeMap<String, BTreeSet<String>> =
        Dialect::built_in().iter().map(|dialect| (dialect.name().to_owned(), dialect.parameters().collect())).collect();
    for case in cases() {
        let description = describe(&case);
        let container = description.open().unwrap();
        let used = dialect(&description, &container);
        let Some(left) = rows.get_mut(used.name()) else { continue };
        for spec in specs_of(&description.config) {
            // The first matching row is the one that is used.
            let found = used.parameters().find(|pattern| fits(pattern, &spec.name));
            if let Some(found) = found {
                left.remove(&found);
            }
        }
    }
    rows.retain(|_, left| !left.is_empty());
    assert!(rows.is_empty(), "names without a golden: {rows:#?}");
}

#[test]
fn every_model_type_of_hugging_face_has_a_golden() {
    let mut left: BTreeSet<&str> = huggingface_model_types().iter().copied().collect();
    for case in cases().iter().filter(|case| case.starts_with("hf_")) {
        let text = std::fs::read(goldens().join("models").join(case).join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        left.remove(config["model_type"].as_str().unwrap());
    }
    assert!(left.is_empty(), "model types without a golden: {left:?}");
}

/// A model's choices among alternatives: numbers count only if they switch something on.
fn choices(config: &ModelConfig) -> BTreeSet<String> {
    let Value::Object(fields) = json!(config) else { panic!("a configuration is an object") };
    let choice = |(field, value): (String, Value)| match value {
        Value::String(name) => Some(format!("{field} = {name}")),
        Value::Bool(on) => Some(format!("{field} = {on}")),
        Value::Null => Some(format!("{field} = none")),
        Value::Object(object) if field != "drop" => object.keys().next().map(|kind| format!("{field} = {kind}")),
        Value::Number(_) if ["layer_scale", "pre_logits", "qk_scale"].contains(&&*field) => {
            Some(format!("{field} = some"))
        }
        Value::Number(count) if field == "registers" => Some(format!("{field} = {}", count.as_u64() > Some(0))),
        _ => None,
    };
    fields.into_iter().filter_map(choice).collect()
}

/// The choices made by timm's goldens.
fn seen_of_timm() -> BTreeSet<String> {
    let timm = |case: &String| {
        let description = describe(case);
        let ours = description.dialect.as_deref().is_some_and(|name| name.starts_with("timm"));
        ours.then(|| choices(&description.config))
    };
    cases().iter().filter_map(timm).flatten().collect()
}

/// timm's description of an architecture; `None` if it is rejected by name.
fn of_timm(name: &str) -> Option<ModelConfig> {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "architecture": name, "pretrained_cfg": { "input_size": [3, 224, 224] } });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), b"").unwrap();
    match load_description(folder.path(), None) {
        Ok(description) => Some(description.config),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("not supported"), "{name}: {error}");
            None
        }
    }
}

#[test]
fn every_choice_of_every_architecture_of_timm_has_a_golden() {
    let seen = seen_of_timm();
    let mut without: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let (mut read, mut refused) = (0, 0);
    for name in timm_architectures() {
        let Some(config) = of_timm(name) else {
            refused += 1;
            continue;
        };
        read += 1;
        for choice in choices(&config).difference(&seen) {
            without.entry(choice.clone()).or_default().push(name);
        }
    }
    println!("{read} architectures of timm, {refused} rejected by name");
    assert!(read > 150, "only {read} architectures are read");
    assert!(without.is_empty(), "choices without a golden: {without:#?}");
}

#[test]
fn every_family_of_the_catalog_has_a_golden() {
    // Hugging Face's names contain the family; the first match counts.
    const FAMILIES: [(&str, &str); 9] = [
        ("beit", "beit"),
        ("dinov3", "dinov3_vit"),
        ("dinov2-with-registers", "dinov2_with_registers"),
        ("dinov2", "dinov2"),
        ("deit", "deit"),
        ("siglip", "siglip"),
        ("clip", "clip"),
        ("vit-msn", "vit_msn"),
        ("vit-mae", "vit_mae"),
    ];
    let known = huggingface_model_types();
    let architectures: BTreeSet<&str> = timm_architectures().collect();
    let mut faults = Vec::new();
    for row in CATALOG {
        let fault = match row.origin {
            Origin::HuggingFace => {
                let family = FAMILIES.iter().find(|(part, _)| row.name.contains(part)).map(|(_, family)| *family);
                let family = family.or_else(|| row.name.contains("/vit-").then_some("vit"));
                family.is_none_or(|family| !known.contains(&family))
            }
            Origin::Timm => {
                let name = row.name.strip_prefix("timm/").unwrap().split('.').next().unwrap();
                !architectures.contains(name) || of_timm(name).is_none()
            }
            Origin::Torchvision => Dialect::named("torchvision").is_err(),
        };
        if fault {
            faults.push(row.name);
        }
    }
    assert!(faults.is_empty(), "published models whose family has no golden: {faults:?}");
}
