use super::*;

#[test]
fn wrong_command_lines_exit_with_code_2() {
    for (args, expected) in [
        (vec![], "Usage"),
        (vec!["classify"], "<IMAGE>..."),
        (vec!["classify", "a.png", "--top", "0"], "--top"),
        (vec!["classify", "a.png", "--threads", "0"], "--threads"),
        (vec!["classify", "a.png", "--batch", "0"], "--batch"),
        (vec!["classify", "a.png", "--json", "--csv"], "cannot be used with"),
        (vec!["classify", "a.png", "--config", "c.json"], "--model <PATH>"),
        (vec!["classify", "a.png", "--device", "tpu"], "expected auto, cpu, cuda, cuda:N or reference"),
        (vec!["explain"], "needs images, found none"),
        (vec!["forward"], "--model <PATH>"),
        (vec!["completions", "cmd"], "possible values"),
        (vec!["train"], "<RECIPE>"),
        (vec!["convert", "a", "b", "--to", "keras"], "huggingface, timm, jax, big_vision, torchvision, bundle, onnx"),
        (vec!["convert", "a", "b", "--to", "onnx", "--opset", "18"], "expected opset 17, 20 or 23, found `18`"),
        (vec!["convert", "a", "b", "--to", "onnx", "--allow", "positions"], "`--allow` is for other targets"),
        (vec!["convert", "a", "b", "--to", "timm", "--opset", "17"], "`--opset` is for `--to onnx`"),
        (vec!["convert", "a", "b", "--to", "timm", "--external-data"], "`--external-data` is for `--to onnx`"),
        (vec!["convert", "a", "b", "--to", "onnx", "--image-size", "224x"], "expected sides of 1 to 32768 pixels"),
        (vec!["convert", "a", "b", "--to", "onnx", "--image-size", "0"], "expected sides of 1 to 32768 pixels"),
        (vec!["convert", "a", "b", "--to", "onnx"], "ends in `.onnx`"),
        (vec!["convert", "a", "b", "--to", "timm", "--allow", "foo"], "there is no such field"),
        (
            vec!["convert", "a", "b", "--to", "bundle", "--labels", "x,y", "--opset", "17"],
            "`--opset` is for `--to onnx`",
        ),
        (vec!["preprocess", "a.png", "--output", "a.npy"], "ends in .safetensors"),
        (vec!["explain", "a.png", "--report", "a.pdf"], "ends in .html"),
        (vec!["paint"], "unrecognized subcommand"),
    ] {
        let said = vitral(&args).fails(2);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn every_command_has_help() {
    let commands = [
        "classify",
        "embed",
        "explain",
        "forward",
        "preprocess",
        "info",
        "inspect",
        "doctor",
        "convert",
        "pull",
        "models",
        "train",
        "bench",
        "completions",
    ];
    for command in commands {
        let help = vitral([command, "--help"]).ok();
        assert!(help.contains("Usage: vitral") && help.contains("--threads"), "{help}");
        assert!(command == "models" || help.contains("Examples:"), "{help}");
    }
    assert!(vitral(["--version"]).ok().starts_with("vitral "));
}

#[test]
fn completions_for_each_shell() {
    for (shell, part) in [("bash", "complete -F _vitral"), ("zsh", "#compdef vitral"), ("fish", "complete -c vitral")] {
        assert!(vitral(["completions", shell]).ok().contains(part), "{shell}");
    }
}

#[test]
fn a_missing_model_gives_a_one_line_error() {
    let folder = folder();
    let empty = folder.path().display().to_string();
    for (path, expected) in [("nowhere", "no such file or folder"), (empty.as_str(), "`config.json` or `vitral.json`")]
    {
        let said = vitral(["classify", "--model", path, &digit("one")]).fails(1);
        assert!(said.starts_with("error: ") && said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn quiet_prints_only_results() {
    let folder = folder();
    let file = folder.path().join("a.csv").display().to_string();
    let args = ["embed", "assets/digits/images", "--output", &file];
    let run = vitral(args);
    assert!(run.err.contains("10 images to"), "{}", run.err);
    let run = vitral(args.into_iter().chain(["--quiet"]));
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(0), "", ""));
}

#[test]
fn an_instruction_set_that_the_processor_lacks_is_wrong_usage() {
    let with = |isa: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitral"));
        finished(command.args(["bench", "--arch", "test/4", "--batch", "1", "--runs", "1"]).env("VITRAL_ISA", isa), &[])
    };
    let fault = with("avx1024").fails(2);
    assert!(fault.contains("`VITRAL_ISA` is `avx1024`; expected an instruction set that this CPU has: `"), "{fault}");
    assert!(fault.contains("`portable`"), "{fault}");
    // What the processor has is not known here; either way there is one answer.
    for isa in ["amx", "avx512-bf16", "avx2", "neon"] {
        let run = with(isa);
        if fault.contains(&format!("`{isa}`")) {
            assert!(run.ok().contains(isa), "`bench` says which it was");
        } else {
            assert!(run.fails(2).contains(&format!("`VITRAL_ISA` is `{isa}`")));
        }
    }
}
