//! A whole run: epochs of steps, the held-out images after them, and a state on disk that can always go on.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vitral_engine::Tensor;

use crate::checkpoint::{self, Position};
use crate::epoch::{EpochStats, Score};
use crate::error::TrainError;
use crate::journal::{Entry, Journal};
use crate::step::{Batch, StepReport, TeacherFn, Trainer};

/// Where batches come from, in an order that the epoch's number decides.
pub trait Source: Sync {
    /// Batches in an epoch.
    fn batches(&self) -> usize;
    /// Batches of one epoch, from one of them on.
    fn epoch(&self, epoch: u64, from: usize) -> Box<dyn Iterator<Item = Result<Batch, TrainError>> + '_>;
    /// Why images that were met so far could not be used, each once and with its name.
    fn unreadable(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Who watches a run.
pub trait Watcher {
    /// Before the first step: how many numbers learn, and how many the model has.
    fn begin(&mut self, _learning: usize, _parameters: usize) {}
    /// After every step.
    fn step(&mut self, report: &StepReport, batch: usize, batches: usize);
    /// After every epoch. `best` says whether it is the best so far.
    fn epoch(&mut self, entry: &Entry, best: bool);
    /// Why images could not be used, each told of once: in training others took their places, where they would judge they were left out.
    fn unreadable(&mut self, _faults: &[String]) {}
}

/// How a run is run.
pub struct Plan<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The recipe as resolved: a checkpoint of another one is refused.
    pub recipe: &'a str,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Epochs after which the held-out images are judged; 0 is only the last one.
    pub evaluate_every: u64,
    /// Steps between checkpoints within an epoch; 0 is only at its end.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept.
    pub keep: usize,
    /// A teacher, for distillation.
    pub teacher: Option<&'a TeacherFn<'a>>,
    /// Set from outside to stop after the step in progress.
    pub interrupted: &'a AtomicBool,
}

impl Plan<'_> {
    /// Whether the held-out images are judged after this epoch, counted from 1.
    fn judges(&self, epoch: u64) -> bool {
        epoch == self.epochs || (self.evaluate_every > 0 && epoch.is_multiple_of(self.evaluate_every))
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done. The best accuracy and its epoch.
    Finished {
        /// Share of held-out images taken for their label.
        best: f64,
        /// From 1.
        epoch: u64,
        /// Share of test images that the best model took for their label, where others chose the best epoch.
        test: Option<f64>,
    },
    /// It was stopped, and can go on.
    Interrupted {
        /// Steps taken.
        step: u64,
    },
}

/// Runs all that is left of a run. `score` judges the model on held-out images; `keep_best` is called where it did
/// better than ever before.
///
/// # Errors
/// If data cannot be read, the loss diverges, or the disk is full; the last whole checkpoint stays.
pub fn fit(
    trainer: &mut Trainer,
    train: &dyn Source,
    score: &dyn Fn(&Trainer) -> Result<Score, TrainError>,
    keep_best: &dyn Fn(&Trainer) -> Result<(), TrainError>,
    plan: &Plan<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, TrainError> {
    // ------------------------------------------------------------------ where the run stands
    let checkpoints = plan.folder.join("checkpoints");
    std::fs::create_dir_all(&checkpoints).map_err(TrainError::file(&checkpoints, "making the folder"))?;
    let mut position = match checkpoint::list(&checkpoints).last() {
        Some(newest) => checkpoint::load(newest, trainer, plan.recipe)?,
        None => Position {
            epoch: 0,
            batch: 0,
            step: 0,
            best: None,
            stats: EpochStats::default(),
            base: trainer.base(),
            recipe: plan.recipe.to_owned(),
        },
    };
    let mut journal = Journal::open(plan.folder, position.epoch)?;
    let before = journal.entries().last().map_or(0.0, |entry| entry.seconds);
    let begun = Instant::now();
    let save = |trainer: &Trainer, position: &mut Position| {
        position.step = trainer.step;
        checkpoint::save(&checkpoint::name(&checkpoints, trainer.step), trainer, position)?;
        checkpoint::prune(&checkpoints, plan.keep)
    };

    let mut told = HashSet::new();
    while position.epoch < plan.epochs {
        // -------------------------------------------------------------- one epoch of steps
        let epoch_begun = Instant::now();
        // Of an epoch that goes on, the images of an earlier process are in the sums, its time is not.
        let seen_before = position.stats.seen();
        let batches = train.batches();
        let mut source = train.epoch(position.epoch, position.batch);
        loop {
            let group: Vec<Batch> = source.by_ref().take(plan.accumulate.max(1)).collect::<Result<_, _>>()?;
            if group.is_empty() {
                break;
            }
            let report = trainer.step(&group, plan.teacher).map_err(|error| with_batch(error, plan.folder, &group))?;
            position.batch += group.len();
            position.stats.add(&report);
            watcher.step(&report, position.batch, batches);
            let stop = plan.interrupted.load(Ordering::Relaxed);
            if stop || (plan.checkpoint_every > 0 && trainer.step.is_multiple_of(plan.checkpoint_every)) {
                save(trainer, &mut position)?;
            }
            if stop {
                return Ok(Outcome::Interrupted { step: trainer.step });
            }
        }
        drop(source);
        let images = position.stats.seen() - seen_before;
        let images_per_second = images as f64 / epoch_begun.elapsed().as_secs_f64().max(1e-9);
        let met: Vec<String> = train.unreadable().into_iter().filter(|fault| told.insert(fault.clone())).collect();
        watcher.unreadable(&met);

        // -------------------------------------------------------------- held-out images
        position.epoch += 1;
        position.batch = 0;
        let score = plan.judges(position.epoch).then(|| score(trainer)).transpose()?;
        let better = |score: &Score| position.best.is_none_or(|(best, _)| score.accuracy > best);
        let best = score.filter(better);
        if let Some(score) = best {
            position.best = Some((score.accuracy, position.epoch));
            keep_best(trainer)?;
        }
        let seconds = before + begun.elapsed().as_secs_f64();
        let stats = std::mem::take(&mut position.stats);
        let entry = stats.entry(position.epoch, trainer.step, score, images_per_second, seconds);
        journal.push(entry)?;
        save(trainer, &mut position)?;
        watcher.epoch(&entry, best.is_some());
    }
    let (best, epoch) = position.best.unwrap_or_default();
    Ok(Outcome::Finished { best, epoch, test: None })
}

/// Keeps the batches of a step that diverged, so that somebody can see what was in them.
fn with_batch(error: TrainError, folder: &Path, group: &[Batch]) -> TrainError {
    let TrainError::Diverged { step, loss, gradient_norm, .. } = error else { return error };
    let path = folder.join("diverged.safetensors");
    let bytes = |tensor: &Tensor| -> Vec<u8> {
        // A device that fails as well leaves the file without its numbers; the run's own fault is still reported.
        tensor.to_vec().unwrap_or_default().iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    let named = group.iter().enumerate().flat_map(|(i, batch)| {
        [(format!("pixel_values.{i}"), &batch.pixels), (format!("targets.{i}"), &batch.targets)]
    });
    let tensors: Vec<_> = named.map(|(name, tensor)| (name, tensor.shape().to_vec(), bytes(tensor))).collect();
    let views = tensors.iter().filter(|(_, _, bytes)| !bytes.is_empty()).map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name, view.expect("as many bytes as the shape says"))
    });
    let written = safetensors::serialize(views, None).ok().and_then(|bytes| std::fs::write(&path, bytes).ok());
    // Where it cannot be written, the run's own fault is still the one to tell.
    TrainError::Diverged { step, loss, gradient_norm, batch: written.map(|()| path) }
}
