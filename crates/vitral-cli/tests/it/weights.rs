//! `inspect`, `doctor` and `convert`, on models of other libraries.

use std::process::Command;

use super::{finished, folder, root, vitral};

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
fn what_a_target_cannot_express_is_refused_by_name_and_nothing_is_written() {
    let place = folder();
    let target = place.path().join("out").display().to_string();
    let said = vitral(["convert", "goldens/models/timm_swiglu_packed", &target, "--to", "torchvision"]).fails(1);
    assert!(said.contains("`blocks.0.scale1`"), "{said}");
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
