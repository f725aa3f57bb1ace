//! Every command that computes, on the reference device.

use serde_json::Value;

use super::train::{place, within};
use super::*;

/// Runs a command on one device.
fn on(device: &str, args: &[&str]) -> Run {
    vitral(args.iter().chain(&["--device", device]))
}

/// The values that a command prints as JSON must agree to within a share of a thousandth; everything else exactly.
pub(crate) fn assert_close(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().expect("a number"), expected.as_f64().expect("a number"));
            assert!(
                (found - expected).abs() <= 1e-3 * expected.abs().max(1.0),
                "{place}: {found}, expected {expected}"
            );
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{place}");
            found.iter().zip(expected).for_each(|(found, expected)| assert_close(found, expected, place));
        }
        (Value::Object(found), Value::Object(expected)) => {
            assert!(found.keys().eq(expected.keys()), "{place}: {:?}", found.keys());
            found.iter().for_each(|(key, found)| assert_close(found, &expected[key], key));
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

#[test]
fn commands_print_the_same_on_both_devices() {
    let place = place();
    let images = place.path().join("images").display().to_string();
    let one = "assets/digits/images/one.png";
    let model = root().join("assets/digits").display().to_string();
    for args in [
        &["classify", one, "assets/digits/images/seven.png", "--json"][..],
        &["doctor", &model, "--json"],
        &["probe", &images, "--test", &images, "--shots", "1", "--json"],
    ] {
        let [reference, cpu] = ["reference", "cpu"].map(|device| on(device, args).ok());
        assert_eq!(reference.lines().count(), cpu.lines().count(), "{args:?}");
        for (found, expected) in reference.lines().zip(cpu.lines()) {
            match (serde_json::from_str(found), serde_json::from_str(expected)) {
                (Ok(found), Ok(expected)) => assert_close(&found, &expected, args[0]),
                _ => assert_eq!(found, expected, "{args:?}"),
            }
        }
    }
}

#[test]
fn files_are_the_same_on_both_devices() {
    let place = place();
    let file = |device: &str, name: &str| place.path().join(format!("{device}-{name}"));
    let input = place.path().join("in.safetensors");
    let (input, one) = (input.display().to_string(), "assets/digits/images/one.png");
    on("reference", &["preprocess", one, "--output", &input]).ok();
    for device in ["reference", "cpu"] {
        let out = |name| file(device, name).display().to_string();
        on(
            device,
            &["forward", "--model", "assets/digits", "--input", &input, "--output", &out("forward.safetensors")],
        )
        .ok();
        on(device, &["embed", one, "--output", &out("embed.safetensors")]).ok();
        let methods = "attention,rollout,chefer,gradcam,gradient,similarity,positions,filters";
        on(
            device,
            &["explain", one, "--method", methods, "--faithfulness", "--test-steps", "2", "--output", &out("maps")],
        )
        .ok();
    }
    for (name, tensors) in [
        ("forward.safetensors", &["logits", "features"][..]),
        ("embed.safetensors", &["features"]),
        ("maps/one/numbers.safetensors", &["attention", "rollout", "chefer", "gradcam", "gradient", "similarity"]),
    ] {
        for tensor_name in tensors {
            let [found, expected] = ["reference", "cpu"].map(|device| tensor(&file(device, name), tensor_name).1);
            let apart = ::vitral::numbers::apart(&found, &expected);
            let largest = expected.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
            assert!(apart <= 1e-4 * largest, "`{tensor_name}` of {name} differs by {apart}");
        }
    }
}

#[test]
fn training_commands_run_on_the_reference_device() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let train = on("reference", &["train", &path("recipe.toml"), "--out", &path("run"), "--set", "run.epochs=1"]);
    assert!(train.ok().contains("best"));
    let again = on("cpu", &["train", &path("recipe.toml"), "--out", &path("run"), "--set", "run.epochs=1"]);
    assert!(again.ok().contains("best"), "a run of one device is a run of the other");
    let digits = root().join("assets/digits").display().to_string();
    let images = path("images");
    for more in [&[][..], &["--lora", "2"]] {
        let out = path(&format!("tuned-{}", more.len()));
        let tune = ["finetune", &images, "--model", &digits, "--out", &out, "--epochs", "1", "--batch", "4"];
        on("reference", &[&tune[..], more].concat()).ok();
    }
    on("reference", &["evaluate", &images, "--model", &path("tuned-0/best")]).ok();
    let taught = ["distill", &path("recipe.toml"), "--teacher", &path("tuned-0/best"), "--out", &path("taught")];
    on("reference", &[&taught[..], &["--set", "run.epochs=1"]].concat()).ok();
    let study = ["study", &path("recipe.toml"), "--fractions", "1", "--out", &path("study"), "--set", "run.epochs=1"];
    on("reference", &study).ok();
    let bench = ["bench", "--arch", "test/4", "--image-size", "16", "--runs", "1", "--json"];
    let bench: Value = serde_json::from_str(&on("reference", &bench).ok()).expect("JSON");
    assert_eq!((&bench["device"], &bench["fma_peak_gflops"]), (&"reference".into(), &Value::Null));
}

#[test]
fn the_precision_is_printed_and_one_that_a_device_does_not_have_is_wrong_usage() {
    let one = "assets/digits/images/one.png";
    for (precision, args) in [("f32", &[][..]), ("bf16", &["--precision", "bf16"])] {
        let found = vitral(["classify", one, "--json"].iter().chain(args)).ok();
        let found: Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["precision"], precision);
        assert_eq!(found["labels"][0]["class"], 1);
    }
    assert!(vitral(["classify", one, "--precision", "bf16"]).err.contains("computed in bf16"));
    let said = vitral(["classify", one, "--precision", "tf32"]).fails(2);
    assert!(said.contains("`--precision tf32`: cpu does not compute in `tf32`, but in `f32`"), "{said}");
    assert!(vitral(["classify", one, "--precision", "fp8"]).fails(2).contains("bf16"));
}
