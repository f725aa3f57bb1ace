//! Adapted models compared with timm's: every folder of `goldens/adaptations`.

use serde_json::Value;
use vitral::config::{Head, ModelConfig, Problem, Size};
use vitral::model::Initialization;
use vitral::trace::TraceOptions;
use vitral::weights::adapt::{Adaptation, HeadChoice, TokenChoice};
use vitral::{Device, LoadOptions, Model};

use super::goldens;
use crate::parity::{Stored, difference};

fn size(asked: &Value, key: &str) -> Option<Size> {
    let value = asked.get(key).filter(|value| !value.is_null())?;
    Some(serde_json::from_value(value.clone()).unwrap())
}

fn adaptation(asked: &Value) -> Adaptation {
    Adaptation {
        image_size: size(asked, "img_size"),
        patch_size: size(asked, "patch_size"),
        channels: asked.get("in_chans").and_then(Value::as_u64).map(|channels| channels as usize),
        head: match asked.get("num_classes").and_then(Value::as_u64) {
            None => HeadChoice::Keep,
            Some(0) => HeadChoice::Drop,
            Some(classes) => HeadChoice::Zeros { classes: classes as usize },
        },
        distillation_token: if asked["drop_distillation"] == true { TokenChoice::Drop } else { TokenChoice::Keep },
        ..Adaptation::default()
    }
}

#[test]
fn every_adaptation_matches_timm() {
    let device = Device::cpu(2);
    let mut count = 0;
    for entry in std::fs::read_dir(goldens().join("adaptations")).unwrap() {
        let case = entry.unwrap().path();
        let asked: Value = serde_json::from_slice(&std::fs::read(case.join("adaptation.json")).unwrap()).unwrap();
        let source = goldens().join("models").join(asked["source"].as_str().unwrap());
        let options = LoadOptions::default().adapt(adaptation(&asked));
        let model =
            Model::load(&source, &options, &device).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let input = Stored::open(&case.join("input.safetensors"));
        let expected = Stored::open(&case.join("expected.safetensors"));
        let trace = TraceOptions::default().hidden_states(true);
        let trace = model.trace(&input.pixels(&device), None, trace).unwrap();
        let mut named = vec![("features".to_owned(), trace.output.features)];
        named.extend(trace.output.logits.map(|logits| ("logits".to_owned(), logits)));
        named.extend(trace.hidden_states.into_iter().enumerate().map(|(i, x)| (format!("hidden_states.{i}"), x)));
        assert_eq!(named.iter().any(|(name, _)| name == "logits"), expected.values("logits").is_some());
        for (name, found) in named {
            let (shape, values) = expected.values(&name).unwrap();
            assert_eq!(found.shape()[..], shape[..], "{} {name}", case.display());
            if values.iter().all(|value| *value == 0.0) {
                assert!(found.to_vec().unwrap().iter().all(|value| *value == 0.0), "{} {name}", case.display());
                continue;
            }
            let difference = difference(&found.to_vec().unwrap(), &values);
            assert!(difference < 2e-4, "{} {name} differs by {difference:.2e} standard deviations", case.display());
        }
        count += 1;
    }
    assert!(count >= 14, "only {count} adaptations");
}

#[test]
fn a_new_head_depends_on_its_seed_and_preprocessing_follows_the_size() {
    let device = Device::cpu(1);
    let case = goldens().join("models/hf_vit_classifier");
    let load = |seed| {
        let head = HeadChoice::Initialized { classes: 3, scheme: Initialization::Timm, seed };
        let adapt = Adaptation { image_size: Some(Size::square(64)), head, ..Adaptation::default() };
        Model::load(&case, &LoadOptions::default().adapt(adapt), &device).unwrap()
    };
    let head = |model: &Model| model.parameters().read(model.vit().declarations().find("head.weight").unwrap());
    assert_eq!(head(&load(1)), head(&load(1)));
    assert_ne!(head(&load(1)), head(&load(2)));
    let model = load(1);
    assert_eq!(model.preprocess().unwrap().output_size(), Some(Size::square(64)));
    assert_eq!(model.vit().config().classes, 3);
}

/// A head of several maps, all zero, would never learn.
#[test]
fn a_new_classifier_is_one_linear_map() {
    let source = ModelConfig { head: Head::Cosine { space: Some(8) }, head_bias: false, ..ModelConfig::default() };
    let adapt = Adaptation { head: HeadChoice::Zeros { classes: 3 }, ..Adaptation::default() };
    let target = adapt.target(&source);
    assert_eq!((target.head, target.head_bias, target.classes), (Head::Linear, true, 3));
    // CLIP's projection becomes a classifier, whose logits are no features.
    let source = ModelConfig { problem: Problem::Embedding, head_bias: false, ..ModelConfig::default() };
    let target = adapt.target(&source);
    assert_eq!((target.problem, target.head_bias, target.classes), (Problem::SingleLabel, true, 3));
}

/// Three bands in another order have the kernels of their colors.
#[test]
fn bands_of_three_colors_are_taken_in_their_order() {
    let case = goldens().join("models/timm_plain");
    let load = |colors| {
        let adapt = Adaptation { colors, ..Adaptation::default() };
        let model = Model::load(&case, &LoadOptions::default().adapt(adapt), &Device::cpu(1)).unwrap();
        let id = model.parameters().declarations().find("patches.weight").unwrap();
        (model.parameters().read(id).unwrap(), model.vit().config().patch_size.area())
    };
    let ((plain, area), (turned, _)) = (load(None), load(Some([2, 1, 0])));
    assert_eq!(plain[..area], turned[2 * area..3 * area]);
    assert_eq!(plain[area..2 * area], turned[area..2 * area]);
}
