//! One training step: forward, loss and backward over a batch, then clipping and the update.

use std::ops::Range;

use vitral::config::Stem;
use vitral::model::{Corrupted, Input, MaskedAutoencoder, MaskedPatches, Visible, Vit};
use vitral_engine::{
    BatchExtent, Context, Device, DrawKey, FlatBuffer, GradientSum, Lane, Moments, Parameters, Segment, Tensor, Update,
    UpdateGroup,
};
use vitral_ranks::{Failed, Ranks};

use crate::error::TrainError;
use crate::exchange::{Exchange, Underway};
use crate::lora;
use crate::loss::{Distillation, Loss};
use crate::optimize::{Clip, Optimizer, Schedule};
use crate::ranks;
use crate::shares::{self, Shares};

/// Images and their targets: a whole batch, or a rank's part of it.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, channels, height, width]`.
    pub pixels: Tensor,
    /// Target distributions, `[batch, classes]`.
    pub targets: Tensor,
    /// The classes that the images are labeled with, before any mixing.
    pub labels: Vec<usize>,
    /// The place of the images in the whole batch.
    pub place: Place,
    /// What is hidden of them, where that is predicted in place of the targets.
    pub hidden: Option<Hidden>,
}

/// What is hidden of the images of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// All patches but these, whose pixels are the targets.
    AllBut(Visible),
    /// The embeddings of some patches, whose colors are with them; there are no other targets.
    Embeddings(Corrupted),
}

impl Hidden {
    /// That of some images.
    fn part(&self, images: Range<usize>) -> Self {
        match self {
            Hidden::AllBut(visible) => Hidden::AllBut(visible.part(images)),
            Hidden::Embeddings(corrupted) => Hidden::Embeddings(corrupted.part(images)),
        }
    }
}

/// Where images are among those of all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Images before them.
    pub first: usize,
    /// Images in all.
    pub of: usize,
}

impl Place {
    /// Of so many images that are a whole batch.
    pub fn whole(images: usize) -> Self {
        Place { first: 0, of: images }
    }
}

/// A teacher: pixels `[batch, channels, height, width]` to logits `[batch, classes]`.
pub type TeacherFn<'a> = dyn Fn(&Tensor) -> Result<Tensor, TrainError> + Sync + 'a;

/// A model in training: everything that changes from step to step, and the rules it changes by.
#[derive(Debug)]
pub struct Trainer {
    /// The model.
    learner: Learner,
    /// Its parameters, flat.
    pub(crate) parameters: Parameters,
    /// Their exponential moving average, if one is kept.
    pub(crate) ema: Option<FlatBuffer>,
    /// The optimizer's moments.
    pub(crate) moments: Moments,
    /// Steps taken.
    pub(crate) step: u64,
    gradients: GradientSum,
    /// The groups that this rank updates.
    groups: Vec<UpdateGroup>,
    /// Who updates what, where ranks share the moments.
    shares: Option<Shares>,
    rules: Rules,
    /// What the terms of the classes' targets are multiplied by, `[classes]`.
    class_weights: Option<Tensor>,
    ranks: Ranks,
    exchange: Exchange,
    base: u32,
}

/// What is trained.
#[derive(Debug)]
pub enum Learner {
    /// A model, on the targets of whole images.
    Classifier(Box<Vit>),
    /// An encoder, on patches that are hidden from it.
    Autoencoder(Box<MaskedAutoencoder>),
    /// An encoder, on the colors of patches that are corrupted.
    MaskedPatches(Box<MaskedPatches>),
}

impl Learner {
    /// Whether its answers are right or wrong.
    fn has_classes(&self) -> bool {
        matches!(self, Learner::Classifier(_))
    }
}

impl From<MaskedAutoencoder> for Learner {
    fn from(autoencoder: MaskedAutoencoder) -> Self {
        Learner::Autoencoder(Box::new(autoencoder))
    }
}

impl From<MaskedPatches> for Learner {
    fn from(model: MaskedPatches) -> Self {
        Learner::MaskedPatches(Box::new(model))
    }
}

impl Learner {
    /// The model that is kept afterwards.
    pub fn vit(&self) -> &Vit {
        match self {
            Learner::Classifier(vit) => vit,
            Learner::Autoencoder(autoencoder) => autoencoder.vit(),
            Learner::MaskedPatches(model) => model.vit(),
        }
    }
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
    /// Parts of a batch whose gradients are summed apart, then in pairs: a power of two, and at most so many ranks.
    pub leaves: usize,
    /// Whether each rank keeps and updates a share of the moments only (ZeRO's first stage, arXiv:1910.02054).
    pub share_moments: bool,
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
    /// A trainer before its first step, of one process. `parameters` are flat and initialized.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(vit: Vit, parameters: Parameters, groups: Vec<UpdateGroup>, rules: Rules) -> Result<Self, TrainError> {
        Trainer::on_ranks(vit, parameters, groups, rules, Ranks::alone())
    }

    /// As [`Trainer::new`], of one of several ranks, which all begin with the same parameters.
    ///
    /// # Errors
    /// If the device fails, or the number of ranks does not fit the leaves of a batch.
    pub fn on_ranks(
        vit: Vit,
        parameters: Parameters,
        groups: Vec<UpdateGroup>,
        rules: Rules,
        ranks: Ranks,
    ) -> Result<Self, TrainError> {
        Trainer::of(Learner::Classifier(Box::new(vit)), parameters, groups, rules, ranks)
    }

    /// A trainer that hides patches from a model and lets it predict them; batches say which ([`Hidden`]). Otherwise as
    /// [`Trainer::on_ranks`].
    ///
    /// # Errors
    /// As [`Trainer::on_ranks`].
    pub fn with_hidden_patches(
        learner: impl Into<Learner>,
        parameters: Parameters,
        groups: Vec<UpdateGroup>,
        rules: Rules,
        ranks: Ranks,
    ) -> Result<Self, TrainError> {
        Trainer::of(learner.into(), parameters, groups, rules, ranks)
    }

    fn of(
        learner: Learner,
        parameters: Parameters,
        groups: Vec<UpdateGroup>,
        rules: Rules,
        ranks: Ranks,
    ) -> Result<Self, TrainError> {
        shares::check(&ranks, rules.leaves, rules.share_moments, parameters.device())?;
        let ema = match rules.ema_decay {
            Some(_) => Some(parameters.device().flat_copy(parameters.flat())?),
            None => None,
        };
        let shares = (rules.share_moments && ranks.is_several()).then(|| Shares::of(&parameters, ranks.size()));
        let own = shares.as_ref().map_or(0..parameters.flat().len(), |shares| shares.owned(ranks.rank()));
        let groups = match &shares {
            Some(_) => shares::cut(&groups, &own),
            None => groups,
        };
        Ok(Trainer {
            ema,
            moments: Moments::of_share(&parameters, rules.optimizer.rule(), own),
            gradients: GradientSum::zeros(&parameters, rules.leaves / ranks.size()),
            step: 0,
            base: lora::checksum(&parameters)?,
            learner,
            parameters,
            groups,
            shares,
            rules,
            class_weights: None,
            exchange: Exchange::through_hosts(&ranks),
            ranks,
        })
    }

    /// Multiplies the term of each class's target by a weight in the loss that is trained on ([`Loss::of`]).
    ///
    /// # Errors
    /// If the device has no memory for them.
    ///
    /// # Panics
    /// If there is not one weight for each class.
    pub fn with_class_weights(mut self, weights: &[f32]) -> Result<Self, TrainError> {
        assert_eq!(weights.len(), self.vit().config().classes, "one weight for each class");
        self.class_weights = Some(self.parameters.device().upload([weights.len()], weights)?);
        Ok(self)
    }

    /// Lets gradients go from card to card, if all ranks compute on cards that can. All ranks call this at the same time.
    ///
    /// # Errors
    /// If ranks cannot tell each other.
    pub fn connect(&mut self) -> Result<(), TrainError> {
        self.exchange = Exchange::of_cards(&self.ranks, self.parameters.device(), self.parameters.flat().len())?;
        Ok(())
    }

    /// The way of gradients from rank to rank.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The ranks that train together.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Who keeps which moments, where ranks share them.
    pub(crate) fn shares(&self) -> Option<&Shares> {
        self.shares.as_ref()
    }

    /// A checksum of the frozen parameters, which checkpoints leave out.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The model.
    pub fn vit(&self) -> &Vit {
        self.learner.vit()
    }

    /// Whether a step counts right answers: not where labels are numbers, and not without labels.
    pub(crate) fn counts_correct(&self) -> bool {
        self.learner.has_classes() && self.rules.loss != Loss::Squared
    }

    /// What is trained.
    pub fn learner(&self) -> &Learner {
        &self.learner
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

    /// One optimizer step over one or more batches, or a rank's parts of them, whose gradients are averaged. `teacher`
    /// gives a teacher's logits. Ranks report the same, of all images.
    ///
    /// # Errors
    /// If a batch does not fit the model, the device fails, another rank does, or loss or gradients are not finite; the
    /// parameters are then unchanged.
    ///
    /// # Panics
    /// If a batch does not say what is hidden from a model that predicts it.
    pub fn step(&mut self, batches: &[Batch], teacher: Option<&TeacherFn<'_>>) -> Result<StepReport, TrainError> {
        let device = self.parameters.device().clone();

        // Forward, loss and backward.
        let parts = self.sum_gradients(batches, teacher)?;
        let seen = batches.iter().map(|batch| batch.place.of).sum();
        self.gradients.scale(1.0 / batches.len().max(1) as f32);

        // Clipping and the update. The device leaves the parameters unchanged if anything is not finite.
        let norm = self.gradients.clip(self.rules.clip.map(Into::into), &self.parameters);
        let losses = parts.iter().map(|part| &part.loss);
        let gate = device.all_finite(&losses.chain([&norm]).collect::<Vec<_>>());
        let learning_rate = self.rules.schedule.at(self.step, self.rules.total_steps);
        let (rule, groups, step) = (self.rules.optimizer.rule(), &self.groups, self.step + 1);
        let update = Update { rule, groups, learning_rate, step };
        update.apply(&mut self.parameters, &self.gradients, &mut self.moments, &gate);
        if let Some(shares) = &self.shares {
            let flat = self.parameters.flat_mut();
            flat.change(0..flat.len(), |values| self.ranks.share_out(values, shares.ranges()))??;
        }
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

    /// The gradients of all images, and what their parts report: the one place where gradients go from rank to rank.
    fn sum_gradients(
        &mut self,
        batches: &[Batch],
        teacher: Option<&TeacherFn<'_>>,
    ) -> Result<Vec<PartReport>, TrainError> {
        if self.exchange.is_early() {
            let underway = self.exchange.begin();
            let parts = self.add_all_gradients(batches, teacher, Some(&underway));
            // A rank that has failed takes its part all the same, so that no other waits for it.
            if let Err(fault) = self.exchange.end(underway, &mut self.gradients) {
                // The own error explains more.
                return Err(parts.err().unwrap_or(fault));
            }
            return self.parts_of_all(parts, batches.len());
        }
        let parts = self.add_all_gradients(batches, teacher, None);
        let parts = if self.ranks.is_several() { self.parts_of_all(parts, batches.len())? } else { parts? };
        self.gradients.join();
        if self.ranks.is_several() {
            self.exchange.sum(self.gradients.sum_mut())?;
            if self.exchange.is_by_cards() {
                // A rank whose card did not take its part leaves the others waiting in theirs.
                ranks::agree(&self.ranks, self.parameters.device().check().map_err(TrainError::from))?;
                self.exchange.settle()?;
            }
        }
        Ok(parts)
    }

    /// Adds the gradients of this rank's images, reporting what is complete to those who sum over ranks.
    fn add_all_gradients(
        &mut self,
        batches: &[Batch],
        teacher: Option<&TeacherFn<'_>>,
        underway: Option<&Underway>,
    ) -> Result<Vec<PartReport>, TrainError> {
        self.gradients.clear();
        let (mut parts, mut seen) = (Vec::new(), 0);
        let last = batches.iter().rposition(|batch| !batch.labels.is_empty());
        for (number, batch) in batches.iter().enumerate() {
            if batch.labels.is_empty() {
                // A small batch has fewer images than leaves.
                seen += batch.place.of;
                continue;
            }
            let taught = teacher.map(|teacher| teacher(&batch.pixels)).transpose()?;
            let underway = underway.filter(|_| last == Some(number));
            let of_batch = self.add_gradients(batch, taught.as_ref(), seen, underway)?;
            parts.extend(of_batch.into_iter().map(|part| PartReport { batch: number, ..part }));
            seen += batch.place.of;
        }
        Ok(parts)
    }

    /// The parts of all ranks, in the order of one process: batch by batch, and in a batch by the place of the images.
    fn parts_of_all(
        &self,
        parts: Result<Vec<PartReport>, TrainError>,
        batches: usize,
    ) -> Result<Vec<PartReport>, TrainError> {
        let device = self.parameters.device();
        // This waits for the device.
        let told = parts.and_then(|parts| {
            let values: Vec<Tensor> = parts.iter().flat_map(|part| [part.loss.clone(), part.correct.clone()]).collect();
            let values = if values.is_empty() { Vec::new() } else { device.concatenate(&values).to_vec()? };
            let words = parts.iter().zip(values.chunks_exact(2));
            let words = words.flat_map(|(part, values)| [part.batch as f32, values[0], values[1], part.share]);
            Ok(bytemuck::cast_slice(&words.collect::<Vec<f32>>()).to_vec())
        });
        let all = self.ranks.gather_if_well(told).map_err(Failed::<TrainError>::into_error)?;
        let mut found: Vec<PartReport> = Vec::new();
        for told in all {
            let words: Vec<f32> = bytemuck::pod_collect_to_vec(&told);
            found.extend(words.as_chunks().0.iter().map(|&[batch, loss, correct, share]| PartReport {
                batch: batch as usize,
                loss: device.constant([1], &[loss]),
                correct: device.constant([1], &[correct]),
                share,
            }));
        }
        debug_assert!(found.iter().all(|part| part.batch < batches), "ranks are at the same step");
        // Stable: ranks are in the order of places.
        found.sort_by_key(|part| part.batch);
        Ok(found)
    }

    /// Adds the gradients of a batch, before which there were `seen` images in the step.
    fn add_gradients(
        &mut self,
        batch: &Batch,
        taught: Option<&Tensor>,
        seen: usize,
        underway: Option<&Underway>,
    ) -> Result<Vec<PartReport>, TrainError> {
        let Trainer { learner, parameters, gradients, rules, class_weights, ranks, step, .. } = self;
        let learner = &*learner;
        let (images, Place { first, of }) = (batch.labels.len(), batch.place);
        let own = shares::own_leaves(of, rules.leaves, ranks);
        assert_eq!(first..first + images, shares::span(&own), "a rank's images are those of its leaves");
        let own: Vec<Range<usize>> = own.into_iter().map(|leaf| leaf.start - first..leaf.end - first).collect();
        let config = learner.vit().config();
        let cells = batch.pixels.shape().count() / (config.channels * config.token_stride().area()).max(1);
        let extent = BatchExtent { tokens: cells / images.max(1), convolutions: config.stem != Stem::Patches };
        let report = underway.map(|underway| |segment| underway.take(segment));
        let report = report.as_ref().map(|report| report as &(dyn Fn(Segment) + Sync));
        let one = |device: &Device, range: Range<usize>, lane: Lane<'_>| {
            let part = batch.part(device, range.clone());
            let taught = taught.map(|taught| device.slice(taught, range.clone()));
            let draws = DrawKey { seed: rules.seed, step: *step, first_image: seen + first + range.start };
            let context = Context::training(parameters, draws).on(device);
            let context = if rules.recompute { context.with_checkpoints() } else { context };
            let (loss, correct) = match learner {
                Learner::Classifier(vit) => {
                    let input = Input { pixels: &part.pixels, mask: None };
                    let output = vit.forward(&context, input).map_err(vitral::Error::from)?;
                    let (weights, teacher) = (class_weights.as_ref(), taught.as_ref().zip(rules.distillation));
                    let loss = rules.loss.of_output(&context, &output, &part.targets, weights, teacher);
                    let logits = output.logits.as_ref().expect("a model that is trained has a head");
                    let labels: Vec<f32> = part.labels.iter().map(|&label| label as f32).collect();
                    let correct = context.count_correct(logits, &device.constant([labels.len()], &labels));
                    (loss, correct)
                }
                Learner::Autoencoder(autoencoder) => {
                    let Some(Hidden::AllBut(visible)) = &part.hidden else {
                        panic!("batches for an autoencoder say which patches are not hidden")
                    };
                    let loss = autoencoder.loss(&context, &part.pixels, &part.targets, visible);
                    (loss.map_err(vitral::Error::from)?, device.constant([1], &[0.0]))
                }
                Learner::MaskedPatches(model) => {
                    let Some(Hidden::Embeddings(corrupted)) = &part.hidden else {
                        panic!("batches for masked patches say which are corrupted")
                    };
                    let loss = model.loss(&context, &part.pixels, corrupted);
                    (loss.map_err(vitral::Error::from)?, device.constant([1], &[0.0]))
                }
            };
            // The part's share of the mean over the batch of all ranks.
            let share = range.len() as f32 / of as f32;
            context.backward_into(&loss, device.full(loss.shape(), share), lane);
            Ok(PartReport { batch: 0, loss, correct, share })
        };
        gradients.accumulate_and_report(extent, &own, parameters, one, report)
    }
}

impl Batch {
    /// A whole batch.
    pub fn whole(pixels: Tensor, targets: Tensor, labels: Vec<usize>) -> Self {
        let place = Place::whole(labels.len());
        Batch { pixels, targets, labels, place, hidden: None }
    }

    /// Some of its images.
    fn part(&self, device: &Device, images: Range<usize>) -> Batch {
        Batch {
            pixels: device.slice(&self.pixels, images.clone()),
            targets: device.slice(&self.targets, images.clone()),
            place: Place { first: self.place.first + images.start, of: self.place.of },
            hidden: self.hidden.as_ref().map(|hidden| hidden.part(images.clone())),
            labels: self.labels[images].to_vec(),
        }
    }
}

/// The result of a part of a batch; each tensor holds one value.
struct PartReport {
    /// Which of the step's batches.
    batch: usize,
    loss: Tensor,
    correct: Tensor,
    share: f32,
}
