//! A resumed run is bit-identical to an uninterrupted one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vitral::Device;
use vitral_engine::random::uniform;
use vitral_train::checkpoint;
use vitral_train::fit::{Outcome, Watcher};
use vitral_train::journal::{Entry, Journal};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::run::{Models, RunOn, run};
use vitral_train::sets::open_sets;
use vitral_train::step::StepReport;

/// Two classes of eight noisy images, one darker than the other.
pub(crate) fn images(folder: &Path) {
    for (class, name) in ["dark", "light"].iter().enumerate() {
        let place = folder.join("images").join(name);
        std::fs::create_dir_all(&place).unwrap();
        for image in 0..8u64 {
            let seed = image * 2 + class as u64;
            let pixels: Vec<u8> =
                (0..8 * 8 * 3).map(|i| (uniform(seed, i) * 120.0) as u8 + 100 * class as u8).collect();
            let file = place.join(format!("{image}.png"));
            image::save_buffer(file, &pixels, 8, 8, image::ExtendedColorType::Rgb8).unwrap();
        }
    }
}

const RECIPE: &str = r#"
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
batch = 2
ema_decay = 0.9
clip = { norm = 1.0 }
checkpoint_every = 1
"#;

/// Stops a run after a number of steps, if set.
struct Stop<'a> {
    after: Option<u64>,
    flag: &'a AtomicBool,
}

impl Watcher for Stop<'_> {
    fn step(&mut self, report: &StepReport, _: usize, _: usize) {
        if self.after == Some(report.step) {
            self.flag.store(true, Ordering::Relaxed);
        }
    }

    fn epoch(&mut self, _: &Entry, _: bool) {}
}

fn train(folder: &Path, out: &str, threads: usize, after: Option<u64>, settings: &[Setting]) -> Outcome {
    let recipe = Recipe::load(&folder.join("recipe.toml"), settings).unwrap();
    let sets = open_sets(&recipe).unwrap();
    let flag = AtomicBool::new(false);
    let device = Device::cpu(threads);
    run(
        &recipe,
        &sets,
        Models::default(),
        &folder.join(out),
        RunOn::alone(&device, &flag),
        &mut Stop { after, flag: &flag },
    )
    .unwrap()
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    resumed_equals_straight(&[]);
}

#[test]
fn lora_runs_resume_too() {
    let maps = toml::Value::Array(vec!["qkv".into(), "down".into()]);
    let update = [Setting::new("lora.rank", 2), Setting::new("lora.dropout", 0.2), Setting::new("lora.maps", maps)];
    resumed_equals_straight(&update);
}

#[test]
fn runs_with_weights_and_sampling_resume_too() {
    let settings = ["run.class_weights=effective", "run.sampling=sqrt", "run.loss=binary-focal"];
    resumed_equals_straight(&settings.map(|setting| Setting::parse(setting).unwrap()));
}

#[test]
fn evaluates_at_the_recipes_interval_and_after_the_last_epoch() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let course = |out: &str, every: i64| {
        train(folder.path(), out, 1, None, &[Setting::new("run.evaluate_every", every)]);
        Journal::open(&folder.path().join(out), u64::MAX).unwrap().entries().to_vec()
    };
    let (always, seldom, last) = (course("always", 1), course("seldom", 2), course("last", 0));
    assert!(always.len() == 3 && always.iter().all(|entry| entry.validation_loss.is_some()));
    for (entries, evaluated) in [(&seldom, [false, true, true]), (&last, [false, false, true])] {
        assert_eq!(entries.len(), always.len());
        for ((entry, whole), evaluated) in entries.iter().zip(&always).zip(evaluated) {
            assert_eq!(entry.train_loss, whole.train_loss, "evaluation does not change training");
            assert_eq!(entry.validation_loss, whole.validation_loss.filter(|_| evaluated));
            assert_eq!(entry.validation_accuracy, whole.validation_accuracy.filter(|_| evaluated));
        }
    }
    let table = std::fs::read_to_string(folder.path().join("seldom/journal.csv")).unwrap();
    assert!(table.lines().nth(1).unwrap().contains(",,,"), "an empty cell without evaluation: {table}");
    resumed_equals_straight(&[Setting::new("run.evaluate_every", 2)]);
}

fn resumed_equals_straight(settings: &[Setting]) {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let straight = train(folder.path(), "straight", 1, None, settings);
    assert!(matches!(straight, Outcome::Finished { .. }));
    for stop in [1, 4, 7, 11] {
        assert_eq!(train(folder.path(), "stopped", 2, Some(stop), settings), Outcome::Interrupted { step: stop });
    }
    assert_eq!(train(folder.path(), "stopped", 2, None, settings), straight);
    let last = |out: &str| {
        let found = checkpoint::list(&folder.path().join(out).join("checkpoints"));
        std::fs::read(found.last().unwrap()).unwrap()
    };
    assert!(last("straight") == last("stopped"), "the last checkpoints differ");
    let losses = |out: &str| {
        let text = std::fs::read_to_string(folder.path().join(out).join("journal.csv")).unwrap();
        text.lines().map(|line| line.split(',').take(8).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    assert_eq!(losses("straight"), losses("stopped"));
    let best = std::fs::read(folder.path().join("straight/best/model.safetensors")).unwrap();
    assert!(best == std::fs::read(folder.path().join("stopped/best/model.safetensors")).unwrap());
}

/// Delays every step.
struct Slow(Duration);

impl Watcher for Slow {
    fn step(&mut self, _: &StepReport, _: usize, _: usize) {
        std::thread::sleep(self.0);
    }

    fn epoch(&mut self, _: &Entry, _: bool) {}
}

#[test]
fn throughput_counts_only_images_of_this_process() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let settings = [Setting::new("run.epochs", 1)];
    // Five of the six steps of an epoch are done before the stop.
    assert_eq!(train(folder.path(), "out", 1, Some(5), &settings), Outcome::Interrupted { step: 5 });
    let recipe = Recipe::load(&folder.path().join("recipe.toml"), &settings).unwrap();
    let (sets, flag, out) = (open_sets(&recipe).unwrap(), AtomicBool::new(false), folder.path().join("out"));
    let step = Duration::from_millis(200);
    run(&recipe, &sets, Models::default(), &out, RunOn::alone(&Device::cpu(1), &flag), &mut Slow(step)).unwrap();
    let last = Journal::read(&out).unwrap()[0];
    assert_eq!(last.step, 6);
    // One step of two images in at least 0.2 seconds.
    assert!(last.images_per_second > 0.0 && last.images_per_second <= 10.0, "{}", last.images_per_second);
}

#[test]
fn a_run_is_not_resumed_with_another_recipe() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    train(folder.path(), "run", 1, Some(2), &[]);
    let recipe =
        Recipe::load(&folder.path().join("recipe.toml"), &[Setting::new("schedule.learning_rate", 2e-3)]).unwrap();
    let sets = open_sets(&recipe).unwrap();
    let flag = AtomicBool::new(false);
    let mut stop = Stop { after: None, flag: &flag };
    let error = run(
        &recipe,
        &sets,
        Models::default(),
        &folder.path().join("run"),
        RunOn::alone(&Device::cpu(1), &flag),
        &mut stop,
    )
    .unwrap_err();
    assert!(error.to_string().contains("another recipe"), "{error}");
}

#[test]
fn more_plain_epochs_than_epochs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let recipe = Recipe::load(&folder.path().join("recipe.toml"), &[Setting::new("augment.plain_epochs", 4)]).unwrap();
    let flag = AtomicBool::new(false);
    let (sets, mut stop) = (open_sets(&recipe).unwrap(), Stop { after: None, flag: &flag });
    let out = folder.path().join("run");
    let error = run(&recipe, &sets, Models::default(), &out, RunOn::alone(&Device::cpu(1), &flag), &mut stop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("at most the 3 epochs, found 4"), "{error}");
}

#[test]
fn a_run_that_diverges_saves_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let settings = [Setting::new("schedule.learning_rate", 1e30), Setting::new("optimizer.kind", "sgd")];
    let recipe = Recipe::load(&folder.path().join("recipe.toml"), &settings).unwrap();
    let sets = open_sets(&recipe).unwrap();
    let flag = AtomicBool::new(false);
    let out = folder.path().join("run");
    let mut stop = Stop { after: None, flag: &flag };
    let error = run(&recipe, &sets, Models::default(), &out, RunOn::alone(&Device::cpu(1), &flag), &mut stop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("diverged") && error.contains("diverged.safetensors"), "{error}");
    let bytes = std::fs::read(out.join("diverged.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("pixel_values.0").unwrap().shape(), [2, 3, 8, 8]);
    assert!(!checkpoint::list(&out.join("checkpoints")).is_empty(), "the last good checkpoint is kept");
}
