//! Masked autoencoders: ten steps against transformers (`tools/golden/masked.py`), and a whole pre-training.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use vitral::config::{ModelConfig, Size};
use vitral::model::{DecoderConfig, MaskedAutoencoder, Visible};
use vitral::numbers::apart;
use vitral::weights::Container;
use vitral::{Device, LoadOptions, Model};
use vitral_engine::{Context, Parameters};
use vitral_train::fit::{Outcome, Watcher};
use vitral_train::hidden::Removal;
use vitral_train::journal::{Entry, Journal};
use vitral_train::loss::Loss;
use vitral_train::optimize::{GroupOptions, Optimizer, Schedule, groups};
use vitral_train::pretrain::{Images, pretrain};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::run::RunOn;
use vitral_train::step::{Batch, Hidden, Rules, StepReport, Trainer};

pub(crate) struct Golden(Container);

impl Golden {
    pub(crate) fn open(name: &str) -> Self {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
        Golden(Container::open(&goldens.join(name)).unwrap())
    }

    pub(crate) fn values(&self, name: &str) -> Vec<f32> {
        let view = self.0.tensor(name).unwrap_or_else(|| panic!("no `{name}`"));
        view.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }
}

const IMAGES: usize = 3;
const PATCHES: usize = 16;
const SEEN: usize = 4;

/// The encoder of the goldens.
pub(crate) fn encoder() -> ModelConfig {
    ModelConfig {
        image_size: Size::square(32),
        patch_size: Size::square(8),
        width: 24,
        depth: 2,
        heads: 3,
        head_width: 8,
        mlp_width: 40,
        ..ModelConfig::default()
    }
}

fn small() -> MaskedAutoencoder {
    MaskedAutoencoder::new(encoder(), DecoderConfig { width: 16, depth: 2, heads: 2 }).unwrap()
}

/// The golden's model on a device, with the positions that transformers does not train.
fn loaded(golden: &Golden, autoencoder: &MaskedAutoencoder, device: &Device) -> Parameters {
    let mut parameters = Parameters::zeros(autoencoder.declarations().clone(), device.clone());
    for id in autoencoder.declarations().ids() {
        let name = &autoencoder.declarations().spec(id).name;
        let stored = if name == "positions" { name.clone() } else { format!("parameters.{name}") };
        parameters.write(id, &golden.values(&stored));
    }
    parameters.freeze(autoencoder.declarations().find("positions"));
    parameters
}

fn visible(golden: &Golden, step: usize) -> Visible {
    let all: Vec<usize> = golden.values("visible").iter().map(|&patch| patch as usize).collect();
    Visible::new(PATCHES, SEEN, all[step * IMAGES * SEEN..][..IMAGES * SEEN].to_vec())
}

#[test]
fn predictions_equal_transformers() {
    let (golden, autoencoder) = (Golden::open("masked.safetensors"), small());
    for device in [Device::cpu(2), Device::reference()] {
        let parameters = loaded(&golden, &autoencoder, &device);
        let pixels = device.upload([IMAGES, 3, 32, 32], &golden.values("pixel_values")).unwrap();
        let cx = Context::inference(&parameters);
        let found = autoencoder.predict(&cx, &pixels, &visible(&golden, 0)).unwrap().to_vec().unwrap();
        let worst = apart(&found, &golden.values("predicted"));
        assert!(worst < 2e-5, "{worst}");
    }
}

/// The rules of a golden of ten steps.
pub(crate) fn rules(optimizer: Optimizer, loss: Loss) -> Rules {
    let shape = vitral_train::optimize::Shape::Constant;
    Rules {
        optimizer,
        schedule: Schedule { learning_rate: 2e-3, shape, ..Schedule::default() },
        total_steps: 10,
        clip: None,
        ema_decay: None,
        loss,
        distillation: None,
        recompute: false,
        seed: 0,
        leaves: 2,
        share_moments: false,
    }
}

#[test]
fn ten_losses_equal_transformers() {
    let (golden, autoencoder) = (Golden::open("masked.safetensors"), small());
    let device = Device::cpu(2);
    let parameters = loaded(&golden, &autoencoder, &device);
    let optimizer = Optimizer::Adamw { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
    let groups = groups(autoencoder.vit(), &parameters, &GroupOptions::default(), &optimizer);
    let rules = rules(optimizer, Loss::Squared);
    let ranks = vitral_ranks::Ranks::alone();
    let mut trainer = Trainer::with_hidden_patches(autoencoder, parameters, groups, rules, ranks).unwrap();
    let pixels = golden.values("pixel_values");
    let targets = Removal::default().targets(&pixels, 3, Size::square(32), Size::square(8));
    for (step, expected) in golden.values("losses").into_iter().enumerate() {
        let pixels = device.upload([IMAGES, 3, 32, 32], &pixels).unwrap();
        let targets = device.upload([IMAGES, PATCHES, 192], &targets).unwrap();
        let batch = Batch {
            hidden: Some(Hidden::AllBut(visible(&golden, step))),
            ..Batch::whole(pixels, targets, vec![0; IMAGES])
        };
        let found = trainer.step(&[batch], None).unwrap().loss;
        assert!((found - expected).abs() < 5e-5, "step {step}: {found}, expected {expected}");
    }
}

#[derive(Default)]
struct Losses(Vec<f32>);

impl Watcher for Losses {
    fn step(&mut self, report: &StepReport, _: usize, _: usize) {
        self.0.push(report.loss);
    }
    fn epoch(&mut self, _: &Entry, _: bool) {}
}

/// Images that are lighter or darker as a whole, without labels.
pub(crate) fn shades(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder.join("deep/er")).unwrap();
    for image in 0..count {
        let level = |place: usize| (20 + 50 * (image % 5) + place % 3) as u8;
        let pixels: Vec<u8> = (0..16 * 16).flat_map(|place| [level(place); 3]).collect();
        let place = if image.is_multiple_of(3) { "deep/er" } else { "deep" };
        let file = folder.join(place).join(format!("{image}.png"));
        image::save_buffer(file, &pixels, 16, 16, image::ExtendedColorType::Rgb8).unwrap();
    }
}

const RECIPE: &str = r#"
[model]
variant = "test/4"
set = { image_size = 16 }
[data]
train = "images"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[optimizer]
kind = "adamw"
[schedule]
learning_rate = 3e-3
[run]
epochs = 12
batch = 8
"#;

const AUTOENCODER: &str =
    "hidden = 0.5\nnormalize_patches = false\ndecoder_width = 32\ndecoder_depth = 1\ndecoder_heads = 2\n";

/// The recipe with a table of its own for what is hidden, and settings.
pub(crate) fn recipe(folder: &Path, hidden: &str, settings: &[&str]) -> Result<Recipe, vitral_train::TrainError> {
    let settings: Vec<Setting> = settings.iter().map(|setting| Setting::parse(setting).unwrap()).collect();
    Recipe::parse(&format!("{RECIPE}[pretraining]\n{hidden}"), &folder.join("recipe.toml"), &settings)
}

/// Runs the recipe in a folder, with every step's loss.
pub(crate) fn trained(
    folder: &Path,
    out: &str,
    hidden: &str,
    settings: &[&str],
    stop: Option<&AtomicBool>,
) -> (Outcome, Vec<f32>) {
    let recipe = recipe(folder, hidden, settings).unwrap_or_else(|error| panic!("{error}"));
    let images = Images::open(&recipe).unwrap();
    let (device, never) = (Device::cpu(2), AtomicBool::new(false));
    let mut losses = Losses::default();
    let on = RunOn::alone(&device, stop.unwrap_or(&never));
    let outcome = pretrain(&recipe, &images, None, &folder.join(out), on, &mut losses).unwrap();
    (outcome, losses.0)
}

#[test]
fn a_folder_without_labels_gives_an_encoder_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    shades(&folder.join("images"), 48);
    let (outcome, losses) = trained(folder, "run", AUTOENCODER, &[], None);
    let Outcome::Finished { best, .. } = outcome else { panic!("{outcome:?}") };
    let entries = Journal::read(&folder.join("run")).unwrap();
    assert_eq!(entries.last().unwrap().validation_accuracy.map(|last| last <= best), Some(true));
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    assert!(mean(&losses[losses.len() - 5..]) < 0.5 * mean(&losses[..5]), "{losses:?}");
    let model = Model::load(folder.join("run/best"), &LoadOptions::default(), &Device::cpu(1)).unwrap();
    assert_eq!(model.vit().config().classes, 0);
    assert!(model.parameters().declarations().find("decoder.mask").is_none());
    let drawn = image::open(folder.join("run/reconstructions.png")).unwrap();
    assert_eq!(drawn.width(), 3 * 16 + 2 * 2);
    // A run that is stopped and goes on is the same run.
    let stop = AtomicBool::new(true);
    let (stopped, first) = trained(folder, "again", AUTOENCODER, &[], Some(&stop));
    assert!(matches!(stopped, Outcome::Interrupted { step: 1 }), "{stopped:?}");
    let (went_on, rest) = trained(folder, "again", AUTOENCODER, &[], None);
    assert_eq!((went_on, [first, rest].concat()), (outcome, losses));
    let weights = |run: &str| std::fs::read(folder.join(run).join("best/model.safetensors")).unwrap();
    assert_eq!(weights("again"), weights("run"));
}

#[test]
fn what_needs_labels_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (setting, key) in [
        ("run.class_weights=inverse", "run.class_weights"),
        ("run.loss=binary", "run.loss"),
        ("augment.label_smoothing=0.1", "augment.label_smoothing"),
        ("lora.rank=4", "lora"),
        ("pretraining.hidden=1.0", "pretraining.hidden"),
        ("pretraining.decoder_depth=0", "pretraining.decoder_depth"),
        ("pretraining.mask=0.5", "mask"),
        ("pretraining.corrupted=0.5", "corrupted"),
        ("pretraining.method=masked-patches", "hidden"),
    ] {
        let error = recipe(folder.path(), AUTOENCODER, &[setting]).expect_err(setting).to_string();
        assert!(error.contains(key), "{setting}: {error}");
    }
    let missing = Images::open(&recipe(folder.path(), AUTOENCODER, &[]).unwrap()).expect_err("no images").to_string();
    assert!(missing.contains("images"), "{missing}");
}
