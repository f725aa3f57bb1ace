//! One batch: forward, loss, backward, clip, update.

use std::ops::Range;

use vitral::config::Stem;
use vitral::model::{Input, Vit};
use vitral_engine::ops::random::mix;
use vitral_engine::{Context, Cpu, Packs, Parameters, Tensor};

use crate::error::TrainError;
use crate::lora;
use crate::loss::{Distillation, Loss, likeliest};
use crate::optimise::{self, Clip, Group, Moments, Optimiser, Schedule};

/// Tokens that a half of a batch takes forward and back at a time: few enough that what must be remembered of them is small and
/// near, enough that fetching weights for them costs little.
const TOKENS_AT_ONCE: usize = 1024;
/// The same where convolutions stand before the blocks, whose weights are standardised and packed for every part.
const CELLS_AT_ONCE: usize = 4096;

/// Pictures and what they should be taken for.
pub struct Batch {
    /// `[batch, channels, height, width]`.
    pub pixels: Tensor,
    /// Target distributions, `[batch, classes]`.
    pub targets: Tensor,
    /// The classes that the pictures were labelled with, before any mixing.
    pub labels: Vec<usize>,
}

/// A teacher: pixels `[batch, channels, height, width]` to logits `[batch, classes]`.
pub type Teach<'a> = dyn Fn(&Tensor) -> Result<Tensor, TrainError> + Sync + 'a;

/// Everything that changes from step to step, and how it changes.
pub struct Trainer {
    /// The model.
    pub vit: Vit,
    /// Its parameters, flat.
    pub parameters: Parameters,
    /// Their exponential average, where one is kept.
    pub average: Option<Vec<f32>>,
    /// What the optimiser remembers.
    pub moments: Moments,
    /// Steps taken.
    pub step: u64,
    gradients: Vec<f32>,
    /// Gradients of the second half of a batch.
    second: Vec<f32>,
    halves: Option<[Cpu; 2]>,
    groups: Vec<Group>,
    rules: Rules,
    base: u32,
}

/// The rules of a run.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Its learning rate.
    pub schedule: Schedule,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// How gradients are clipped.
    pub clip: Option<Clip>,
    /// Decay of the parameters' average.
    pub average_decay: Option<f32>,
    /// What is minimised.
    pub loss: Loss,
    /// The teacher's say, where there is one.
    pub distillation: Option<Distillation>,
    /// Whether blocks are computed again on the way back, to save memory.
    pub recompute: bool,
    /// Seeds what is dropped.
    pub seed: u64,
}

/// What a step tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step's number, from 1.
    pub step: u64,
    /// Mean loss over the step's batches.
    pub loss: f32,
    /// Pictures whose likeliest class was their label.
    pub right: usize,
    /// Pictures.
    pub seen: usize,
    /// Euclidean norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// The learning rate.
    pub rate: f32,
}

impl Trainer {
    /// A trainer at the first step. `parameters` are flat and initialised.
    pub fn new(vit: Vit, parameters: Parameters, groups: Vec<Group>, rules: Rules) -> Self {
        let count = parameters.flat().len();
        Trainer {
            average: rules.average_decay.map(|_| parameters.flat().to_vec()),
            moments: rules.optimiser.moments(count),
            gradients: vec![0.0; count],
            second: vec![0.0; count],
            halves: parameters.device().halves(),
            step: 0,
            base: lora::checksum(&parameters),
            vit,
            parameters,
            groups,
            rules,
        }
    }

    /// A checksum of what stands still outside the flat buffer.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The rules of the run.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Gradients of the last step, laid out like the parameters.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// One optimiser step over one or more batches, whose gradients are averaged. `teach` gives a teacher's logits.
    ///
    /// # Errors
    /// If a batch does not fit the model, or the loss is no number any more; the parameters are then those of the step
    /// before.
    pub fn step(&mut self, batches: &[Batch], teach: Option<&Teach<'_>>) -> Result<StepReport, TrainError> {
        self.gradients.fill(0.0);
        self.second.fill(0.0);
        let (mut loss, mut right, mut seen) = (0.0f64, 0, 0);
        for (index, batch) in batches.iter().enumerate() {
            let taught = teach.map(|teach| teach(&batch.pixels)).transpose()?;
            let seed = mix(self.rules.seed ^ mix(self.step * batches.len() as u64 + index as u64));
            let (first, second) = self.pass(batch, taught.as_ref(), seed);
            for half in [first?, second?] {
                if !half.loss.is_finite() {
                    return Err(TrainError::Diverged { step: self.step + 1, loss: half.loss as f32, batch: None });
                }
                loss += half.loss;
                right += half.right;
            }
            seen += batch.labels.len();
        }
        self.join_halves();
        if batches.len() > 1 {
            optimise::scale(&mut self.gradients, 1.0 / batches.len() as f32);
        }
        let norm = optimise::norm(&self.gradients);
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step: self.step + 1, loss: f32::NAN, batch: None });
        }
        if let Some(clip) = self.rules.clip {
            clip.apply(&mut self.gradients, norm, &self.parameters);
        }
        let rate = self.rules.schedule.at(self.step, self.rules.total_steps);
        let device = self.parameters.device().clone();
        let parameters = self.parameters.flat_mut();
        self.rules.optimiser.step(&device, &self.groups, rate, parameters, &self.gradients, &mut self.moments);
        if let (Some(average), Some(decay)) = (&mut self.average, self.rules.average_decay) {
            optimise::follow(average, self.parameters.flat(), decay);
        }
        self.step += 1;
        let loss = (loss / batches.len().max(1) as f64) as f32;
        Ok(StepReport { step: self.step, loss, right, seen, gradient_norm: norm, rate })
    }

    /// Gradients of a batch, in two halves that know nothing of each other, each on half of the threads: so a thread need not
    /// wait for the others at every operation. A half is taken in parts. How a batch is cut depends on the model and the batch
    /// alone, so sums keep their bits whatever the threads.
    fn pass(
        &mut self,
        batch: &Batch,
        taught: Option<&Tensor>,
        seed: u64,
    ) -> (Result<Half, TrainError>, Result<Half, TrainError>) {
        let Trainer { vit, parameters, rules, gradients, second, halves, .. } = self;
        let (vit, parameters, rules) = (&*vit, &*parameters, &*rules);
        let device = parameters.device();
        let count = batch.labels.len();
        let (stride, channels) = (vit.config().token_stride(), vit.config().channels);
        let tokens = batch.pixels.shape().count() / (count * channels * stride.area()).max(1);
        let at_once = if vit.config().stem == Stem::Patches { TOKENS_AT_ONCE } else { CELLS_AT_ONCE };
        let parts_of = |images: usize| (images * tokens / at_once).clamp(usize::from(images > 0), images);
        let (front, back) = (0..count.div_ceil(2), count.div_ceil(2)..count);
        let packs = Packs::new(parameters, [&front, &back].map(|half| parts_of(half.len())).iter().sum());
        // A part's share of the mean over the batch.
        let part = |device: &Cpu, range: Range<usize>, seed: u64, gradients: &mut [f32]| {
            let part = |tensor: &Tensor| tensor.slice(device, range.clone());
            device.scope(|| {
                let cx = Context::training(parameters, seed).on(device).sharing(&packs);
                let cx = if rules.recompute { cx.recomputing() } else { cx };
                let pixels = part(&batch.pixels);
                let output = vit.forward(&cx, Input { pixels: &pixels, mask: None }).map_err(vitral::Error::from)?;
                let taught = taught.map(part);
                let teacher = taught.as_ref().zip(rules.distillation);
                let loss = rules.loss.of_output(&cx, &output, &part(&batch.targets), teacher);
                let logits = output.logits.as_ref().expect("a model that is trained has a head");
                let rows = logits.values().chunks_exact(logits.shape().last());
                let labels = &batch.labels[range.clone()];
                let right = rows.zip(labels).filter(|(row, label)| likeliest(row) == **label).count();
                let (value, share) = (loss.values()[0], range.len() as f32 / count as f32);
                if value.is_finite() {
                    let share = Tensor::filled(device, loss.shape(), |out| out.fill(share));
                    cx.backward_from(&loss, share, Some(gradients));
                }
                Ok::<_, TrainError>((f64::from(value) * f64::from(share), right))
            })
        };
        let half = |device: &Cpu, images: Range<usize>, seed: u64, gradients: &mut [f32]| {
            let mut half = Half::default();
            let parts = parts_of(images.len());
            for index in 0..parts {
                let at = |index: usize| images.start + images.len() * index / parts;
                if at(index) < at(index + 1) {
                    let (loss, right) = part(device, at(index)..at(index + 1), mix(seed ^ index as u64), gradients)?;
                    half.loss += loss;
                    half.right += right;
                }
            }
            Ok(half)
        };
        match halves {
            Some([first_device, second_device]) => device.both(
                || half(first_device, front, mix(seed), gradients),
                || half(second_device, back, mix(seed ^ 1), second),
            ),
            None => (half(device, front, mix(seed), gradients), half(device, back, mix(seed ^ 1), second)),
        }
    }

    /// Adds the second half's gradients to the first's.
    fn join_halves(&mut self) {
        let device = self.parameters.device();
        let (gradients, second) = (&mut self.gradients, &self.second);
        device.scope(|| optimise::add(gradients, second));
    }
}

/// What half of a batch tells.
#[derive(Default)]
struct Half {
    /// Its share of the batch's mean loss.
    loss: f64,
    right: usize,
}
