//! `inspect`, `doctor` and `convert`, on models of other libraries.

use std::process::Command;

use serde_json::Value;

use super::{finished, folder, names_in, root, vitral};

#[test]
fn conversion_to_another_library_preserves_outputs() {
    let place = folder();
    let path = |name: &str| place.path().join(name).display().to_string();
    let source = "goldens/models/timm_plain";
    vitral(["convert", source, &path("hf"), "--to", "huggingface", "--allow", "preprocess"]).ok();
    vitral(["convert", &path("hf"), &path("bundle"), "--to", "bundle"]).ok();
    let input = format!("{source}/input.safetensors");
    for (model, output) in [(source, "a"), (path("hf").as_str(), "b"), (path("bundle").as_str(), "c")] {
        vitral(["forward", "--model", model, "--input", &input, "--output", &path(output)]).ok();
    }
    let read = |name: &str| std::fs::read(path(name)).expect("written");
    assert!(read("a") == read("b") && read("b") == read("c"), "conversion changed the outputs");
    let again = vitral(["convert", source, &path("hf"), "--to", "huggingface"]).fails(1);
    assert!(again.contains("already exists"), "{again}");
}

#[test]
fn a_model_becomes_an_onnx_file() {
    let place = folder();
    let path = |name: &str| place.path().join(name).display().to_string();
    let said = vitral(["convert", "assets/digits", &path("digits.onnx"), "--to", "onnx"]).ok();
    assert!(said.contains("opset 17, images of 28"), "{said}");
    let more = ["--to", "onnx", "--opset", "23", "--dtype", "bf16", "--external-data", "--json"];
    let small = path("small.onnx");
    let args = ["convert", "assets/digits", &small].into_iter().chain(more);
    let found: Value = serde_json::from_str(&vitral(args).ok()).expect("JSON");
    assert_eq!((&found["opset"], &found["image_size"]), (&23.into(), &serde_json::json!([28, 28])));
    let bytes = |at: usize| found["files"][at]["bytes"].as_u64().expect("a size");
    let whole = std::fs::metadata(place.path().join("digits.onnx")).expect("a file").len();
    assert!(10 * (bytes(0) + bytes(1)) < 8 * whole, "{found} for {whole}");
    assert!(vitral(["convert", "assets/digits", &small, "--to", "onnx"]).fails(1).contains("already exists"));
    let said = vitral(["convert", "assets/digits", &path("a/b.onnx"), "--to", "onnx"]).fails(1);
    assert!(said.contains("found no folder"), "{said}");
    let said = vitral(["convert", "README.md", &path("c.onnx"), "--to", "onnx"]).fails(1);
    assert!(said.contains("README.md"), "{said}");
    assert_eq!(names_in(place.path()), ["digits.onnx", "small.onnx", "small.onnx.data"]);
}

#[test]
fn what_a_target_cannot_express_is_refused_by_name_and_nothing_is_written() {
    let place = folder();
    let target = place.path().join("out").display().to_string();
    let said = vitral(["convert", "goldens/models/timm_swiglu_packed", &target, "--to", "torchvision"]).fails(1);
    assert!(said.contains("`blocks.*.scale1`"), "{said}");
    assert!(std::fs::read_dir(place.path()).expect("the folder").next().is_none(), "something was left behind");
}

#[test]
fn models_on_a_hub_are_found_by_every_command_that_takes_one() {
    let place = folder();
    let cache = place.path().join("models--acme--tiny");
    let snapshot = cache.join("snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).expect("a folder");
    std::fs::create_dir_all(cache.join("refs")).expect("a folder");
    std::fs::write(cache.join("refs/main"), "0123abcd").expect("written");
    for entry in std::fs::read_dir(root().join("goldens/field/F16-pp_v5")).expect("the case") {
        let file = entry.expect("an entry").path();
        std::fs::copy(&file, snapshot.join(file.file_name().expect("a name"))).expect("copied");
    }
    let out = place.path().join("out").display().to_string();
    for args in [
        &["info", "--model", "hf:acme/tiny"][..],
        &["doctor", "hf:acme/tiny"],
        &["inspect", "hf:acme/tiny"],
        &["convert", "hf:acme/tiny", &out, "--to", "bundle"],
        &["classify", "--model", "hf:acme/tiny", "goldens/field/plain.png"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitral"));
        let run = finished(command.args(args).env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", place.path()), &[]);
        let said = run.ok();
        assert!(
            args[0] != "info"
                || said.contains("acme/tiny (huggingface-vit") && said.contains("model         acme/tiny")
        );
    }
}

#[test]
fn inspect_and_doctor_examine_files() {
    let table = vitral(["inspect", "goldens/models/torchvision_plain/model.pth"]).ok();
    assert!(table.contains("torchvision") && table.contains("conv_proj.weight"), "{table}");
    let found: serde_json::Value =
        serde_json::from_str(&vitral(["doctor", "goldens/models/timm_plain", "--json"]).ok()).expect("JSON");
    assert!(found.is_object(), "{found}");
    let said = vitral(["inspect", "README.md"]).fails(1);
    assert!(said.contains("README.md"), "{said}");
}

#[test]
fn probabilities_are_what_the_files_say_they_are() {
    let answer = |case: &str| -> serde_json::Value {
        let model = format!("goldens/field/{case}");
        serde_json::from_str(&vitral(["classify", "--model", &model, "goldens/field/plain.png", "--json"]).ok())
            .expect("JSON")
    };
    let many = answer("F14-multi_label");
    assert_eq!((&many["problem"], &many["labels"][0]["class"]), (&"multi-label".into(), &2.into()));
    assert!((many["labels"][0]["probability"].as_f64().expect("a number") - 0.7469).abs() < 5e-5, "{many}");
    let number = answer("F14-one_label_reg");
    assert_eq!(number["problem"], "regression");
    assert!(number["labels"][0].get("probability").is_none(), "{number}");
    assert!((number["labels"][0]["logit"].as_f64().expect("a number") - 0.0229).abs() < 5e-5, "{number}");
    assert_eq!(answer("F15-pp_notype")["problem"], "single-label");
    let shown = vitral(["classify", "--model", "goldens/field/F14-one_label_reg", "goldens/field/plain.png"]).ok();
    assert!(shown.contains("0.0229") && !shown.contains('%'), "{shown}");
    let said = vitral(["info", "--model", "goldens/field/F14-multi_label"]).ok();
    assert!(said.contains("multi-label: sigmoid"), "{said}");
}

#[test]
fn doctor_fails_on_errors_and_not_on_warnings() {
    assert!(vitral(["doctor", "goldens/field/torchvision-linear"]).ok().contains("warning"));
    assert!(vitral(["doctor", "goldens/models/hf_vit_model"]).ok().contains("preprocessing"));
    let place = folder();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(root().join("goldens/field/F15-pp_notype").join(file), place.path().join(file)).expect("copied");
    }
    let found = vitral(["doctor", &place.path().display().to_string()]);
    assert!(found.code == Some(1) && found.out.contains("ERROR    preprocessing"), "{}", found.out);
}

#[test]
fn a_model_in_8_bits_is_a_bundle_that_every_command_reads() {
    let folder = folder();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (bundle, images) = (place("int8"), "assets/digits/images");
    let quantize = ["quantize", "assets/digits", &bundle, "--images", images, "--calibrate", "4", "--json"];
    let report: Value = serde_json::from_str(&vitral(quantize).ok()).expect("JSON");
    assert_eq!(report["calibrated_on"], 4);
    let layers = report["layers"].as_array().expect("layers");
    assert!(!layers.is_empty() && layers.iter().all(|layer| layer["storage"] == "int8"), "{report}");
    for layer in layers {
        let [plain, signal] =
            ["plain_signal_db", "signal_db"].map(|key| layer[key].as_f64().expect("a number of decibels"));
        assert!(signal >= plain && signal > 20.0, "{layer}");
    }
    assert!(report["cosine_least"].as_f64().expect("a cosine") > 0.99, "{report}");
    assert!(vitral(quantize).fails(1).contains("already exists"));

    // In 8 bits by itself, in others on request.
    for (more, precision) in [(&[][..], "int8"), (&["--precision", "f32"], "f32"), (&["--precision", "bf16"], "bf16")] {
        for device in ["cpu", "reference"] {
            let args = ["classify", "--model", &bundle, "assets/digits/images/seven.png", "--json", "--device", device];
            let found: Value = serde_json::from_str(&vitral(args.iter().chain(more)).ok()).expect("JSON");
            assert_eq!(found["precision"], precision);
            assert_eq!(found["labels"][0]["class"], 7, "{found}");
        }
    }
    let size = |path: &str| std::fs::metadata(root().join(path)).expect("a file").len();
    let (whole, narrow) = (size("assets/digits/model.safetensors"), size(&format!("{bundle}/model.safetensors")));
    assert!(10 * narrow < 6 * whole, "{narrow} bytes for {whole}");
    // Converted, it is a model in 32 bits.
    vitral(["convert", &bundle, &place("whole"), "--to", "bundle"]).ok();
    let found = vitral(["classify", "--model", &place("whole"), "assets/digits/images/seven.png", "--json"]).ok();
    assert!(found.contains("\"precision\":\"f32\""), "{found}");

    let empty = place("empty");
    std::fs::create_dir(&empty).expect("made");
    let said = vitral(["quantize", "assets/digits", &place("none"), "--images", &empty]).fails(1);
    assert!(said.contains("expected images, found none"), "{said}");
}

#[test]
fn damaged_bundles_in_8_bits_are_refused() {
    let folder = folder();
    let bundle = folder.path().join("int8");
    let name = bundle.display().to_string();
    vitral(["quantize", "assets/digits", &name, "--images", "assets/digits/images", "--calibrate", "1"]).ok();
    let description = bundle.join("vitral.json");
    let text = std::fs::read_to_string(&description).expect("text");
    for (from, to, expected) in [
        ("\"format\": 3", "\"format\": 4", "use a newer Vitral"),
        ("\"precision\": \"int8\"", "\"precision\": \"int4\"", "expected `f32`"),
    ] {
        assert!(text.contains(from), "{text}");
        std::fs::write(&description, text.replace(from, to)).expect("written");
        let said = vitral(["classify", "--model", &name, "assets/digits/images/seven.png"]).fails(1);
        assert!(said.contains(expected), "{said}");
    }
    std::fs::write(&description, &text).expect("written");
    // Scales of another matrix.
    let weights = bundle.join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("weights");
    let at = bytes.windows(6).position(|window| window == b".scale").expect("scales");
    let mut damaged = bytes.clone();
    damaged[at + 1] = b'x';
    std::fs::write(&weights, &damaged).expect("written");
    let said = vitral(["classify", "--model", &name, "assets/digits/images/seven.png"]).fails(1);
    assert!(said.contains("xcale"), "{said}");
}
