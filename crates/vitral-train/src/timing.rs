//! Timing of training steps.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vitral::config::{ModelConfig, Size};
use vitral::image::Filter;
use vitral::model::Vit;
use vitral::model::init::{Initialization, initialize};
use vitral_engine::random::{mix, uniform};
use vitral_engine::{Device, Parameters};

use crate::augment::Augment;
use crate::data::{self, Dataset, LOADED, Loader, LoaderOptions, Split, ValidationSplit};
use crate::error::TrainError;
use crate::fits::{self, Tried};
use crate::lora::{self, Lora};
use crate::loss::Loss;
use crate::optimize::{GroupOptions, Optimizer, Schedule, groups};
use crate::recipe::LEAVES;
use crate::step::{Batch, Rules, Trainer};

/// How a step saves memory.
#[derive(Clone, Debug, Default)]
pub struct Saving {
    /// Blocks are recomputed in the backward pass.
    pub recompute: bool,
    /// Only low-rank updates and the head are trained.
    pub lora: Option<Lora>,
}

/// Steps from image files: how long each took, and how long it waited for its batch before.
#[derive(Clone, Debug)]
pub struct FromFiles {
    /// Steps, without the waiting.
    pub steps: Vec<Duration>,
    /// Waiting for the images of each.
    pub waits: Vec<Duration>,
}

impl FromFiles {
    /// Which part of the time was spent waiting for images.
    pub fn waiting(&self) -> f64 {
        let [steps, waits] = [&self.steps, &self.waits].map(|times| times.iter().sum::<Duration>().as_secs_f64());
        waits / (steps + waits).max(f64::MIN_POSITIVE)
    }
}

/// As [`time_steps`], with the images of a folder, which are read, decoded, resized and cropped on `threads` threads ahead
/// of the steps; 0 is one for each thread of the device. The first two batches, which fill the queue, are not timed.
///
/// # Errors
/// As [`time_steps`], and if the images cannot be read or do not fill a batch.
pub fn time_steps_from_files(
    config: ModelConfig,
    device: &Device,
    (batch, image): (usize, Size),
    folder: &Path,
    (runs, threads): (usize, usize),
    after: impl FnMut(),
) -> Result<FromFiles, TrainError> {
    let dataset = data::open(folder, Split::Train, ValidationSplit::default())?;
    let config = ModelConfig { classes: dataset.classes().len(), image_size: image, ..config };
    timed_from_files(dataset, &config, device, batch, (runs, threads), after).map_err(|error| {
        let tried = Tried { batch, ranks: 1, waiting: LOADED, config: &config, image };
        let make = |device: &Device| trainer(model(config.clone())?, device, &Saving::default(), 1);
        fits::explained(error, device, &tried, make, fits::whole)
    })
}

fn timed_from_files(
    dataset: Arc<dyn Dataset>,
    config: &ModelConfig,
    device: &Device,
    batch: usize,
    (runs, threads): (usize, usize),
    mut after: impl FnMut(),
) -> Result<FromFiles, TrainError> {
    let (vit, image) = (model(config.clone())?, config.image_size);
    let preprocess = data::plain(image, Filter::Bilinear, &[0.5; 3], &[0.5; 3]);
    let options = LoaderOptions::training(preprocess, Augment::default(), batch, 0).threads(threads);
    let loader = Loader::new(dataset, options, device)?;
    let mut trainer = trainer(vit, device, &Saving::default(), runs as u64 + 2)?;
    let (mut found, mut epoch, mut batches) = (FromFiles { steps: vec![], waits: vec![] }, 0, loader.epoch(0, 0));
    for run in 0..runs + 2 {
        let start = Instant::now();
        let next = loop {
            match batches.next() {
                Some(next) => break [next?],
                None => {
                    epoch += 1;
                    batches = loader.epoch(epoch, 0);
                }
            }
        };
        let waited = start.elapsed();
        trainer.step(&next, None)?;
        if run > 1 {
            found.waits.push(waited);
            found.steps.push(start.elapsed().saturating_sub(waited));
        }
        after();
    }
    Ok(found)
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
    after: impl FnMut(),
) -> Result<Vec<Duration>, TrainError> {
    let config = vit.config().clone();
    if config.classes == 0 {
        let fault = "a model without classes cannot be trained; give one with a head".to_owned();
        return Err(TrainError::Recipe { path: "[model]".into(), fault });
    }
    timed(vit, device, (batch, image), saving, runs, after).map_err(|error| {
        let tried = Tried { batch, ranks: 1, waiting: 0, config: &config, image };
        let make = |device: &Device| trainer(model(config.clone())?, device, saving, 1);
        fits::explained(error, device, &tried, make, fits::whole)
    })
}

fn timed(
    vit: Vit,
    device: &Device,
    (batch, image): (usize, Size),
    saving: &Saving,
    runs: usize,
    mut after: impl FnMut(),
) -> Result<Vec<Duration>, TrainError> {
    let (classes, channels) = (vit.config().classes, vit.config().channels);
    let pixels = (batch * channels * image.area()) as u64;
    device.check_memory(4 * (4 * vit.declarations().count() as u64 + 2 * pixels))?;
    let shape = [batch, channels, image.height, image.width];
    let noise: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| 2.0 * uniform(0, i as u64) - 1.0).collect();
    let pixels = device.upload(shape, &noise)?;
    let labels: Vec<usize> = (0..batch as u64).map(|i| (mix(i) % classes as u64) as usize).collect();
    let batch = [Batch::whole(pixels, device.one_hot(&labels, classes, 0.0)?, labels)];
    let mut trainer = trainer(vit, device, saving, runs as u64 + 1)?;
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

fn model(config: ModelConfig) -> Result<Vit, TrainError> {
    Vit::new(config).map_err(|fault| TrainError::Recipe { path: "[model]".into(), fault: fault.to_string() })
}

/// A trainer of a model with initial values.
fn trainer(vit: Vit, device: &Device, saving: &Saving, total_steps: u64) -> Result<Trainer, TrainError> {
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(&vit, &mut parameters, Initialization::Timm, 0);
    let rules = Rules {
        optimizer: Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        schedule: Schedule { learning_rate: 1e-4, ..Schedule::default() },
        total_steps,
        clip: None,
        ema_decay: None,
        loss: Loss::CrossEntropy,
        distillation: None,
        recompute: saving.recompute,
        seed: 0,
        leaves: LEAVES,
        share_moments: false,
    };
    let parameters = lora::prepare(&vit, parameters, &[], saving.lora.as_ref(), 0)?;
    let options = GroupOptions { weight_decay: 0.05, ..GroupOptions::default() };
    let groups = groups(&vit, &parameters, &options, &rules.optimizer);
    Trainer::new(vit, parameters, groups, rules)
}
