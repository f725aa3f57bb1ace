//! Timing of training steps.

use std::time::{Duration, Instant};

use vitral::config::Size;
use vitral::model::Vit;
use vitral::model::init::{Initialization, initialize};
use vitral_engine::random::{mix, uniform};
use vitral_engine::{Device, Parameters};

use crate::error::TrainError;
use crate::lora::{self, Lora};
use crate::loss::Loss;
use crate::optimize::{GroupOptions, Optimizer, Schedule, groups};
use crate::step::{Batch, Rules, Trainer};

/// How a step saves memory.
#[derive(Clone, Debug, Default)]
pub struct Saving {
    /// Blocks are recomputed in the backward pass.
    pub recompute: bool,
    /// Only low-rank updates and the head are trained.
    pub lora: Option<Lora>,
}

/// Times whole steps (forward, backward, AdamW) of a model with initial values over `batch` synthetic images of one
/// size, already in memory: one to warm up, then `runs`. `after` is called after each.
///
/// # Errors
/// If the model has no head, or does not take images of this size.
pub fn time_steps(
    vit: Vit,
    device: &Device,
    (batch, image): (usize, Size),
    saving: &Saving,
    runs: usize,
    mut after: impl FnMut(),
) -> Result<Vec<Duration>, TrainError> {
    let (classes, channels) = (vit.config().classes, vit.config().channels);
    if classes == 0 {
        let fault = "a model without classes cannot be trained; give one with a head".to_owned();
        return Err(TrainError::Recipe { path: "[model]".into(), fault });
    }
    let pixels = (batch * channels * image.area()) as u64;
    device.check_memory(4 * (4 * vit.declarations().count() as u64 + 2 * pixels))?;
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(&vit, &mut parameters, Initialization::Timm, 0);
    let shape = [batch, channels, image.height, image.width];
    let noise: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| 2.0 * uniform(0, i as u64) - 1.0).collect();
    let pixels = device.upload(shape, &noise)?;
    let labels: Vec<usize> = (0..batch as u64).map(|i| (mix(i) % classes as u64) as usize).collect();
    let batch = [Batch { pixels, targets: device.one_hot(&labels, classes, 0.0)?, labels }];
    let rules = Rules {
        optimizer: Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        schedule: Schedule { learning_rate: 1e-4, ..Schedule::default() },
        total_steps: runs as u64 + 1,
        clip: None,
        ema_decay: None,
        loss: Loss::CrossEntropy,
        distillation: None,
        recompute: saving.recompute,
        seed: 0,
    };
    let parameters = lora::prepare(&vit, parameters, &[], saving.lora.as_ref(), 0)?;
    let options = GroupOptions { weight_decay: 0.05, ..GroupOptions::default() };
    let groups = groups(&vit, &parameters, &options, &rules.optimizer);
    let mut trainer = Trainer::new(vit, parameters, groups, rules)?;
    let mut steps = Vec::with_capacity(runs);
    for run in 0..=runs {
        let start = Instant::now();
        trainer.step(&batch, None)?;
        if run > 0 {
            steps.push(start.elapsed());
        }
        after();
    }
    Ok(steps)
}
