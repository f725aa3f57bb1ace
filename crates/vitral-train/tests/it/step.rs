//! One step on every device.

use vitral::Device;
use vitral::config::{ModelConfig, Size};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Vit, variants};
use vitral_engine::Parameters;
use vitral_train::loss::Loss;
use vitral_train::optimize::{Clip, GroupOptions, Optimizer, Schedule, groups};
use vitral_train::step::{Batch, Rules, StepReport, Trainer};

/// Three steps of two batches with everything on: dropping, clipping, the moving average. What they report, the
/// parameters after them, and the downloads of each.
fn steps(device: &Device) -> (Vec<StepReport>, Vec<f32>, Vec<usize>) {
    let mut config = ModelConfig { image_size: Size::square(16), classes: 2, ..variants::find("test/4").unwrap() };
    config.drop.hidden = 0.1;
    config.drop.path = 0.1;
    let vit = Vit::new(config).unwrap();
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(&vit, &mut parameters, Initialization::Timm, 3);
    // A large epsilon, so that the smallest gradients do not show their rounding.
    let optimizer = Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-4 };
    let groups = groups(&vit, &parameters, &GroupOptions::default(), &optimizer);
    let rules = Rules {
        optimizer,
        schedule: Schedule { learning_rate: 1e-3, ..Schedule::default() },
        total_steps: 3,
        clip: Some(Clip::Norm(1.0)),
        ema_decay: Some(0.9),
        loss: Loss::CrossEntropy,
        distillation: None,
        recompute: false,
        seed: 5,
        leaves: 2,
        share_moments: false,
    };
    let mut trainer = Trainer::new(vit, parameters, groups, rules).unwrap();
    let batch = |first: usize| {
        let pixels: Vec<f32> = (0..3 * 3 * 16 * 16).map(|i| ((i + 31 * first) as f32 * 0.7).sin()).collect();
        let targets = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let (pixels, targets) = (device.upload([3, 3, 16, 16], &pixels), device.upload([3, 2], &targets));
        Batch::whole(pixels.unwrap(), targets.unwrap(), vec![0, 1, 0])
    };
    let batches = [batch(0), batch(1)];
    let (mut reports, mut downloads) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let before = device.downloads();
        reports.push(trainer.step(&batches, None).unwrap());
        downloads.push(device.downloads() - before);
    }
    (reports, trainer.parameters().flat().to_vec().unwrap(), downloads)
}

#[test]
fn a_step_downloads_once_and_is_the_same_on_every_device() {
    let (expected, parameters, downloads) = steps(&Device::reference());
    assert_eq!(downloads, [1; 3], "on the reference device");
    for threads in [1, 2, 3] {
        let (reports, found, downloads) = steps(&Device::cpu(threads));
        assert_eq!(downloads, [1; 3], "with {threads} threads");
        for (found, expected) in reports.iter().zip(&expected) {
            assert!((found.loss - expected.loss).abs() < 1e-5, "{found:?}, expected {expected:?}");
            assert_eq!((found.correct, found.seen), (expected.correct, expected.seen));
        }
        let worst = vitral::numbers::apart(&found, &parameters);
        assert!(worst < 1e-5, "parameters differ by {worst} with {threads} threads");
    }
}
