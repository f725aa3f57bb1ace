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
        assert!(found.worst() < Severity::Fault, "{case}:\n{found}");
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
