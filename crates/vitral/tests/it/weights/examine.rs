//! Reports on models: their tensors, and whether they have problems.

use std::path::Path;

use vitral::doctor::{Severity, examine};
use vitral::weights::CHECK_FILE;
use vitral::weights::inspect::inspect;
use vitral::{Device, LoadOptions};

use super::{cases, goldens};

fn copy(case: &str, to: &Path) {
    for entry in std::fs::read_dir(goldens().join("models").join(case)).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn dialects_of_single_files_are_recognized() {
    let models = goldens().join("models");
    for (file, dialect) in [
        ("timm_plain/model.safetensors", "timm"),
        ("hf_vit_classifier/model.safetensors", "huggingface-vit"),
        ("hf_dinov2_model/model.safetensors", "huggingface-dinov2"),
        ("hf_clip_vision/model.safetensors", "huggingface-clip"),
        ("torchvision_plain/model.pth", "torchvision"),
        ("lucidrains_cls/model.pth", "lucidrains"),
        ("jax_vit/model.npz", "jax"),
        ("big_vision_map/model.npz", "big-vision"),
        ("openai_clip/model.pth", "openai-clip"),
    ] {
        let found = inspect(&models.join(file), None).unwrap();
        assert_eq!(found.dialect.as_ref().map(|dialect| dialect.name.as_str()), Some(dialect), "{file}");
        assert!(found.tensors.iter().all(|tensor| tensor.statistics.is_some_and(|of| of.nan == 0)), "{file}");
        let text = found.to_string();
        assert!(text.contains("float32") && text.contains(dialect), "{text}");
    }
}

#[test]
fn goldens_have_no_errors() {
    let device = Device::cpu(1);
    for case in cases().iter().filter(|case| !case.contains("stages") && !case.contains("hybrid")) {
        let path = goldens().join("models").join(case);
        let found = examine(&path, &LoadOptions::default(), &device);
        // Many have no preprocessing, which is an error, and two have that of another model.
        let faults = found.findings.iter().filter(|finding| finding.severity == Severity::Fault);
        let faults: Vec<_> = faults.filter(|fault| fault.subject != "preprocessing").collect();
        assert!(faults.is_empty(), "{case}:\n{found}");
    }
}

#[test]
fn zero_heads_wrong_means_and_wrong_records_are_found() {
    let device = Device::cpu(1);
    let of = |path: &Path| examine(path, &LoadOptions::default(), &device).to_string();
    assert!(of(&goldens().join("models/jax_vit_zero_head")).contains("classifier is all zero"));
    let scratch = tempfile::tempdir().unwrap();
    copy("hf_dinov2_classifier", scratch.path());
    let said = of(scratch.path());
    assert!(said.contains("labels         5, one for each class") && said.contains("no `vitral-check"), "{said}");
    // The recorded output: computed by the library.
    let golden = goldens().join("models/hf_dinov2_classifier");
    let (input, expected) = (golden.join("input.safetensors"), golden.join("expected.safetensors"));
    let (input, expected) = (std::fs::read(input).unwrap(), std::fs::read(expected).unwrap());
    let (input, expected) = (
        safetensors::SafeTensors::deserialize(&input).unwrap(),
        safetensors::SafeTensors::deserialize(&expected).unwrap(),
    );
    let record = |pixels: &str, logits| {
        let both = [("pixel_values", input.tensor(pixels).unwrap()), ("logits", expected.tensor(logits).unwrap())];
        std::fs::write(scratch.path().join(CHECK_FILE), safetensors::serialize(both, None).unwrap()).unwrap();
    };
    record("pixel_values", "logits");
    let said = of(scratch.path());
    assert!(said.contains("ok       recorded"), "{said}");
    record("pixel_values", "features");
    assert!(of(scratch.path()).contains("ERROR    recorded"));
    // A NaN on either side cannot be compared with.
    let numbers = |tensor: &safetensors::tensor::TensorView<'_>, count: usize| -> Vec<u8> {
        let nan = f32::NAN.to_le_bytes().repeat(count);
        [&nan, &tensor.data()[nan.len()..]].concat()
    };
    let (pixels, logits) = (input.tensor("pixel_values").unwrap(), expected.tensor("logits").unwrap());
    for (nan_pixels, nan_logits) in [(pixels.data().len() / 4, 0), (0, 1)] {
        let (shown, told) = (numbers(&pixels, nan_pixels), numbers(&logits, nan_logits));
        let view = |of: &safetensors::tensor::TensorView<'_>, bytes| {
            safetensors::tensor::TensorView::new(of.dtype(), of.shape().to_vec(), bytes).unwrap()
        };
        let both = [("pixel_values", view(&pixels, &shown)), ("logits", view(&logits, &told))];
        std::fs::write(scratch.path().join(CHECK_FILE), safetensors::serialize(both, None).unwrap()).unwrap();
        let said = of(scratch.path());
        assert!(said.contains("ERROR    recorded") && said.contains("found NaN"), "{said}");
    }
    // A common mistake: another family's mean.
    let file = scratch.path().join("preprocessor_config.json");
    let text =
        std::fs::read_to_string(&file).unwrap().replace("0.485", "0.5").replace("0.456", "0.5").replace("0.406", "0.5");
    std::fs::write(&file, text).unwrap();
    let said = of(scratch.path());
    assert!(said.contains("warning  preprocessing  mean [0.5, 0.5, 0.5] differs from published"), "{said}");
}

/// A copy of a golden with one of its JSON files changed, examined.
fn examined(case: &str, file: &str, change: impl Fn(&mut serde_json::Value)) -> (Severity, String) {
    let scratch = tempfile::tempdir().unwrap();
    copy(case, scratch.path());
    let path = scratch.path().join(file);
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    let found = examine(scratch.path(), &LoadOptions::default(), &Device::cpu(1));
    (found.worst(), found.to_string())
}

#[test]
fn what_is_only_slightly_wrong_is_a_warning() {
    let (config, processor) = ("config.json", "preprocessor_config.json");
    let dinov2 = "hf_dinov2_classifier";
    let (worst, said) = examined(dinov2, config, |_| ());
    assert!(worst < Severity::Warning, "{said}");
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, &str, Change, &str); 9] = [
        (dinov2, processor, |value| value["do_rescale"] = false.into(), "pixels are not rescaled"),
        (dinov2, processor, |value| value["rescale_factor"] = 1.0.into(), "pixels are not rescaled"),
        (dinov2, processor, |value| value["rescale_factor"] = 1.5e-5.into(), "images look alike"),
        (dinov2, processor, |value| value["do_normalize"] = false.into(), "pixels are not normalized"),
        (dinov2, processor, |value| value["image_std"] = vec![0.5; 3].into(), "standard deviation [0.5, 0.5, 0.5]"),
        (dinov2, config, |value| value["hidden_act"] = "gelu_new".into(), "activation is GELU's tanh"),
        (dinov2, config, |value| value["layer_norm_eps"] = 1e-3.into(), "epsilon is 1e-3"),
        (dinov2, config, |value| value["image_size"] = 48.into(), "positions for a grid of"),
        ("hf_siglip_classifier", config, |value| value["vision_config"]["hidden_act"] = "gelu".into(), "exact GELU"),
    ];
    for (case, file, change, part) in cases {
        let (worst, said) = examined(case, file, change);
        assert!(worst == Severity::Warning && said.contains(part), "{part}: {said}");
    }
}

#[test]
fn missing_preprocessing_and_values_that_are_not_finite_are_errors() {
    let scratch = tempfile::tempdir().unwrap();
    copy("hf_dinov2_classifier", scratch.path());
    std::fs::remove_file(scratch.path().join("preprocessor_config.json")).unwrap();
    let device = Device::cpu(1);
    let found = examine(scratch.path(), &LoadOptions::default(), &device);
    assert!(found.worst() == Severity::Fault && found.to_string().contains("ERROR    preprocessing"), "{found}");
    copy("hf_dinov2_classifier", scratch.path());
    let file = scratch.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let found = examine(scratch.path(), &LoadOptions::default(), &device);
    assert!(found.worst() == Severity::Fault && found.to_string().contains("1 NaN"), "{found}");
}

/// Models as libraries initialize them, never trained.
#[test]
fn untrained_weights_are_noticed() {
    use vitral::config::ModelConfig;
    use vitral::model::{Initialization, Vit, init};
    use vitral::weights::export::{ExportSource, Target, export};
    use vitral_engine::{DType, Parameters};

    let scratch = tempfile::tempdir().unwrap();
    for scheme in [Initialization::Timm, Initialization::Jax] {
        let config = ModelConfig {
            width: 96,
            depth: 3,
            heads: 3,
            head_width: 32,
            mlp_width: 192,
            classes: 5,
            ..ModelConfig::default()
        };
        let vit = Vit::new(config).unwrap();
        let mut parameters = Parameters::zeros(vit.declarations().clone(), Device::cpu(1));
        init::initialize(&vit, &mut parameters, scheme, 5);
        let read = |spec: &vitral_engine::ParameterSpec| {
            let mut values = parameters.read(vit.declarations().find(&spec.name).unwrap()).unwrap();
            // Norms that moved a little do not hide that the matrices did not.
            if scheme == Initialization::Timm && spec.name.contains("norm") {
                values[0] += 0.25;
            }
            Ok(values.into())
        };
        let source = ExportSource {
            name: "new",
            vit: &vit,
            preprocess: None,
            labels: None,
            license: None,
            storage: DType::F32,
            read: Box::new(read),
        };
        let path = scratch.path().join(format!("{scheme:?}"));
        export(&source, &path, Target::Bundle, &[]).unwrap();
        let said = examine(&path, &LoadOptions::default(), &Device::cpu(1)).to_string();
        assert!(said.contains("looks untrained"), "{scheme:?}: {said}");
    }
}
