//! Every command that computes, on a GPU: an emulated one over the processor's memory, where there is a C++ compiler. What it
//! computes is compared with the CPU, and what can go wrong with a card is made to.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::device::assert_close;
use super::train::{place, within};
use super::*;

/// The folder of the stand-ins for NVIDIA's libraries; `None` where they cannot be built.
fn emulated() -> Option<PathBuf> {
    match vitral_emulator::driver(false) {
        Ok(folder) => Some(folder),
        Err(missing) if missing.skips() => {
            eprintln!("the GPU is not tested: {missing}");
            None
        }
        Err(missing) => panic!("{missing}"),
    }
}

/// Runs a command on the GPU of a folder of libraries.
fn on_gpu(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitral"));
    command.args(args).env("VITRAL_MODEL", "assets/digits").env("VITRAL_DEVICE", "cuda");
    command.env("VITRAL_CUDA_PATH", folder).env("VITRAL_CACHE", folder.join("cache"));
    finished(command.envs(environment.iter().copied()), &[])
}

const ONE: &str = "assets/digits/images/one.png";

#[test]
fn results_in_32_bits_are_those_of_the_cpu() {
    let Some(gpu) = emulated() else { return };
    let place = place();
    let images = place.path().join("images").display().to_string();
    for args in [
        &["classify", ONE, "assets/digits/images/seven.png", "--json"][..],
        &["probe", &images, "--test", &images, "--shots", "1", "--json"],
    ] {
        let found = on_gpu(&gpu, &[args, &["--precision", "f32"]].concat(), &[]).ok();
        let expected = vitral(args).ok();
        assert_eq!(found.lines().count(), expected.lines().count(), "{args:?}");
        for (found, expected) in found.lines().zip(expected.lines()) {
            if let (Ok(found), Ok(expected)) = (serde_json::from_str(found), serde_json::from_str::<Value>(expected)) {
                assert_close(&found, &expected, args[0]);
            }
        }
    }
}

#[test]
fn files_in_32_bits_are_those_of_the_cpu() {
    let Some(gpu) = emulated() else { return };
    let place = place();
    let file = |device: &str, name: &str| place.path().join(format!("{device}-{name}"));
    let input = within(place.path(), "in.safetensors");
    vitral(["preprocess", ONE, "--output", &input]).ok();
    for device in ["gpu", "cpu"] {
        let run = |args: &[&str]| match device {
            "gpu" => on_gpu(&gpu, args, &[]).ok(),
            _ => vitral(args).ok(),
        };
        let out = |name| file(device, name).display().to_string();
        run(&["forward", "--model", "assets/digits", "--input", &input, "--output", &out("forward.safetensors")]);
        run(&["embed", ONE, "--precision", "f32", "--output", &out("embed.safetensors")]);
        let methods = "attention,rollout,chefer,gradcam,gradient,similarity,positions,filters";
        let explain = ["explain", ONE, "--precision", "f32", "--method", methods, "--output", &out("maps")];
        run(&[&explain[..], &["--faithfulness", "--test-steps", "2"]].concat());
    }
    for (name, tensors) in [
        ("forward.safetensors", &["logits", "features"][..]),
        ("embed.safetensors", &["features"]),
        ("maps/one/numbers.safetensors", &["attention", "rollout", "chefer", "gradcam", "gradient", "similarity"]),
    ] {
        for tensor_name in tensors {
            let [found, expected] = ["gpu", "cpu"].map(|device| tensor(&file(device, name), tensor_name).1);
            let apart = ::vitral::numbers::apart(&found, &expected);
            let largest = expected.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
            assert!(apart <= 1e-4 * largest, "`{tensor_name}` of {name} differs by {apart}");
        }
    }
}

#[test]
fn bf16_is_the_default_and_gives_the_same_answers() {
    let Some(gpu) = emulated() else { return };
    for precision in ["bf16", "f16", "tf32"] {
        let run = on_gpu(&gpu, &["classify", ONE, "--json", "--precision", precision], &[]).ok();
        let found: Value = serde_json::from_str(&run).expect("JSON");
        assert_eq!((&found["precision"], &found["labels"][0]["class"]), (&precision.into(), &1.into()));
    }
    let run = on_gpu(&gpu, &["classify", ONE], &[]);
    assert!(run.err.contains("computed in bf16"), "{}", run.err);
    let auto = on_gpu(&gpu, &["classify", ONE], &[("VITRAL_DEVICE", "auto")]);
    assert!(auto.err.contains("using cuda:0 (Vitral emulator), in bf16"), "{}", auto.err);
    let said = on_gpu(&gpu, &["classify", ONE, "--precision", "int8"], &[]).fails(2);
    assert!(said.contains("cuda does not compute in `int8`"), "{said}");
}

#[test]
fn what_trains_runs_and_goes_on_elsewhere() {
    let Some(gpu) = emulated() else { return };
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let train = ["train", &path("recipe.toml"), "--out", &path("run")];
    let epochs = |number: &str| format!("run.epochs={number}");
    assert!(on_gpu(&gpu, &[&train[..], &["--set", &epochs("1")]].concat(), &[]).ok().contains("best"));
    let more = vitral([&train[..], &["--set", &epochs("2")]].concat());
    assert!(more.ok().contains("best"), "a run of a GPU goes on on the CPU");
    let (digits, images) = (root().join("assets/digits").display().to_string(), path("images"));
    for more in [&[][..], &["--lora", "2"]] {
        let out = path(&format!("tuned-{}", more.len()));
        let tune = ["finetune", &images, "--model", &digits, "--out", &out, "--epochs", "1", "--batch", "4"];
        on_gpu(&gpu, &[&tune[..], more].concat(), &[]).ok();
    }
    let taught = ["distill", &path("recipe.toml"), "--teacher", &path("tuned-0/best"), "--out", &path("taught")];
    on_gpu(&gpu, &[&taught[..], &["--set", "run.epochs=1"]].concat(), &[]).ok();
    for more in [&[][..], &["--train"], &["--train", "--recompute"], &["--stages"]] {
        let bench = ["bench", "--arch", "test/4", "--image-size", "16", "--batch", "2", "--runs", "1", "--json"];
        let found: Value = serde_json::from_str(&on_gpu(&gpu, &[&bench[..], more].concat(), &[]).ok()).expect("JSON");
        assert_eq!((&found["device"], &found["precision"]), (&"cuda".into(), &"bf16".into()));
        assert!(found["device_memory_mb"].as_f64() > Some(0.0));
    }
}

#[test]
fn a_card_that_is_missing_old_or_incomplete_is_said() {
    let Some(gpu) = emulated() else { return };
    let place = place();
    let refused = |folder: &Path, environment: &[(&str, &str)], expected: &str| {
        let said = on_gpu(folder, &["classify", ONE], environment).fails(2);
        assert!(said.contains(expected), "{said}");
    };
    refused(&gpu, &[("VITRAL_EMULATOR_DRIVER", "old")], "the driver is for CUDA 11.0, expected 12.0 or newer");
    refused(&gpu, &[("VITRAL_EMULATOR_DRIVER", "none")], "there is no cuda:0");
    let said = on_gpu(&gpu, &["classify", ONE, "--device", "cuda:7"], &[]).fails(2);
    assert!(said.contains("there is no cuda:7: the driver has 1 card"), "{said}");
    // Whoever did not ask for a GPU gets the CPU.
    let auto = on_gpu(&gpu, &["classify", ONE], &[("VITRAL_DEVICE", "auto"), ("VITRAL_EMULATOR_DRIVER", "none")]);
    assert!(auto.err.is_empty(), "{}", auto.err);
    let auto = on_gpu(&gpu, &["classify", ONE], &[("VITRAL_DEVICE", "auto"), ("VITRAL_EMULATOR_DRIVER", "old")]);
    assert!(auto.err.contains("using the CPU: cuda:0 cannot be used"), "{}", auto.err);
    auto.ok();
    #[cfg(unix)]
    for (without, expected) in [("libnvrtc", "NVRTC"), ("libcublasLt", "cuBLASLt")] {
        let part = place.path().join(without);
        std::fs::create_dir(&part).expect("a folder");
        for entry in std::fs::read_dir(&gpu).expect("the stand-ins").flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("lib") && !name.to_string_lossy().starts_with(without) {
                std::os::unix::fs::symlink(entry.path(), part.join(name)).expect("a link");
            }
        }
        // A machine that has the toolkit has the library elsewhere.
        let run = on_gpu(&part, &["classify", ONE], &[]);
        assert!(run.err.contains(expected) || run.err.contains("computed in"), "{}", run.err);
    }
}

#[test]
fn a_batch_that_is_too_large_is_told_which_one_fits() {
    let Some(gpu) = emulated() else { return };
    let bench = |memory: &str, batch: &str| {
        let model = ["bench", "--arch", "test/4", "--image-size", "16", "--train", "--runs", "1", "--json"];
        on_gpu(&gpu, &[&model[..], &["--batch", batch]].concat(), &[("VITRAL_EMULATOR_MEMORY", memory)])
    };
    let said = bench("72000000", "800").fails(1);
    let (before, after) = said.split_once("; a batch of ").expect(&said);
    assert!(before.contains("is out of memory"), "{said}");
    let (fits, rest) = after.split_once(' ').expect(&said);
    assert!(rest.starts_with("fits, 800 do not"), "{said}");
    let fits: usize = fits.parse().expect(&said);
    assert!((16..400).contains(&fits), "{said}");
    bench("72000000", &fits.to_string()).ok();
}

/// Without labels, too, where what is hidden is on the card as well.
#[test]
fn a_batch_of_hidden_patches_that_is_too_large_is_told_which_one_fits() {
    let Some(gpu) = emulated() else { return };
    let place = place();
    let images = within(place.path(), "images");
    let recipe = within(place.path(), "mae.toml");
    let text = "[model]\nvariant = \"test/4\"\nset = { image_size = 64 }\n[data]\ntrain = \"\"\nmean = [0.5, 0.5, 0.5]\n\
                std = [0.5, 0.5, 0.5]\n[pretraining]\nhidden = 0.5\ndecoder_width = 16\ndecoder_depth = 1\ndecoder_heads = 2\n\
                [optimizer]\nkind = \"adamw\"\n[schedule]\n[run]\nepochs = 1\nbatch = 7\n";
    std::fs::write(&recipe, text).expect("written");
    let data = format!("data.train={images}");
    // Some memory is too little for all six, and enough for one; the library of products takes 64 MiB of it.
    let said = (69..100).map(|megabytes| {
        let out = within(place.path(), &format!("run-{megabytes}"));
        let memory = format!("{megabytes}000000");
        on_gpu(&gpu, &["train", &recipe, "--out", &out, "--set", &data], &[("VITRAL_EMULATOR_MEMORY", &memory)]).err
    });
    let said = said.take_while(|said| said.contains("is out of memory")).collect::<Vec<_>>();
    assert!(said.iter().any(|said| said.contains("fits, 6 do not")), "{said:#?}");
}

#[test]
fn memory_that_runs_out_and_a_card_that_is_lost_end_a_command_with_one_error() {
    let Some(gpu) = emulated() else { return };
    for allocation in ["1", "3", "20", "40"] {
        let said = on_gpu(&gpu, &["classify", ONE], &[("VITRAL_EMULATOR_FAIL", allocation)]);
        // There may be fewer.
        assert!(said.err.contains("is out of memory") || said.err.contains("computed in"), "{}", said.err);
    }
    let little = [("VITRAL_EMULATOR_MEMORY", "8000000")];
    let said = on_gpu(&gpu, &["bench", "--arch", "Ti/16", "--batch", "4"], &little).fails(1);
    assert!(said.contains("is out of memory") && said.contains("MiB are free"), "{said}");
    let said = on_gpu(&gpu, &["classify", ONE], &[("VITRAL_EMULATOR_LOSE", "5")]).fails(1);
    assert!(said.contains("stopped working") && said.contains("ECC"), "{said}");
}

#[test]
fn a_run_whose_card_was_lost_goes_on() {
    let Some(gpu) = emulated() else { return };
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let train = ["train", &path("recipe.toml"), "--out", &path("run"), "--set", "run.epochs=2"];
    let said = on_gpu(&gpu, &train, &[("VITRAL_EMULATOR_LOSE", "1500")]);
    if !said.err.contains("stopped working") {
        // The whole run has fewer launches.
        return;
    }
    said.fails(1);
    assert!(on_gpu(&gpu, &train, &[]).ok().contains("best"));
}
