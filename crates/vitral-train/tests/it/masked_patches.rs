//! Masked-patch prediction: ten steps against PyTorch (`tools/golden/masked_patches.py`), and a whole pre-training.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use vitral::config::Size;
use vitral::model::{Corrupted, CorruptedPatch, MaskedPatches, Replacement};
use vitral::numbers::apart;
use vitral::{Device, LoadOptions, Model};
use vitral_engine::{Context, Parameters};
use vitral_train::fit::Outcome;
use vitral_train::hidden::{Brightness, colors};
use vitral_train::journal::Journal;
use vitral_train::loss::Loss;
use vitral_train::optimize::{GroupOptions, Optimizer, groups};
use vitral_train::step::{Batch, Hidden, Trainer};

use super::masked::{Golden, encoder, recipe, rules, shades, trained};

const IMAGES: usize = 3;
const PATCHES: usize = 16;
const EACH: usize = 8;

fn small() -> MaskedPatches {
    MaskedPatches::new(encoder()).unwrap()
}

fn golden() -> Golden {
    Golden::open("masked_patches.safetensors")
}

fn loaded(golden: &Golden, model: &MaskedPatches, device: &Device) -> Parameters {
    let mut parameters = Parameters::zeros(model.declarations().clone(), device.clone());
    for id in model.declarations().ids() {
        parameters.write(id, &golden.values(&format!("parameters.{}", model.declarations().spec(id).name)));
    }
    parameters
}

/// The corrupted patches of a step, as the reference had them: `sources` are −1 for the learned embedding, or a patch.
fn corrupted(golden: &Golden, step: usize) -> Corrupted {
    let of_step = |name: &str| -> Vec<f32> { golden.values(name)[step * IMAGES * EACH..][..IMAGES * EACH].to_vec() };
    let colors = golden.values("colors");
    let patches = of_step("patches").into_iter().zip(of_step("sources")).enumerate();
    let all = patches.map(|(index, (patch, source))| {
        let patch = patch as usize;
        let replacement = match source {
            source if source < 0.0 => Replacement::Mask,
            source if source as usize == patch => Replacement::Own,
            source => Replacement::Patch(source as usize),
        };
        CorruptedPatch { patch, replacement, color: colors[index / EACH * PATCHES + patch] as usize }
    });
    Corrupted::new(PATCHES, EACH, all.collect())
}

#[test]
fn colors_are_those_of_the_reference() {
    let golden = golden();
    let preprocess = recipe(Path::new("."), "method = \"masked-patches\"", &[]).unwrap();
    let preprocess = preprocess.start(0, Loss::CrossEntropy, None, &Device::cpu(1)).unwrap().preprocess;
    let brightness = Brightness::of(&preprocess, 3);
    let found = colors(&golden.values("pixel_values"), &brightness, Size::square(32), Size::square(8));
    let expected: Vec<usize> = golden.values("colors").into_iter().map(|color| color as usize).collect();
    assert_eq!(found, expected);
}

#[test]
fn logits_equal_pytorch() {
    let (golden, model) = (golden(), small());
    for device in [Device::cpu(2), Device::reference()] {
        let parameters = loaded(&golden, &model, &device);
        let pixels = device.upload([IMAGES, 3, 32, 32], &golden.values("pixel_values")).unwrap();
        let cx = Context::inference(&parameters);
        let found = model.predict(&cx, &pixels, &corrupted(&golden, 0)).unwrap().to_vec().unwrap();
        let worst = apart(&found, &golden.values("predicted"));
        assert!(worst < 2e-5, "{worst}");
    }
}

#[test]
fn ten_losses_equal_pytorch() {
    let (golden, model) = (golden(), small());
    let device = Device::cpu(2);
    let parameters = loaded(&golden, &model, &device);
    let optimizer = Optimizer::Adamw { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
    let groups = groups(model.vit(), &parameters, &GroupOptions::default(), &optimizer);
    let rules = rules(optimizer, Loss::CrossEntropy);
    let ranks = vitral_ranks::Ranks::alone();
    let mut trainer = Trainer::with_hidden_patches(model, parameters, groups, rules, ranks).unwrap();
    let pixels = golden.values("pixel_values");
    for (step, expected) in golden.values("losses").into_iter().enumerate() {
        let pixels = device.upload([IMAGES, 3, 32, 32], &pixels).unwrap();
        let targets = device.upload([IMAGES, 1], &[0.0; IMAGES]).unwrap();
        let hidden = Some(Hidden::Embeddings(corrupted(&golden, step)));
        let batch = Batch { hidden, ..Batch::whole(pixels, targets, vec![0; IMAGES]) };
        let found = trainer.step(&[batch], None).unwrap().loss;
        assert!((found - expected).abs() < 5e-5, "step {step}: {found}, expected {expected}");
    }
}

#[test]
fn a_folder_without_labels_gives_an_encoder_that_loads() {
    const PATCHES: &str = "method = \"masked-patches\"\n";
    const LONGER: [&str; 1] = ["run.epochs=40"];
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    shades(&folder.join("images"), 48);
    let (outcome, losses) = trained(folder, "run", PATCHES, &LONGER, None);
    let Outcome::Finished { best, .. } = outcome else { panic!("{outcome:?}") };
    let entries = Journal::read(&folder.join("run")).unwrap();
    assert_eq!(entries.last().unwrap().validation_accuracy.map(|last| last <= best), Some(true));
    // Images are of five shades: a patch has the color of the others.
    assert!(best > 0.7, "{best}");
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    assert!(mean(&losses[losses.len() - 5..]) < 0.5 * mean(&losses[..5]), "{losses:?}");
    let model = Model::load(folder.join("run/best"), &LoadOptions::default(), &Device::cpu(1)).unwrap();
    assert_eq!(model.vit().config().classes, 0);
    assert!(model.parameters().declarations().find("prediction.mask").is_none());
    let drawn = image::open(folder.join("run/colors.png")).unwrap();
    assert_eq!(drawn.width(), 4 * 16 + 3 * 2);
    // A run that is stopped and goes on is the same run.
    let stop = AtomicBool::new(true);
    let (stopped, first) = trained(folder, "again", PATCHES, &LONGER, Some(&stop));
    assert!(matches!(stopped, Outcome::Interrupted { step: 1 }), "{stopped:?}");
    let (went_on, rest) = trained(folder, "again", PATCHES, &LONGER, None);
    assert_eq!((went_on, [first, rest].concat()), (outcome, losses));
    for file in ["best/model.safetensors", "colors.png"] {
        let [again, run] = ["again", "run"].map(|run| std::fs::read(folder.join(run).join(file)).unwrap());
        assert_eq!(again, run, "{file}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (table, key) in [
        ("method = \"masked-patches\"\ncorrupted = 0.0", "pretraining.corrupted"),
        ("method = \"masked-patches\"\ndecoder_width = 8", "decoder_width"),
        ("corrupted = 0.5", "corrupted"),
        ("method = \"patches\"", "masked-patches"),
    ] {
        let error = recipe(folder.path(), table, &[]).expect_err(table).to_string();
        assert!(error.contains(key), "{table}: {error}");
    }
}
