//! One training step: forward, loss and backward over a batch, then clipping and the update.

use std::ops::Range;

use vitral::config::Stem;
use vitral::model::{Input, Vit};
use vitral_engine::{
    BatchExtent, Context, Device, DeviceError, DrawKey, FlatBuffer, GradientSum, Moments, Parameters, Tensor, Update,
    UpdateGroup,
};

use crate::error::TrainError;
use crate::lora;
use crate::loss::{Distillation, Loss};
use crate::optimize::{Clip, Optimizer, Schedule};

/// Images and their targets.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, channels, height, width]`.
    pub pixels: Tensor,
    /// Target distributions, `[batch, classes]`.
    pub targets: Tensor,
    /// The classes that the images are labeled with, before any mixing.
    pub labels: Vec<usize>,
}

/// A teacher: pixels `[batch, channels, height, width]` to logits `[batch, classes]`.
pub type TeacherFn<'a> = dyn Fn(&Tensor) -> Result<Tensor, TrainError> + Sync + 'a;

/// A model in training: everything that changes from step to step, and the rules it changes by.
#[derive(Debug)]
pub struct Trainer {
    /// The model.
    pub(crate) vit: Vit,
    /// Its parameters, flat.
    pub(crate) parameters: Parameters,
    /// Their exponential moving average, if one is kept.
    pub(crate) ema: Option<FlatBuffer>,
    /// The optimizer's moments.
    pub(crate) moments: Moments,
    /// Steps taken.
    pub(crate) step: u64,
    gradients: GradientSum,
    groups: Vec<UpdateGroup>,
    rules: Rules,
    base: u32,
}

/// The rules of a run: what is the same for every step.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Its learning rate.
    pub schedule: Schedule,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// How gradients are clipped.
    pub clip: Option<Clip>,
    /// Decay of the exponential moving average.
    pub ema_decay: Option<f32>,
    /// What is minimized.
    pub loss: Loss,
    /// How a teacher's logits enter the loss, if there is one.
    pub distillation: Option<Distillation>,
    /// Whether blocks are recomputed in backward, to save memory.
    pub recompute: bool,
    /// Seeds dropout and drop path.
    pub seed: u64,
}

/// What a step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step's number, from 1.
    pub step: u64,
    /// Mean loss over the step's batches.
    pub loss: f32,
    /// Images that were classified correctly.
    pub correct: usize,
    /// Images in the step.
    pub seen: usize,
    /// Euclidean norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// The learning rate.
    pub learning_rate: f32,
}

impl Trainer {
    /// A trainer before its first step. `parameters` are flat and initialized.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(vit: Vit, parameters: Parameters, groups: Vec<UpdateGroup>, rules: Rules) -> Result<Self, DeviceError> {
        let ema = match rules.ema_decay {
            Some(_) => Some(parameters.device().flat_copy(parameters.flat())?),
            None => None,
        };
        Ok(Trainer {
            ema,
            moments: Moments::zeros(&parameters, rules.optimizer.rule()),
            gradients: GradientSum::zeros(&parameters),
            step: 0,
            base: lora::checksum(&parameters)?,
            vit,
            parameters,
            groups,
            rules,
        })
    }

    /// A checksum of the frozen parameters, which checkpoints leave out.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The model.
    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// The parameters as the last step left them.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Their exponential moving average, if one is kept.
    pub fn ema(&self) -> Option<&FlatBuffer> {
        self.ema.as_ref()
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The rules of the run.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Gradients of the last step, laid out like the parameters.
    pub fn gradients(&self) -> &FlatBuffer {
        self.gradients.sum()
    }

    /// One optimizer step over one or more batches, whose gradients are averaged. `teacher` gives a teacher's logits.
    ///
    /// # Errors
    /// If a batch does not fit the model, the device fails, or loss or gradients are not finite; the parameters are
    /// then unchanged.
    pub fn step(&mut self, batches: &[Batch], teacher: Option<&TeacherFn<'_>>) -> Result<StepReport, TrainError> {
        let device = self.parameters.device().clone();

        // Forward, loss and backward.
        self.gradients.clear();
        let (mut parts, mut seen) = (Vec::new(), 0);
        for batch in batches {
            let taught = teacher.map(|teacher| teacher(&batch.pixels)).transpose()?;
            parts.extend(self.add_gradients(batch, taught.as_ref(), seen)?);
            seen += batch.labels.len();
        }
        self.gradients.join(1.0 / batches.len().max(1) as f32);

        // Clipping and the update. The device leaves the parameters unchanged if anything is not finite.
        let norm = self.gradients.clip(self.rules.clip.map(Into::into), &self.parameters);
        let losses = parts.iter().map(|part| &part.loss);
        let gate = device.all_finite(&losses.chain([&norm]).collect::<Vec<_>>());
        let learning_rate = self.rules.schedule.at(self.step, self.rules.total_steps);
        let (rule, groups, step) = (self.rules.optimizer.rule(), &self.groups, self.step + 1);
        let update = Update { rule, groups, learning_rate, step };
        update.apply(&mut self.parameters, &self.gradients, &mut self.moments, &gate);
        if let (Some(ema), Some(decay)) = (&mut self.ema, self.rules.ema_decay) {
            device.ema_update(ema, &self.parameters, decay, &gate);
        }

        // The only download, and so the only time that a step waits for the device.
        let values = parts.iter().flat_map(|part| [part.loss.clone(), part.correct.clone()]);
        let values = device.concatenate(&[gate, norm].into_iter().chain(values).collect::<Vec<_>>()).to_vec()?;
        let (finite, gradient_norm) = (values[0] != 0.0, f64::from(values[1]));
        let (mut loss, mut correct) = (0.0, 0);
        for (part, values) in parts.iter().zip(values[2..].chunks_exact(2)) {
            loss += f64::from(values[0]) * f64::from(part.share);
            correct += values[1] as usize;
        }
        let loss = (loss / batches.len().max(1) as f64) as f32;
        if !finite {
            return Err(TrainError::Diverged { step, loss, gradient_norm, batch: None });
        }
        self.step = step;
        Ok(StepReport { step, loss, correct, seen, gradient_norm, learning_rate })
    }

    /// Adds the gradients of a batch. Its first image is the `first`-th of the step.
    fn add_gradients(
        &mut self,
        batch: &Batch,
        taught: Option<&Tensor>,
        first: usize,
    ) -> Result<Vec<PartReport>, TrainError> {
        let Trainer { vit, parameters, gradients, rules, step, .. } = self;
        let images = batch.labels.len();
        let cells = batch.pixels.shape().count() / (vit.config().channels * vit.config().token_stride().area()).max(1);
        let extent =
            BatchExtent { images, tokens: cells / images.max(1), convolutions: vit.config().stem != Stem::Patches };
        gradients.accumulate(extent, parameters, |device, range: Range<usize>, gradients| {
            let part = batch.part(device, range.clone());
            let taught = taught.map(|taught| device.slice(taught, range.clone()));
            let draws = DrawKey { seed: rules.seed, step: *step, first_image: first + range.start };
            let context = Context::training(parameters, draws).on(device);
            let context = if rules.recompute { context.with_checkpoints() } else { context };
            let output =
                vit.forward(&context, Input { pixels: &part.pixels, mask: None }).map_err(vitral::Error::from)?;
            let loss = rules.loss.of_output(&context, &output, &part.targets, taught.as_ref().zip(rules.distillation));
            let logits = output.logits.as_ref().expect("a model that is trained has a head");
            let labels: Vec<f32> = part.labels.iter().map(|&label| label as f32).collect();
            let correct = context.count_correct(logits, &device.constant([labels.len()], &labels));
            // The part's share of the mean over the batch.
            let share = range.len() as f32 / images as f32;
            context.backward_from(&loss, device.full(loss.shape(), share), Some(gradients));
            Ok(PartReport { loss, correct, share })
        })
    }
}

impl Batch {
    /// Some of its images.
    fn part(&self, device: &Device, images: Range<usize>) -> Batch {
        Batch {
            pixels: device.slice(&self.pixels, images.clone()),
            targets: device.slice(&self.targets, images.clone()),
            labels: self.labels[images].to_vec(),
        }
    }
}

/// The result of a part of a batch; each tensor holds one value.
struct PartReport {
    loss: Tensor,
    correct: Tensor,
    share: f32,
}
