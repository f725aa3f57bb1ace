//! Several ranks give the bits of one. Here they are threads of this process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vitral::image::Filter;
use vitral::{Device, config::Size};
use vitral_ranks::Ranks;
use vitral_train::TrainError;
use vitral_train::checkpoint;
use vitral_train::data::{Loader, LoaderOptions, Split, ValidationSplit, open, plain};
use vitral_train::evaluate::{evaluate, features};
use vitral_train::fit::{Outcome, Watcher};
use vitral_train::journal::Entry;
use vitral_train::pretrain::{Images, drawing_of, pretrain};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::run::{Models, RunOn, run};
use vitral_train::sets::open_sets;
use vitral_train::step::StepReport;

use super::resume::images;

const PLAIN: &str = r#"
[model]
variant = "test/4"
set = { image_size = 8, drop = { hidden = 0.1, path = 0.1 } }
[data]
train = "images"
validation_split = { fraction = 0.25, seed = 1 }
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[augment]
horizontal_flip = 0.5
crop = { kind = "padded", pixels = 1 }
[optimizer]
kind = "adamw"
[schedule]
learning_rate = 1e-3
[run]
epochs = 3
batch = 6
clip = { norm = 1.0 }
checkpoint_every = 1
keep = 100
"#;

/// Convolutions before the blocks, mixup and CutMix, an average of the parameters, two batches a step.
const HYBRID: &str = r#"
[model]
variant = "test/4"
set = { image_size = 8, patch_size = 1, class_token = false, positions = "learned-patches", pooling = "mean", stem = { convolutional = { group_width = 8, layers = [{ channels = 16, stride = 2 }] } } }
[data]
train = "images"
validation_split = { fraction = 0.25, seed = 1 }
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[augment]
mixing = { mixup = 0.2, cutmix = 1.0 }
[optimizer]
kind = "adamw"
[schedule]
learning_rate = 1e-3
[run]
epochs = 2
batch = 4
accumulate = 2
ema_decay = 0.9
checkpoint_every = 1
keep = 100
"#;

/// Hidden patches are predicted: a masked autoencoder by default, and an average of the parameters.
fn hidden() -> String {
    PLAIN.replace("[optimizer]", "[pretraining]\n[optimizer]").replace("clip = { norm = 1.0 }", "ema_decay = 0.9")
}

/// Raises the flag after a step, if set.
struct Stop<'a> {
    after: Option<u64>,
    flag: &'a AtomicBool,
    losses: Vec<f32>,
}

impl Watcher for Stop<'_> {
    fn step(&mut self, report: &StepReport, _: usize, _: usize) {
        self.losses.push(report.loss);
        if self.after == Some(report.step) {
            self.flag.store(true, Ordering::Relaxed);
        }
    }

    fn epoch(&mut self, _: &Entry, _: bool) {}
}

/// Runs a function on so many ranks, and gives the results in their order.
fn on<T: Send>(count: usize, rank: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let running: Vec<_> = Ranks::threads(count).into_iter().map(|ranks| scope.spawn(|| rank(ranks))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Trains on so many ranks, of which the last is stopped after a step, if one is given.
fn train(
    folder: &Path,
    out: &str,
    size: usize,
    after: Option<u64>,
    settings: &[Setting],
) -> Vec<Result<Outcome, TrainError>> {
    on(size, |ranks| {
        let recipe = Recipe::load(&folder.join("recipe.toml"), settings).unwrap();
        let (flag, device) = (AtomicBool::new(false), Device::cpu(if ranks.is_first() { 2 } else { 1 }));
        let after = after.filter(|_| ranks.rank() + 1 == ranks.size());
        let mut stop = Stop { after, flag: &flag, losses: Vec::new() };
        let on = RunOn { device: &device, ranks, interrupted: &flag };
        if recipe.pretraining.is_some() {
            let images = Images::open(&recipe).unwrap();
            return pretrain(&recipe, &images, None, &folder.join(out), on, &mut stop);
        }
        run(&recipe, &open_sets(&recipe).unwrap(), Models::default(), &folder.join(out), on, &mut stop)
    })
}

/// What a run leaves that has to be the same: every checkpoint, the best model, the journal without its times, and the report's
/// numbers or the drawing of a pre-training.
fn left(folder: &Path, out: &str) -> Vec<Vec<u8>> {
    let out = folder.join(out);
    let mut files: Vec<Vec<u8>> =
        checkpoint::list(&out.join("checkpoints")).iter().map(|path| std::fs::read(path).unwrap()).collect();
    files.push(std::fs::read(out.join("best/model.safetensors")).unwrap());
    let journal = std::fs::read_to_string(out.join("journal.csv")).unwrap();
    files.push(
        journal
            .lines()
            .map(|line| line.split(',').take(8).collect::<Vec<_>>().join(",") + "\n")
            .collect::<String>()
            .into(),
    );
    let recipe = Recipe::load(&out.join("recipe.toml"), &[]).unwrap();
    if let Some(rule) = &recipe.pretraining {
        files.push(std::fs::read(out.join(drawing_of(rule))).unwrap());
        return files;
    }
    let report = std::fs::read_to_string(out.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    files.push(report["evaluation"].to_string().into());
    files
}

/// One, two and four ranks, and a run that changes their number on the way, leave the same.
fn same_on_any_number(recipe: &str, settings: &[Setting]) {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let straight = train(folder.path(), "one", 1, None, settings).pop().unwrap().unwrap();
    let expected = left(folder.path(), "one");
    assert!(expected.len() > 4, "checkpoints, a model, a journal and a report");
    for size in [2, 4] {
        let out = format!("of {size}");
        for outcome in train(folder.path(), &out, size, None, settings) {
            assert_eq!(outcome.unwrap(), straight, "{size} ranks");
        }
        assert!(left(folder.path(), &out) == expected, "{size} ranks leave other files");
    }
    for (size, after) in [(2, 1), (4, 3)] {
        for outcome in train(folder.path(), "changing", size, Some(after), settings) {
            assert_eq!(outcome.unwrap(), Outcome::Interrupted { step: after });
        }
    }
    assert_eq!(train(folder.path(), "changing", 1, None, settings).pop().unwrap().unwrap(), straight);
    assert!(left(folder.path(), "changing") == expected, "a run on 2, 4 and 1 ranks leaves other files");
}

#[test]
fn a_plain_vit() {
    same_on_any_number(PLAIN, &[]);
}

#[test]
fn a_hybrid_with_mixing_and_an_average() {
    same_on_any_number(HYBRID, &[]);
}

#[test]
fn pre_training_without_labels() {
    let decoder = ["pretraining.decoder_width=16", "pretraining.decoder_depth=1", "pretraining.decoder_heads=2"];
    let patches = ["pretraining.method=masked-patches", "pretraining.corrupted=0.5"];
    for settings in [decoder.as_slice(), &patches] {
        let settings: Vec<Setting> = settings.iter().map(|setting| Setting::parse(setting).unwrap()).collect();
        same_on_any_number(&hidden(), &settings);
    }
}

#[test]
fn low_rank_updates() {
    let maps = toml::Value::Array(vec!["qkv".into(), "down".into()]);
    same_on_any_number(PLAIN, &[Setting::new("lora.rank", 2), Setting::new("lora.maps", maps)]);
}

#[test]
fn weights_focal_loss_and_sampling() {
    let settings = [
        "run.class_weights={ dark = 3.0, light = 0.5 }",
        "run.sampling=balanced",
        "run.loss=focal",
        "run.choose_by=balanced-accuracy",
    ];
    let settings = settings.map(|setting| Setting::parse(setting).unwrap());
    same_on_any_number(PLAIN, &settings);
    same_on_any_number(HYBRID, &settings);
}

#[test]
fn moments_may_be_shared() {
    for kind in ["adamw", "sgd", "lion", "lamb", "muon"] {
        let folder = tempfile::tempdir().unwrap();
        images(folder.path());
        std::fs::write(folder.path().join("recipe.toml"), PLAIN.replace("adamw", kind)).unwrap();
        let shared = [Setting::new("run.share_moments", true), Setting::new("run.epochs", 2)];
        train(folder.path(), "whole", 1, None, &shared[1..]).pop().unwrap().unwrap();
        let expected = left(folder.path(), "whole");
        let parameters = |files: &[Vec<u8>]| -> Vec<Vec<u8>> {
            files[..files.len() - 3]
                .iter()
                .map(|bytes| {
                    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
                    let mut named: Vec<_> = file.iter().collect();
                    named.sort_by_key(|(name, _)| *name);
                    named.into_iter().flat_map(|(_, view)| view.data().to_vec()).collect()
                })
                .collect()
        };
        for size in [2, 4] {
            let out = format!("of {size}");
            train(folder.path(), &out, size, Some(2), &shared);
            for outcome in train(folder.path(), &out, 6 - size, None, &shared) {
                outcome.unwrap();
            }
            assert!(parameters(&left(folder.path(), &out)) == parameters(&expected), "{kind}, {size} ranks");
        }
    }
}

#[test]
fn all_end_where_one_cannot_go_on() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), PLAIN).unwrap();
    // The first rank cannot write.
    std::fs::write(folder.path().join("taken"), b"").unwrap();
    let errors = train(folder.path(), "taken", 4, None, &[]).into_iter().map(|result| result.unwrap_err().to_string());
    for (rank, error) in errors.enumerate() {
        assert!(error.contains("taken"), "rank {rank}: {error}");
        assert_eq!(error.starts_with("rank 0: "), rank > 0, "{error}");
    }
    // Numbers of ranks that do not fit.
    let fault = |size: usize, settings: &[Setting]| {
        train(folder.path(), "none", size, None, settings).pop().unwrap().unwrap_err().to_string()
    };
    let expected = "expected a power of two up to the 4 leaves of a batch, found 3 ranks; start 2";
    assert_eq!(fault(3, &[]), expected);
    let expected =
        "expected a power of two up to the 2 leaves of a batch, found 4 ranks; start 2, or set `run.leaves = 4`";
    assert_eq!(fault(4, &[Setting::new("run.leaves", 2)]), expected);
    let expected = "expected a power of two, found 3";
    assert!(fault(1, &[Setting::new("run.leaves", 3)]).contains(expected));
    // A rate that no run survives: all report the same divergence.
    let wild = [Setting::new("schedule.learning_rate", 1e30), Setting::new("schedule.warmup_steps", 0)];
    for error in train(folder.path(), "wild", 2, None, &wild) {
        assert!(matches!(error.unwrap_err(), TrainError::Diverged { .. }));
    }
}

#[test]
fn evaluations_and_features_are_those_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    // Unreadable images, one of them a batch of its own.
    for (name, class) in [("3.png", "dark"), ("7.png", "light")] {
        std::fs::write(folder.path().join("images").join(class).join(name), b"no image").unwrap();
    }
    let whole = ValidationSplit { fraction: 1.0, ..ValidationSplit::default() };
    let dataset = open(&folder.path().join("images"), Split::Test, whole).unwrap();
    let size = Size { height: 8, width: 8 };
    let looked = |ranks: &Ranks, batch: usize| {
        let device = Device::cpu(1);
        let options = LoaderOptions::evaluation(plain(size, Filter::Bilinear, &[0.5; 3], &[0.5; 3]), batch);
        let loader = Loader::new(Arc::clone(&dataset), options.dealt_to(ranks), &device).unwrap();
        // Two numbers of each image stand for a model.
        let answer = |pixels: &vitral::Tensor| {
            let images = pixels.extent(0);
            Ok(device.slice(&pixels.reshape([images * 3 * 64]), 0..images * 2).reshape([images, 2]))
        };
        let found = (evaluate(&loader, answer).unwrap(), features(&loader, answer).unwrap());
        (
            found.0,
            found.1.labels().to_vec(),
            (0..found.1.len()).flat_map(|row| found.1.row(row).to_vec()).collect::<Vec<_>>(),
        )
    };
    for batch in [1, 3, 5, 16] {
        let expected = looked(&Ranks::alone(), batch);
        for count in [2, 3, 4, 20] {
            assert!(
                on(count, |ranks| looked(&ranks, batch)).into_iter().all(|found| found == expected),
                "{count}, {batch}"
            );
        }
    }
}
