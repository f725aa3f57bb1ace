//! `train`, `finetune`, `distill`, `evaluate` and `probe`, from images to a model that `classify` accepts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{folder, root, vitral};

const RECIPE: &str = r#"
[model]
variant = "test/4"
set = { image_size = 28, channels = 1 }
[data]
train = "images"
validation_split = { fraction = 0.5 }
mean = [0.5]
std = [0.5]
[optimizer]
kind = "adamw"
[schedule]
learning_rate = 1e-3
[run]
epochs = 2
batch = 2
"#;

/// A folder with eight images of two classes, and a recipe for them.
pub(super) fn place() -> tempfile::TempDir {
    let place = folder();
    for class in ["one", "seven"] {
        let class_folder = place.path().join("images").join(class);
        std::fs::create_dir_all(&class_folder).expect("made");
        for copy in 0..4 {
            let source = root().join(format!("assets/digits/images/{class}.png"));
            std::fs::copy(source, class_folder.join(format!("{copy}.png"))).expect("copied");
        }
    }
    std::fs::write(place.path().join("recipe.toml"), RECIPE).expect("written");
    place
}

pub(super) fn within(place: &Path, name: &str) -> String {
    place.join(name).display().to_string()
}

#[test]
fn a_recipe_produces_a_model() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let said = vitral(["train", &path("recipe.toml"), "--out", &path("run")]).ok();
    assert!(said.contains("epoch   2/2") && said.contains("best"), "{said}");
    for (file, word) in [
        ("report.html", "Confusion matrix"),
        ("report.json", "\"top1\""),
        ("curves.svg", "validation"),
        ("confusion.svg", "seven"),
    ] {
        let text = std::fs::read_to_string(path(&format!("run/{file}"))).expect("written");
        assert!(text.contains(word), "{file} has no `{word}`");
        assert!(
            !text.contains("http") || file.ends_with(".svg") || text.matches("http").count() <= 2,
            "{file} loads external resources"
        );
    }
    assert!(std::fs::read(path("run/events.out.tfevents.run")).expect("written").len() > 100);
    // A finished run has nothing left to do, and reports the same.
    let again = vitral(["train", &path("recipe.toml"), "--out", &path("run")]).ok();
    assert!(again.contains("best"), "{again}");
    let answer = vitral(["classify", "--model", &path("run/best"), "assets/digits/images/one.png"]).ok();
    assert!(answer.contains("one") && answer.contains("seven"), "{answer}");
    let views = ["evaluate", &path("images"), "--model", &path("run/best"), "--five-crops", "--mirror"];
    assert!(vitral(views).ok().contains("8 images"));
    let typo = vitral(["train", &path("recipe.toml"), "--out", &path("other"), "--set", "run.epoch=3"]).fails(1);
    assert!(typo.contains("epoch"), "{typo}");
    let usage = vitral(["train", &path("recipe.toml"), "--out", &path("other"), "--set", "run.epochs"]).fails(2);
    assert!(usage.contains("key=value"), "{usage}");
}

/// What was trained here is a model for the other libraries too, with its preprocessing and what its logits say.
#[test]
fn a_trained_model_converts_with_its_preprocessing() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let logits = |model: &str| {
        let said = vitral(["classify", "--model", model, "assets/images/cat.jpg", "--json"]).ok();
        let line: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let mut labels = line["labels"].as_array().expect("labels").clone();
        labels.sort_by_key(|label| label["class"].as_u64());
        (line["problem"].clone(), labels)
    };
    for (name, settings) in [
        ("color", &["model.set.channels=3", "data.mean=[0.5, 0.4, 0.3]", "data.std=[0.2, 0.2, 0.3]"][..]),
        ("gray", &[]),
        ("binary", &["run.loss=\"binary\""]),
    ] {
        let (recipe, run) = (path("recipe.toml"), path(name));
        let mut args = vec!["train", &recipe, "--out", &run, "--set", "run.epochs=1"];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        vitral(args).ok();
        let best = path(&format!("{name}/best"));
        for target in ["huggingface", "timm"] {
            let (out, own) = (path(&format!("{name}-{target}")), logits(&best));
            let problem = if name == "binary" && target == "timm" { &["--allow", "problem"][..] } else { &[] };
            vitral([&["convert", &best, &out, "--to", target], problem].concat()).ok();
            let found = logits(&out);
            assert_eq!(found.0, if problem.is_empty() { own.0.clone() } else { "single-label".into() }, "{name}");
            if problem.is_empty() {
                assert_eq!(found.1, own.1, "{name} to {target}");
            }
        }
        assert_eq!(logits(&best).0, if name == "binary" { "multi-label" } else { "single-label" });
    }
}

#[test]
fn the_best_epoch_is_chosen_on_validation_images_and_test_images_are_evaluated_once() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    for (part, copies) in [("train", 4), ("val", 2), ("test", 3)] {
        for class in ["one", "seven"] {
            let class_folder = place.path().join("parts").join(part).join(class);
            std::fs::create_dir_all(&class_folder).expect("made");
            for copy in 0..copies {
                let source = root().join(format!("assets/digits/images/{class}.png"));
                std::fs::copy(source, class_folder.join(format!("{copy}.png"))).expect("copied");
            }
        }
    }
    let train = |data: &str, more: &[&str]| {
        let (out, data) = (format!("run of {data}"), format!("data.train={}", path(data)));
        let fixed = ["train".to_owned(), path("recipe.toml"), "--out".into(), path(&out), "--set".into(), data];
        vitral(fixed.into_iter().chain(more.iter().map(|more| (*more).to_owned())))
    };
    let run = train("parts", &[]);
    assert!(run.err.contains("validation 4 ") && run.err.contains("test       6 "), "{}", run.err);
    assert!(run.err.contains("chosen on the validation images; the test images were evaluated once"), "{}", run.err);
    let said = run.ok();
    assert!(said.contains("% of the validation images after epoch") && said.contains("% of the test images"), "{said}");
    let said = train("parts", &["--json"]).ok();
    let last: serde_json::Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert!(last["chosen_on"] == "validation" && last["test_accuracy"].is_number(), "{last}");
    let run = train("images", &[]);
    assert!(run.err.contains("there is neither a validation nor a test split"), "{}", run.err);
    assert!(!run.ok().contains("of the test images"));
}

#[test]
fn an_unreadable_image_is_reported_once() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    std::fs::write(path("images/one/broken.png"), b"\x89PNG\r\n\x1a\n, and no more").expect("written");
    for threads in ["1", "2"] {
        let run = vitral(["train", &path("recipe.toml"), "--out", &path(threads), "--threads", threads]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let told = run.err.lines().filter(|line| line.starts_with("skipped: ") && line.contains("broken.png"));
        assert_eq!(told.count(), 1, "{}", run.err);
    }
}

/// BiT's ResNet works with every command that a Vision Transformer works with.
#[test]
fn a_resnet_trains_with_a_recipe() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let image = "assets/digits/images/one.png";
    let set = ["model.variant=R14x0.125-small", "run.epochs=8", "schedule.learning_rate=4e-3", "data.test=images"];
    let set = set.map(|set| ["--set".to_owned(), set.replace("=images", &format!("={}", path("images")))]);
    let fixed = ["train".to_owned(), path("recipe.toml"), "--out".into(), path("run")];
    let said = vitral(fixed.into_iter().chain(set.into_iter().flatten())).ok();
    assert!(said.contains("best 100.00 %"), "{said}");
    let best = path("run/best");
    assert!(vitral(["classify", "--model", &best, image]).ok().contains("one"));
    assert!(vitral(["info", "--model", &best]).ok().contains("cells of a ResNetV2 of stages [1, 1, 1, 1]"));
    assert!(vitral(["embed", "--model", &best, image, "--output", &path("features.npy")]).ok().is_empty());
    vitral(["doctor", &best]).ok();
    vitral(["explain", "--model", &best, &path("images"), "--method", "all", "--output", &path("maps")]).ok();
    let error = vitral(["explain", "--model", &best, image, "--method", "rollout", "--output", &path("x")]).fails(1);
    assert!(error.contains("no blocks with attention") && error.contains("`rollout`"), "{error}");
    vitral(["convert", &best, &path("bundle"), "--to", "bundle"]).ok();
    let error = vitral(["convert", &best, &path("timm"), "--to", "timm"]).fails(1);
    assert!(error.contains("`stem`") && error.contains("small"), "{error}");
    let finetune = ["finetune", &path("images"), "--model", &best, "--out", &path("tuned"), "--epochs", "1"];
    vitral(finetune.into_iter().chain(["--batch", "2"])).ok();
    let bench = ["bench", "--arch", "R14x0.125", "--image-size", "64", "--runs", "1", "--batch", "1", "--json"];
    assert!(vitral(bench).ok().contains("\"median_ms\""));
}

#[test]
fn a_trained_model_can_be_fine_tuned_evaluated_and_used_as_a_teacher() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let (images, digits) = (path("images"), root().join("assets/digits").display().to_string());
    let tuned = path("tuned");
    let said = vitral([
        "finetune",
        &images,
        "--model",
        &digits,
        "--out",
        &tuned,
        "--test",
        &images,
        "--epochs",
        "12",
        "--batch",
        "4",
        "--learning-rate",
        "4e-3",
        "--set",
        "augment.horizontal_flip=0",
        "--set",
        "augment.crop={kind=\"padded\",pixels=1}",
    ]);
    assert!(said.ok().contains("best 100.00 %"));
    let best = path("tuned/best");
    let report = vitral(["evaluate", &images, "--model", &best, "--json", "--mirror"]).ok();
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["images"], 8);
    assert!(vitral(["evaluate", &images, "--model", &best]).ok().contains("top-1 100.00 %"));
    // The digits' preprocessing has no crop.
    assert!(vitral(["evaluate", &images, "--model", &best, "--five-crops"]).fails(1).contains("end in a crop"));
    // The digits model matches two classes among its ten only by their number.
    let error = vitral(["evaluate", &images]).fails(1);
    assert!(error.contains("10") && error.contains("`one`"), "{error}");

    let said = vitral(["probe", &images, "--test", &images, "--shots", "1,2", "--neighbors", "1"]).ok();
    assert!(said.contains("nearest neighbor       100.00 %") && said.contains("2 shots"), "{said}");
    let found = vitral(["probe", &images, "--model", &best, "--pool", "mean", "--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["few_shot"][0]["shots"], 1);

    for kind in ["hard", "soft"] {
        let out = path(kind);
        let recipe = path("recipe.toml");
        let said = vitral(["distill", &recipe, "--teacher", &best, "--kind", kind, "--out", &out]).ok();
        assert!(said.contains("best"), "{said}");
    }
    let error = vitral(["distill", &path("recipe.toml"), "--teacher", &digits, "--out", &path("x")]).fails(1);
    assert!(error.contains("10 classes"), "{error}");
}

#[test]
fn parameters_can_be_frozen() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let tune = |out: &str, freeze: &str| {
        let set = format!("groups.freeze={freeze}");
        let out = path(out);
        let model = root().join("assets/digits").display().to_string();
        let images = path("images");
        vitral(["finetune", &images, "--model", &model, "--out", &out, "--epochs", "1", "--batch", "2", "--set", &set])
    };
    tune("head", "[\"blocks.*\", \"patches.*\"]").ok();
    let error = tune("none", "[\"blocks.9*\"]").fails(1);
    assert!(error.contains("blocks.9*"), "{error}");
    let error = tune("all", "[\"*\"]").fails(1);
    assert!(error.contains("nothing to train"), "{error}");
}

#[test]
fn lora_produces_an_ordinary_model() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let (images, digits) = (path("images"), root().join("assets/digits").display().to_string());
    let tune = |out: &str, rank: &str| {
        let test = ["--test", &images, "--epochs", "12", "--batch", "4", "--learning-rate", "1e-2"];
        let set = ["--set", "augment.horizontal_flip=0", "--set", "augment.crop={kind=\"padded\",pixels=1}"];
        let fixed = ["finetune", &images, "--model", &digits, "--out", out, "--lora", rank];
        vitral(fixed.into_iter().chain(test).chain(set))
    };
    assert!(tune(&path("light"), "2").ok().contains("best 100.00 %"));
    let answer = vitral(["classify", "--model", &path("light/best"), "assets/digits/images/one.png", "--json"]).ok();
    assert!(answer.contains("one"), "{answer}");
    let error = tune(&path("other"), "5000").fails(1);
    assert!(error.contains("lora.rank"), "{error}");
}

#[test]
fn a_study_compares_models_on_fractions_of_the_data() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let wider = RECIPE.replace("channels = 1", "channels = 1, mlp_width = 96");
    std::fs::write(path("wider.toml"), wider).expect("written");
    let study = |more: &[&str]| {
        let (narrow, wide, out) = (path("recipe.toml"), path("wider.toml"), path("study"));
        let fixed = ["study", &narrow, &wide, "--fractions", "1,0.5", "--out", &out];
        vitral(fixed.into_iter().chain(more.iter().copied()))
    };
    let said = study(&[]).ok();
    assert!(said.contains("recipe") && said.contains("wider") && said.matches(" %").count() > 4, "{said}");
    let table = std::fs::read_to_string(path("study/study.csv")).expect("written");
    assert!(table.starts_with("model,parameters,fraction,images") && table.lines().count() == 5, "{table}");
    assert!(std::fs::read_to_string(path("study/study.svg")).expect("written").contains("wider"));
    // Finished runs are not repeated, and report the same.
    let before = std::fs::read(path("study/wider/0.5/best/model.safetensors")).expect("a model");
    let lines = study(&["--json"]).ok();
    let cells: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let cells: Vec<_> = cells.iter().filter(|line| line["model"].is_string() && line["fraction"].is_number()).collect();
    assert_eq!(cells.len(), 4);
    assert_eq!((&cells[0]["images"], &cells[3]["images"]), (&2.into(), &4.into()));
    assert_eq!(before, std::fs::read(path("study/wider/0.5/best/model.safetensors")).expect("a model"));
    assert!(study(&["--fractions", "0"]).fails(2).contains("above 0"));
    // As many steps on half of the images: twice the epochs, evaluated equally often.
    let out = path("longer");
    vitral(["study", &path("recipe.toml"), "--fractions", "0.5", "--same-steps", "--out", &out]).ok();
    let table = std::fs::read_to_string(path("longer/recipe/0.5/journal.csv")).expect("written");
    let evaluated = table.lines().skip(1).filter(|line| !line.contains(",,,"));
    assert_eq!((evaluated.count(), table.lines().count() - 1), (2, 4), "{table}");
}

/// A checkpoint that does not fit on the disk leaves the previous one, from which the run resumes. The test uses a
/// limit on the file size, which looks the same to the run.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint_intact() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let args = |out: &str| {
        let set = ["run.checkpoint_every=1", "run.keep=100"].map(|set| ["--set".to_owned(), set.to_owned()]);
        let fixed = ["train", &path("recipe.toml"), "--out", &path(out)].map(str::to_owned);
        fixed.into_iter().chain(set.into_iter().flatten()).collect::<Vec<_>>()
    };
    vitral(args("whole")).ok();
    let first = "checkpoints/step-0000000001.safetensors";
    std::fs::create_dir_all(path("short/checkpoints")).expect("made");
    for file in ["recipe.toml", first] {
        std::fs::copy(path(&format!("whole/{file}")), path(&format!("short/{file}"))).expect("copied");
    }
    let kept = std::fs::read(path(&format!("short/{first}"))).expect("a checkpoint");
    assert!(kept.len() > 64 << 10, "the limit below is smaller than a checkpoint");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_vitral")])
        .args(args("short"))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("writing a checkpoint"), "{said}");
    let left: Vec<_> = std::fs::read_dir(path("short/checkpoints")).expect("listed").collect();
    assert_eq!(left.len(), 1, "no partial files are left");
    assert!(kept == std::fs::read(path(&format!("short/{first}"))).expect("a checkpoint"));
    vitral(args("short")).ok();
    let best = |out: &str| std::fs::read(path(&format!("{out}/best/model.safetensors"))).expect("a model");
    assert!(best("short") == best("whole"), "the models differ");
}

/// However often a run is killed, it resumes from an intact checkpoint, and its result is bit-identical to an
/// uninterrupted run.
#[test]
fn resumes_after_being_killed_at_any_time() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let args = |out: &str| {
        let set = ["run.checkpoint_every=1", "run.epochs=30"].map(|set| ["--set".to_owned(), set.to_owned()]);
        let fixed = ["train", &path("recipe.toml"), "--out", out].map(str::to_owned);
        fixed.into_iter().chain(set.into_iter().flatten()).collect::<Vec<_>>()
    };
    let mut unfinished = 0;
    for kill in 0..50u64 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vitral"))
            .args(args(&path("killed")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // Long enough to start, and different every time.
        std::thread::sleep(Duration::from_millis(25 + kill * 37 % 61));
        let ended = child.try_wait().expect("known");
        child.kill().expect("killed");
        let output = child.wait_with_output().expect("it ended");
        match ended {
            None => unfinished += 1,
            Some(code) => assert!(code.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    assert!(unfinished > 0, "no run was killed");
    for out in ["killed", "straight"] {
        vitral(args(&path(out))).ok();
    }
    let best = |out: &str| std::fs::read(place.path().join(out).join("best/model.safetensors")).expect("a model");
    assert!(best("killed") == best("straight"), "the models differ");
}

#[test]
fn images_without_labels_give_an_encoder_that_is_fine_tuned() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let labels = "[pretraining]\ndecoder_width = 16\ndecoder_depth = 1\ndecoder_heads = 2\n";
    std::fs::write(path("mae.toml"), format!("{RECIPE}{labels}")).expect("written");
    let said = vitral([
        "train",
        &path("mae.toml"),
        "--out",
        &path("mae"),
        "--set",
        &format!("data.train={}", path("images/one")),
    ])
    .ok();
    assert!(said.contains("R²") && said.contains("the encoder"), "{said}");
    assert!(Path::new(&path("mae/reconstructions.png")).is_file());
    let run =
        ["finetune", "--model", &path("mae/best"), &path("images"), "--out", &path("tuned"), "--set", "run.epochs=1"];
    vitral(run).ok();
    let said = vitral(["classify", "--model", &path("tuned/best"), &path("images/one/0.png")]).ok();
    assert!(said.contains("seven"), "{said}");
}

#[test]
fn colors_of_corrupted_patches_are_predicted() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let patches = "[pretraining]\nmethod = \"masked-patches\"\n";
    std::fs::write(path("patches.toml"), format!("{RECIPE}{patches}")).expect("written");
    let run =
        ["train", &path("patches.toml"), "--out", &path("run"), "--set", &format!("data.train={}", path("images"))];
    let said = vitral(run).ok();
    assert!(said.contains("% of the colors of corrupted patches of held-out images"), "{said}");
    assert!(Path::new(&path("run/colors.png")).is_file());
    let run = ["finetune", "--model", &path("run/best"), &path("images"), "--out", &path("tuned")];
    vitral(run.into_iter().chain(["--set", "run.epochs=1"])).ok();
    let said = vitral(["classify", "--model", &path("tuned/best"), &path("images/one/0.png")]).ok();
    assert!(said.contains("seven"), "{said}");
}
