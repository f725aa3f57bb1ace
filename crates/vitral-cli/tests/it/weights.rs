//! `inspect`, `doctor` and `convert`, on models of other libraries.

use super::{folder, vitral};

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
fn inspect_and_doctor_examine_files() {
    let table = vitral(["inspect", "goldens/models/torchvision_plain/model.pth"]).ok();
    assert!(table.contains("torchvision") && table.contains("conv_proj.weight"), "{table}");
    let found: serde_json::Value =
        serde_json::from_str(&vitral(["doctor", "goldens/models/timm_plain", "--json"]).ok()).expect("JSON");
    assert!(found.is_object(), "{found}");
    let said = vitral(["inspect", "README.md"]).fails(1);
    assert!(said.contains("README.md"), "{said}");
}
