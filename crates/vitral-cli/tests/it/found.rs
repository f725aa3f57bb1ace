//! What people run into: broken links, classes in another order, archives, outputs that are in the way, signals.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::train::{place, within};
use super::{built_in, finished, folder, names_in, root, tensor, vitral};

fn golden(name: &str) -> String {
    root().join("goldens/matching").join(name).display().to_string()
}

#[cfg(unix)]
#[test]
fn broken_links_are_skipped_and_the_rest_is_answered() {
    let place = folder();
    let photos = place.path().join("photos");
    std::fs::create_dir_all(photos.join("sub")).expect("made");
    for name in ["0.png", "sub/1.png"] {
        std::fs::copy(root().join("assets/digits/images/one.png"), photos.join(name)).expect("copied");
    }
    std::os::unix::fs::symlink("nowhere.jpg", photos.join("5_gone.jpg")).expect("a link");
    std::os::unix::fs::symlink("..", photos.join("sub/back")).expect("a link");
    let found = vitral(["classify", "--csv", "--top", "1", &photos.display().to_string()]);
    assert_eq!(found.code, Some(1), "{}", found.err);
    assert_eq!(found.out.lines().count(), 3, "{}", found.out);
    for word in ["5_gone.jpg`: a link to `nowhere.jpg`, which does not exist", "a link back to", "2 of 4 images"] {
        assert!(found.err.contains(word), "no `{word}` in {}", found.err);
    }
    let found = vitral(["classify", "--json", &photos.display().to_string()]);
    let errors = found.out.lines().filter(|line| line.contains("\"error\":")).count();
    assert_eq!((found.out.lines().count(), errors), (4, 2), "{}", found.out);
}

#[test]
fn classes_are_matched_by_name() {
    let (model, data) = (golden("evaluate_by_name/model"), golden("evaluate_by_name/val"));
    let text = vitral(["evaluate", "--model", &model, &data, "--quiet"]).ok();
    assert!(text.contains("top-1 100.00 %") && text.contains("4 images"), "{text}");
    assert!(text.contains("left out: 2 images of classes that the model does not know: `d`"), "{text}");
    let json = vitral(["evaluate", "--model", &model, &data, "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["top1"], &json["unknown"][0]["name"]), (&1.0.into(), &"d".into()));
    assert_eq!(json["balanced_accuracy"], 1.0);
}

#[test]
fn numbers_order_classes_in_folders_and_archives_alike() {
    let model = golden("numeric_folders/model");
    for data in ["numeric_folders/val", "numeric_folders/val.tar"] {
        let text = vitral(["evaluate", "--model", &model, &golden(data)]).ok();
        assert!(text.contains("top-1 100.00 %") && text.contains("matched in order"), "{data}: {text}");
    }
}

#[test]
fn a_model_that_is_kept_keeps_its_classes() {
    let place = folder();
    let images = place.path().join("images");
    // The model knows a, b, c; the data has c and b, and for a second run something else.
    for (class, from) in [("c", "c"), ("b", "b")] {
        std::fs::create_dir_all(images.join(class)).expect("made");
        for name in ["000.png", "001.png"] {
            let source = Path::new(&golden("evaluate_by_name/val")).join(from).join(name);
            std::fs::copy(source, images.join(class).join(name)).expect("copied");
        }
    }
    let path = |name: &str| within(place.path(), name);
    let tune = |out: &str| {
        let model = golden("evaluate_by_name/model");
        let rest = [
            "--set",
            "model.head=keep",
            "--epochs",
            "1",
            "--lr",
            "1e-9",
            "--set",
            "data.validation_split.fraction=0.5",
        ];
        vitral(["finetune", "--model", &model, &path("images"), "--out", &path(out)].into_iter().chain(rest))
    };
    tune("run").ok();
    let labels = vitral(["info", "--model", &path("run/best"), "--json"]).ok();
    let labels: serde_json::Value = serde_json::from_str(&labels).expect("JSON");
    assert_eq!(labels["labels"], serde_json::json!(["a", "b", "c"]));
    let text = vitral(["evaluate", "--model", &path("run/best"), &path("images")]).ok();
    assert!(text.contains("top-1 100.00 %"), "{text}");
    std::fs::rename(images.join("c"), images.join("x")).expect("renamed");
    let error = tune("other").fails(1);
    assert!(error.contains("`x`") && error.contains("model.head"), "{error}");
}

#[test]
fn archives_and_lists_of_files_are_taken_where_images_are() {
    let archive = golden("numeric_folders/val.tar");
    let rows = vitral(["classify", "--csv", "--top", "1", &archive]).ok();
    assert_eq!(rows.lines().count(), 13, "{rows}");
    assert!(rows.contains("val.tar/./1/0.png") || rows.contains("val.tar/1/0.png"), "{rows}");
    let place = folder();
    let list = within(place.path(), "list.txt");
    std::fs::write(&list, "\u{FEFF}assets/digits/images/one.png\r\n\nassets/digits/images/seven.png\n")
        .expect("written");
    let rows = vitral(["classify", "--csv", "--top", "1", "--files-from", &list]).ok();
    assert_eq!(rows.lines().count(), 3, "{rows}");
    vitral(["classify"]).fails(2);
}

#[test]
fn outputs_do_not_replace_what_they_were_not_asked_to() {
    let place = folder();
    let path = |name: &str| within(place.path(), name);
    let image = path("photo.png");
    std::fs::copy(root().join("assets/digits/images/one.png"), &image).expect("copied");
    std::fs::write(path("photos.txt"), "my own list").expect("written");
    let error = vitral(["embed", &image, "-o", &path("photos.npy")]).fails(2);
    assert!(error.contains("photos.txt"), "{error}");
    assert_eq!(std::fs::read_to_string(path("photos.txt")).expect("kept"), "my own list");
    // Its own files are written again.
    vitral(["embed", &image, "-o", &path("own.npy")]).ok();
    vitral(["embed", &image, &image, "-o", &path("own.npy")]).ok();
    assert_eq!(std::fs::read_to_string(path("own.txt")).expect("written").lines().count(), 2);
    // Nor is an input replaced by the output.
    let tensors = path("in.safetensors");
    vitral(["preprocess", &image, "-o", &tensors]).ok();
    let before = std::fs::read(&tensors).expect("written");
    let error = vitral(["forward", "--model", "assets/digits", "--input", &tensors, "--output", &tensors]).fails(2);
    assert!(error.contains("both input and output"), "{error}");
    assert_eq!(std::fs::read(&tensors).expect("kept"), before);
    let model = path("model");
    vitral(["convert", "assets/digits", &model, "--to", "bundle"]).ok();
    let weights = path("model/model.safetensors");
    let error = vitral(["forward", &model, "--input", &tensors, "--output", &weights]).fails(2);
    assert!(error.contains("belongs to the model"), "{error}");
}

#[test]
fn a_run_takes_no_folder_with_other_files() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let recipe = std::fs::read_to_string(path("recipe.toml")).expect("a recipe");
    // The folder that the recipe itself is in.
    let error = vitral(["train", &path("recipe.toml"), "--out", &place.path().display().to_string()]).fails(1);
    assert!(error.contains("choose another"), "{error}");
    // A folder of the data.
    let error = vitral(["train", &path("recipe.toml"), "--out", &path("images/one")]).fails(1);
    assert!(error.contains("images/one") && error.contains("choose another"), "{error}");
    // A log beside the run is no reason to refuse.
    std::fs::create_dir(path("run")).expect("made");
    std::fs::write(path("run/log.txt"), "").expect("written");
    let out = path("run");
    vitral(["train", &path("recipe.toml"), "--out", &out]).ok();
    let held = std::fs::File::options().append(true).open(path("run/.lock")).expect("a lock");
    held.lock().expect("held");
    let error = vitral(["train", &path("recipe.toml"), "--out", &out, "--epochs", "3"]).fails(1);
    assert!(error.contains("another process"), "{error}");
    assert_eq!(std::fs::read_to_string(path("recipe.toml")).expect("kept"), recipe);
}

#[test]
fn a_run_goes_on_with_more_epochs_and_from_its_own_recipe() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let train = |recipe: &str, more: &[&str]| {
        vitral(["train", &path(recipe), "--out", &path("run")].into_iter().chain(more.iter().copied()))
    };
    let first = train("recipe.toml", &[]);
    assert!(first.err.contains("multiply-accumulates per image") && first.err.contains("4 steps"), "{}", first.err);
    first.ok();
    // From elsewhere: the paths in the run's recipe are whole.
    let mut elsewhere = Command::new(env!("CARGO_BIN_EXE_vitral"));
    elsewhere.args(["train", &path("run/recipe.toml"), "--out", &path("again")]);
    finished(elsewhere.current_dir(place.path().join("images")), &[]).ok();
    let more = train("recipe.toml", &["--epochs", "3"]);
    assert!(more.err.contains("resuming at step 4, in epoch 3 of 3"), "{}", more.err);
    let said = more.ok();
    assert!(said.contains("epoch   3/3") && !said.contains("epoch   2/3"), "{said}");
    let report = std::fs::read_to_string(path("run/report.html")).expect("a new report");
    assert!(report.contains("3 epochs in"), "{report}");
    let error = train("recipe.toml", &["--epochs", "3", "--seed", "7", "--batch", "3"]).fails(1);
    assert!(error.contains("`run.seed` was 0, is now 7") && error.contains("`run.batch` was 2"), "{error}");
    let error = train("recipe.toml", &["--epochs", "1"]).fails(1);
    assert!(error.contains("after the 1 epochs"), "{error}");
    // Other data is noticed by its classes, not by its place.
    std::fs::rename(path("images"), path("moved")).expect("moved");
    let moved = ["--epochs", "4", "--set", &format!("data.train={}", path("moved"))];
    train("recipe.toml", &moved).ok();
    std::fs::rename(path("moved/one"), path("moved/uno")).expect("renamed");
    let error = train("recipe.toml", &["--epochs", "5", "--set", &format!("data.train={}", path("moved"))]).fails(1);
    assert!(error.contains("`one`") && error.contains("`seven`"), "{error}");
}

#[test]
fn images_with_several_labels_are_trained_and_measured() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let rows: String = (0..4).map(|i| format!("one/{i}.png,odd|thin\nseven/{i}.png,odd|top\n")).collect();
    std::fs::write(path("images/list.csv"), format!("path,labels\n{rows}")).expect("written");
    let list = format!("data.train={}", path("images/list.csv"));
    let train = |out: &str, more: &[&str]| {
        let all = ["train", &path("recipe.toml"), "--out", &path(out), "--set", &list];
        vitral(all.into_iter().chain(more.iter().copied()))
    };
    let error = train("refused", &["--set", "run.loss=cross-entropy"]).fails(1);
    assert!(error.contains("`run.loss`") && error.contains("binary"), "{error}");
    let said = train("run", &["--epochs", "30", "--lr", "1e-2"]).ok();
    assert!(said.contains("mAP ") && said.contains("best mean average precision 100.00 %"), "{said}");
    let report = std::fs::read_to_string(path("run/report.html")).expect("written");
    assert!(report.contains("Mean average precision") && report.contains("<td>thin"), "{report}");
    let found = vitral(["evaluate", "--model", &path("run/best"), &path("images/list.csv"), "--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!((&found["mean_average_precision"], &found["classes"][0]["images"]), (&1.0.into(), &8.into()));
    let error = vitral(["probe", "--model", &path("run/best"), &path("images/list.csv")]).fails(1);
    assert!(error.contains("one label for each image"), "{error}");
}

/// The logits that a model gives for an image, through its own preprocessing.
fn logits(model: &str, image: &str, place: &Path) -> Vec<f32> {
    let [input, output] = ["in.safetensors", "out.safetensors"].map(|name| within(place, name));
    vitral(["preprocess", "--model", model, image, "-o", &input]).ok();
    vitral(["forward", model, "--input", &input, "--output", &output]).ok();
    tensor(Path::new(&output), "logits").1
}

/// From a backbone to a classifier in other libraries' formats, at its own size and at another.
#[test]
fn a_fine_tuned_backbone_is_evaluated_and_converted() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let (images, image) = (path("images"), path("images/seven/0.png"));
    for (run, more) in [("whole", &[][..]), ("light", &["--lora", "2"]), ("larger", &["--image-size", "48"])] {
        let tune =
            ["finetune", &images, "--model", "goldens/models/hf_dinov2_model", "--out", &path(run), "--epochs", "1"];
        vitral(tune.iter().chain(more).copied()).ok();
        let best = path(&format!("{run}/best"));
        assert!(vitral(["evaluate", "--model", &best, &images]).ok().contains("top-1"));
        for (target, more) in
            [("huggingface", &[][..]), ("timm", &["--image-size", "32"]), ("timm", &["--image-size", "48"])]
        {
            let size = more.last().copied().unwrap_or("own");
            let out = path(&format!("{run}-{target}-{size}"));
            vitral(["convert", &best, &out, "--to", target].iter().chain(more).copied()).ok();
            // At the model's own size, the numbers are the same; at another, they are those of Vitral's own conversion.
            let own = path(&format!("{run}-bundle-{target}-{size}"));
            vitral(["convert", &best, &own, "--to", "bundle"].iter().chain(more).copied()).ok();
            let (found, expected) = (logits(&out, &image, place.path()), logits(&own, &image, place.path()));
            assert_eq!(found.len(), 2);
            // A NaN is not near anything.
            let near = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(near, "{run} as {target} at {size}: {found:?} is not {expected:?}");
        }
    }
}

#[test]
fn numbers_are_trained_and_measured() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    // 28 × 28 images whose brightness is the number.
    std::fs::create_dir(path("gray")).expect("made");
    let mut rows = "path,target\n".to_owned();
    for level in (0..=250u8).step_by(5) {
        let image = [&b"P5 28 28 255\n"[..], &[level; 28 * 28]].concat();
        std::fs::write(path(&format!("gray/{level}.pgm")), image).expect("written");
        rows += &format!("{level}.pgm,{:.3}\n", f32::from(level) / 255.0);
    }
    std::fs::write(path("gray/list.csv"), rows).expect("written");
    let list = path("gray/list.csv");
    let (data, loss) = (format!("data.train={list}"), "run.loss=squared");
    let train = ["train", &path("recipe.toml"), "--out", &path("run"), "--set", &data, "--set", loss, "--epochs", "40"];
    let said = vitral(train.into_iter().chain(["--lr", "1e-2", "--batch", "8"])).ok();
    assert!(said.contains("R² 0.") && said.contains("best R² 0.9"), "{said}");
    assert!(std::fs::read_to_string(path("run/report.html")).expect("written").contains("Mean absolute error"));
    let best = path("run/best");
    let found = vitral(["evaluate", "--model", &best, &list, "--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert!(found["r_squared"].as_f64().is_some_and(|r| r > 0.9), "{found}");
    let answer = vitral(["classify", "--model", &best, &path("gray/255.pgm"), "--json"]);
    assert!(answer.code == Some(1), "there is no such image");
    let answer = vitral(["classify", "--model", &best, &path("gray/250.pgm"), "--json"]).ok();
    assert!(answer.contains("regression"), "{answer}");
    vitral(["convert", &best, &path("hf"), "--to", "huggingface"]).ok();
    let config = std::fs::read_to_string(path("hf/config.json")).expect("written");
    assert!(config.contains("\"problem_type\": \"regression\""), "{config}");
    let words = ["train", &path("recipe.toml"), "--out", &path("words"), "--set", loss];
    assert!(vitral(words).fails(1).contains("expected labels that are numbers, found `one`"));
}

#[test]
fn options_of_other_programs_are_understood_or_have_a_hint() {
    let image = "assets/digits/images/one.png";
    let rows = vitral(["classify", "--csv", "--topk", "2", "--num-threads", "1", "--batch-size", "1", image]).ok();
    assert_eq!(rows.lines().count(), 3);
    let error = vitral(["finetune", "data", "--model", "m", "--out", "run", "--resume"]).fails(2);
    assert!(error.contains("hint: a run resumes by itself"), "{error}");
    assert!(vitral(["help", "embed"]).ok().contains("--pool"));
    assert!(built_in(["--help"]).ok().contains("130 interrupted"));
}

#[test]
fn the_model_stands_first_or_after_its_option() {
    let same = |first: &[&str], second: &[&str]| assert_eq!(vitral(first).ok(), vitral(second).ok());
    for command in ["info", "doctor", "inspect"] {
        same(&[command, "assets/digits"], &[command, "--model", "assets/digits"]);
    }
    vitral(["bench", "assets/digits", "--runs", "1"]).ok();
    let place = folder();
    let path = |name: &str| within(place.path(), name);
    vitral(["convert", "--model", "assets/digits", &path("a"), "--to", "vitral"]).ok();
    vitral(["convert", "assets/digits", &path("b"), "--to", "bundle"]).ok();
    let error = vitral(["convert", "assets/digits", "--to", "hf"]).fails(2);
    assert!(error.contains("where to write"), "{error}");
    vitral(["info", "assets/digits", "--model", "assets/digits"]).fails(2);
}

#[test]
fn manual_pages_are_written() {
    let place = folder();
    vitral(["man", &within(place.path(), "man1")]).ok();
    let page = std::fs::read_to_string(place.path().join("man1/vitral-classify.1")).expect("a page");
    assert!(page.contains(".TH") && page.contains("vitral-classify") && page.contains("top"), "{page}");
    assert!(place.path().join("man1/vitral.1").exists());
}

/// Sends a signal to a command that has begun to write, and returns its exit code.
#[cfg(unix)]
fn interrupted(args: &[&str], signal: &str, begun: impl Fn() -> bool) -> Option<i32> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vitral"))
        .args(args)
        .current_dir(root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    for _ in 0..2000 {
        if begun() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(begun(), "nothing was written");
    Command::new("kill").args([signal, &child.id().to_string()]).status().expect("sent");
    child.wait().expect("ended").code()
}

#[cfg(unix)]
#[test]
fn signals_leave_nothing_half_written() {
    let place = folder();
    let images = place.path().join("images");
    std::fs::create_dir(&images).expect("made");
    for copy in 0..4000 {
        std::os::unix::fs::symlink(root().join("assets/images/cat.jpg"), images.join(format!("{copy}.jpg")))
            .expect("a link");
    }
    for (signal, file) in [("-INT", "x.npy"), ("-TERM", "x.npy"), ("-HUP", "x.parquet")] {
        let out = place.path().join("out");
        std::fs::create_dir(&out).expect("made");
        let (images, target) = (images.display().to_string(), out.join(file).display().to_string());
        let code = interrupted(&["embed", &images, "-o", &target], signal, || !names_in(&out).is_empty());
        assert_eq!((code, names_in(&out)), (Some(130), vec![]), "{signal}");
        std::fs::remove_dir(&out).expect("empty");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_can_be_resumed() {
    let place = place();
    let path = |name: &str| within(place.path(), name);
    let args = ["train", &path("recipe.toml"), "--out", &path("run"), "--epochs", "2000"];
    let journal = place.path().join("run/journal.jsonl");
    let code = interrupted(&args, "-TERM", || journal.exists());
    assert_eq!(code, Some(130));
    let left = names_in(&place.path().join("run"));
    assert!(left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
    let entries = std::fs::read_to_string(&journal).expect("a journal").lines().count();
    let again = vitral(["train", &path("recipe.toml"), "--out", &path("run"), "--epochs", &(entries + 1).to_string()]);
    assert!(again.err.contains("resuming at step"), "{}", again.err);
    again.ok();
}
