//! What is converted is read by its own library, or is not written at all.

use std::path::Path;

use serde_json::{Value, json};
use vitral::config::{Pooling, Problem, Size};
use vitral::model::Initialization;
use vitral::weights::adapt::{Adaptation, HeadChoice};
use vitral::weights::export::{ConvertOptions, Target, convert, export};
use vitral::weights::{WeightsError, load_description};
use vitral::{Device, LoadOptions, Model};

use super::goldens;

fn options() -> ConvertOptions {
    ConvertOptions::default()
}

fn golden(name: &str) -> std::path::PathBuf {
    goldens().join("models").join(name)
}

/// A golden with its preprocessing changed.
fn changed(case: &str, to: &Path, change: impl Fn(&mut Value)) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(golden(case)).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let file = to.join("preprocessor_config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

/// The logits of an image of waves, as bits.
fn logits(model: &Model) -> Vec<u32> {
    let size = model.vit().config().image_size;
    let values: Vec<f32> = (0..3 * size.area()).map(|i| (i as f32 * 0.37).sin()).collect();
    let pixels = Device::cpu(1).upload([1, 3, size.height, size.width], &values).unwrap();
    model.logits(&pixels).unwrap().to_vec().unwrap().iter().map(|value| value.to_bits()).collect()
}

fn load(path: &Path) -> Model {
    Model::load(path, &LoadOptions::default(), &Device::cpu(1)).unwrap_or_else(|error| panic!("{error}"))
}

/// DINOv2 fine-tuned on its class token: transformers' classifier also reads the mean of the patches.
#[test]
fn a_classifier_of_the_class_token_becomes_one_of_both_and_back() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    for case in ["hf_dinov2_model", "hf_dinov2_registers_model"] {
        let head = HeadChoice::Initialized { classes: 7, scheme: Initialization::Timm, seed: 3 };
        let adapt = Adaptation { head, ..Adaptation::default() };
        let trained = Model::load(golden(case), &LoadOptions::default().adapt(adapt), &Device::cpu(1)).unwrap();
        assert_eq!(trained.vit().config().pooling, Pooling::Class);
        let bundle = path(&format!("{case}-bundle"));
        export(&trained.exported(), &bundle, Target::Bundle, &[]).unwrap();
        let (theirs, back) = (path(&format!("{case}-hf")), path(&format!("{case}-timm")));
        assert_eq!(convert(&bundle, &theirs, Target::HuggingFace, &options()).unwrap(), []);
        let widened = load(&theirs);
        assert_eq!(widened.vit().config().pooling, Pooling::ClassAndMean);
        assert_eq!(logits(&widened), logits(&trained), "{case}");
        // timm adds the class token's position to the token.
        assert_eq!(convert(&theirs, &back, Target::Timm, &options()).unwrap(), []);
        let narrowed = load(&back);
        assert_eq!(narrowed.vit().config().pooling, Pooling::Class);
        assert_eq!(logits(&narrowed), logits(&trained), "{case}");
    }
    // A classifier that uses both halves is not one of the class token.
    let error = convert(&golden("hf_dinov2_classifier"), &path("both"), Target::Timm, &options()).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("`pooling`: the model has class-and-mean") && !said.contains("--allow"), "{said}");
    let error = convert(&golden("hf_dinov2_classifier"), &path("both"), Target::Timm, &options().allow(["pooling"]));
    assert!(matches!(error, Err(WeightsError::NotReadBack { .. })), "{error:?}");
    assert!(!path("both").exists());
}

/// DINOv2 has positions for a larger image than its preprocessing gives; timm's models take one size.
#[test]
fn positions_are_resampled_once_for_a_library_that_takes_one_size() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let crop = |value: &mut Value| {
        value["crop_size"] = json!({ "height": 16, "width": 16 });
        value["size"] = json!({ "shortest_edge": 18 });
    };
    changed("hf_dinov2_model", &path("source"), crop);
    let refused = |options: &ConvertOptions| convert(&path("source"), &path("out"), Target::Timm, options).unwrap_err();
    let said = refused(&options()).to_string();
    assert!(said.contains("`other_sizes`") && said.contains("`--image-size 16`"), "{said}");
    assert!(!said.contains("Resample {") && !said.contains("Refuse"), "{said}");
    let said = refused(&options().allow(["other_sizes"])).to_string();
    assert!(said.contains("deleted") && said.contains("--image-size 16"), "{said}");
    assert!(!path("out").exists());
    for side in [16, 24, 48] {
        let out = path(&format!("timm-{side}"));
        let sized = options().image_size(Size::square(side));
        assert_eq!(convert(&path("source"), &out, Target::Timm, &sized).unwrap(), [], "{side}");
        let model = load(&out);
        assert_eq!(model.vit().config().image_size, Size::square(side));
        assert_eq!(model.preprocess().unwrap().output_size(), Some(Size::square(side)));
        let steps = model.preprocess().unwrap().to_string();
        assert!(steps.contains(&format!("short {}", side * 18 / 16)), "{steps}");
    }
}

#[test]
fn what_the_logits_say_is_kept_or_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    for (case, problem, written) in [
        ("problem-multi-label", Problem::MultiLabel, "multi_label_classification"),
        ("problem-regression", Problem::Regression, "regression"),
    ] {
        let source = goldens().join("field").join(case);
        let (bundle, back) = (path(&format!("{case}-bundle")), path(&format!("{case}-hf")));
        convert(&source, &bundle, Target::Bundle, &options()).unwrap();
        assert_eq!(load_description(&bundle, None).unwrap().config.problem, problem);
        convert(&bundle, &back, Target::HuggingFace, &options()).unwrap();
        let config: Value = serde_json::from_slice(&std::fs::read(back.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["problem_type"], written);
        let said = convert(&source, &path("timm"), Target::Timm, &options().allow(["norm_epsilon"])).unwrap_err();
        assert!(said.to_string().contains("`--allow problem`"), "{said}");
    }
}

#[test]
fn preprocessing_follows_the_size_that_is_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let crop = |value: &mut Value| {
        value["crop_size"] = json!({ "height": 16, "width": 16 });
        value["size"] = json!({ "shortest_edge": 20 });
    };
    changed("hf_dinov2_model", scratch.path(), crop);
    // Its positions are for 32.
    for (side, short) in [(32, 40), (16, 20), (24, 30), (56, 70)] {
        let adapt = Adaptation { image_size: Some(Size::square(side)), ..Adaptation::default() };
        let options = LoadOptions::default().adapt(adapt);
        let model = Model::load(scratch.path(), &options, &Device::cpu(1)).unwrap();
        let steps = model.preprocess().unwrap();
        assert_eq!(steps.output_size(), Some(Size::square(side)));
        assert!(steps.to_string().contains(&format!("short {short}")), "{side}: {steps}");
    }
    // Unasked, it stays as the files have it.
    assert_eq!(load(scratch.path()).preprocess().unwrap().output_size(), Some(Size::square(16)));
}
