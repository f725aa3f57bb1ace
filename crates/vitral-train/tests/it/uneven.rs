//! Data with few images of some classes: weights, sampling, what chooses the best epoch, and what the report says.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use vitral::config::{ModelConfig, Size};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Vit, variants};
use vitral::{Device, Tensor};
use vitral_engine::Parameters;
use vitral_train::TrainError;
use vitral_train::fit::{Outcome, Watcher};
use vitral_train::journal::{Entry, Journal};
use vitral_train::loss::Loss;
use vitral_train::optimize::{GroupOptions, Optimizer, Schedule, groups};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::run::{Models, RunOn, run};
use vitral_train::sets::open_sets;
use vitral_train::step::{Batch, Rules, StepReport, Trainer};

use super::resume::images;

struct Silent;

impl Watcher for Silent {
    fn step(&mut self, _: &StepReport, _: usize, _: usize) {}
    fn epoch(&mut self, _: &Entry, _: bool) {}
}

/// A step of seven images, with weights of two classes and in so many leaves: its loss and its gradients.
fn step(leaves: usize, loss: Loss, weights: Option<[f32; 2]>) -> (f32, Vec<f32>) {
    let device = Device::cpu(2);
    let config = ModelConfig { image_size: Size::square(16), classes: 2, ..variants::find("test/4").unwrap() };
    let vit = Vit::new(config).unwrap();
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(&vit, &mut parameters, Initialization::Timm, 3);
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let groups = groups(&vit, &parameters, &GroupOptions::default(), &optimizer);
    let rules = Rules {
        optimizer,
        schedule: Schedule::default(),
        total_steps: 1,
        clip: None,
        ema_decay: None,
        loss,
        distillation: None,
        recompute: false,
        seed: 5,
        leaves,
        share_moments: false,
    };
    let trainer = Trainer::new(vit, parameters, groups, rules).unwrap();
    let mut trainer = match weights {
        Some(weights) => trainer.with_class_weights(&weights).unwrap(),
        None => trainer,
    };
    let pixels: Vec<f32> = (0..7 * 3 * 16 * 16).map(|i| (i as f32 * 0.7).sin()).collect();
    // One label of class 1, and one mixed.
    let mut targets = [1.0f32, 0.0].repeat(7);
    targets[2..6].copy_from_slice(&[0.0, 1.0, 0.3, 0.7]);
    let upload = |shape: &[usize], values: &[f32]| -> Tensor {
        device.upload(vitral_engine::Shape::new(shape), values).unwrap()
    };
    let batch = Batch::whole(upload(&[7, 3, 16, 16], &pixels), upload(&[7, 2], &targets), vec![0, 1, 1, 0, 0, 0, 0]);
    let report = trainer.step(&[batch], None).unwrap();
    (report.loss, trainer.gradients().to_vec().unwrap())
}

#[test]
fn weights_do_not_depend_on_how_a_batch_is_cut() {
    let losses = [Loss::CrossEntropy, Loss::Binary, Loss::Focal { gamma: 2.0 }, Loss::BinaryFocal { gamma: 1.5 }];
    for loss in losses {
        let (expected, gradients) = step(1, loss, Some([0.25, 4.0]));
        for leaves in [2, 4] {
            let (found, others) = step(leaves, loss, Some([0.25, 4.0]));
            assert!((found - expected).abs() < 1e-6 * expected, "{loss:?}, {leaves} leaves: {found} for {expected}");
            let far = vitral::numbers::apart(&others, &gradients);
            assert!(far < 1e-5, "{loss:?}, {leaves} leaves: gradients differ by {far}");
        }
        let (plain, of_plain) = step(2, loss, None);
        assert!((plain - expected).abs() > 1e-3, "{loss:?}: weights change nothing");
        assert_eq!(step(2, loss, Some([1.0, 1.0])), (plain, of_plain), "{loss:?}: weights of 1 change something");
    }
}

const RECIPE: &str = r#"
[model]
variant = "test/4"
set = { image_size = 8 }
[data]
train = "images"
validation_split = { fraction = 0.25, seed = 1 }
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[optimizer]
kind = "adamw"
[schedule]
learning_rate = 1e-3
[run]
epochs = 2
batch = 4
"#;

/// Eight dark images and four light ones.
fn uneven(folder: &Path) {
    images(folder);
    (4..8).for_each(|image| std::fs::remove_file(folder.join(format!("images/light/{image}.png"))).unwrap());
    std::fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
}

fn train(folder: &Path, out: &str, settings: &[&str]) -> Result<Outcome, TrainError> {
    let settings: Vec<Setting> = settings.iter().map(|setting| Setting::parse(setting).unwrap()).collect();
    let recipe = Recipe::load(&folder.join("recipe.toml"), &settings)?;
    let flag = AtomicBool::new(false);
    let sets = open_sets(&recipe)?;
    run(&recipe, &sets, Models::default(), &folder.join(out), RunOn::alone(&Device::cpu(1), &flag), &mut Silent)
}

#[test]
fn the_report_shows_balanced_accuracy_and_classes_by_their_images() {
    let folder = tempfile::tempdir().unwrap();
    uneven(folder.path());
    // Weights that leave only one answer: all images are of the rare class.
    let settings = ["run.choose_by=balanced-accuracy", "run.class_weights={ dark = 0, light = 100 }"];
    let Outcome::Finished { best, .. } = train(folder.path(), "out", &settings).unwrap() else { panic!("stopped") };
    assert_eq!(best, 0.5, "one of the two classes");
    let report = std::fs::read_to_string(folder.path().join("out/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["balanced_accuracy"], &report["best"]["accuracy"]), (&0.5.into(), &0.5.into()), "{report}");
    assert_eq!(report["best"]["chosen_by"], "balanced-accuracy");
    assert!(report["top1"].as_f64().unwrap() < 0.4, "two dark images for each light one");
    let classes = report["classes"].as_array().unwrap();
    let shown = classes.iter().map(|class| (class["name"].as_str().unwrap(), class["images"].as_u64().unwrap()));
    assert_eq!(shown.collect::<Vec<_>>(), [("dark", 2), ("light", 1)]);
    assert_eq!(Journal::read(&folder.path().join("out")).unwrap()[1].validation_accuracy, Some(0.5));
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(page.contains("Balanced accuracy 50.00 %") && page.contains("chosen by balanced accuracy"), "{page}");

    // Rare classes last, although their names come first.
    std::fs::rename(folder.path().join("images/light"), folder.path().join("images/a light one")).unwrap();
    train(folder.path(), "renamed", &["run.epochs=1"]).unwrap();
    let report = std::fs::read_to_string(folder.path().join("renamed/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let shown = report["classes"].as_array().unwrap().iter().map(|class| (&class["name"], &class["number"]));
    assert_eq!(shown.collect::<Vec<_>>(), [(&"dark".into(), &1.into()), (&"a light one".into(), &0.into())]);
}

#[test]
fn names_that_are_no_class_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    uneven(folder.path());
    let error = train(folder.path(), "out", &["run.class_weights={ bright = 2 }"]).unwrap_err().to_string();
    assert!(error.contains("found `bright`; the classes are `dark`, `light`"), "{error}");
    assert!(!folder.path().join("out").exists(), "nothing is written");
}
