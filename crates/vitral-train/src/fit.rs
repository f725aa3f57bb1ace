//! A whole run: epochs of steps, an evaluation after each, and a checkpoint on disk that training can always resume
//! from.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vitral_engine::Tensor;
use vitral_ranks::Ranks;

use crate::checkpoint::{self, Position, TrainedOn};
use crate::epoch::{EpochStats, Score};
use crate::error::TrainError;
use crate::journal::{Entry, Journal};
use crate::ranks;
use crate::step::{Batch, StepReport, TeacherFn, Trainer};

/// The report's files.
pub const REPORTS: [&str; 4] = ["report.html", "report.json", "curves.svg", "confusion.svg"];

/// Where batches come from. Their order depends only on the number of the epoch.
pub trait Source: Sync {
    /// Batches in an epoch.
    fn batches(&self) -> usize;
    /// The batches of one epoch, starting with batch number `from`.
    fn epoch(&self, epoch: u64, from: usize) -> Box<dyn Iterator<Item = Result<Batch, TrainError>> + '_>;
    /// Why images could not be used so far, each once and with its name.
    fn unreadable(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Follows a run, to show its progress.
pub trait Watcher {
    /// Before the first step.
    fn begin(&mut self, _size: &RunSize) {}
    /// Something the user should know, in a sentence.
    fn note(&mut self, _note: &str) {}
    /// After every step.
    fn step(&mut self, report: &StepReport, batch: usize, batches: usize);
    /// After every epoch. `best` is true for the best epoch so far.
    fn epoch(&mut self, entry: &Entry, best: bool);
    /// Why images could not be used, each reported once. In training, other images take their place; in evaluation they
    /// are left out.
    fn unreadable(&mut self, _faults: &[String]) {}
}

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSize {
    /// Parameters that are trained.
    pub trained: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Multiply-accumulates of a forward pass over one image.
    pub macs: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Images in a step.
    pub images: usize,
}

/// What [`fit`] needs to know about a run.
pub struct Plan<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The resolved recipe; a checkpoint of another recipe is refused.
    pub recipe: &'a str,
    /// The training data; a checkpoint of other data is refused.
    pub data: &'a TrainedOn,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// The model is evaluated every so many epochs, and after the last; 0 is only after the last.
    pub evaluate_every: u64,
    /// Steps between checkpoints within an epoch; 0 is only at the end of the epoch.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept.
    pub keep: usize,
    /// The teacher, for distillation.
    pub teacher: Option<&'a TeacherFn<'a>>,
    /// Set from outside to stop after the step in progress.
    pub interrupted: &'a AtomicBool,
}

impl fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Plan");
        shown.field("folder", &self.folder).field("epochs", &self.epochs).finish_non_exhaustive()
    }
}

impl Plan<'_> {
    /// Whether the model is evaluated after this epoch, counted from 1.
    fn evaluates(&self, epoch: u64) -> bool {
        epoch == self.epochs || (self.evaluate_every > 0 && epoch.is_multiple_of(self.evaluate_every))
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done. The best accuracy and its epoch.
    Finished {
        /// Fraction of the images that chose the best epoch which its model classifies correctly.
        best: f64,
        /// From 1.
        epoch: u64,
        /// Fraction of the test images that the best model classifies correctly, if other images chose the epoch.
        test: Option<f64>,
    },
    /// It was stopped, and can be resumed.
    Interrupted {
        /// Steps taken.
        step: u64,
    },
}

/// Runs a run to its end, from the newest checkpoint if there is one, together with the trainer's other ranks: the first
/// writes and keeps the best model; `score` is called on all. `score` evaluates the model; `keep_best` is
/// called when it is better than ever before.
///
/// # Errors
/// If data cannot be read, the loss diverges, or the disk is full; the last complete checkpoint stays.
pub fn fit(
    trainer: &mut Trainer,
    train: &dyn Source,
    score: &dyn Fn(&Trainer) -> Result<Score, TrainError>,
    keep_best: &dyn Fn(&Trainer) -> Result<(), TrainError>,
    plan: &Plan<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, TrainError> {
    let ranks = trainer.ranks().clone();
    trainer.connect()?;
    if let Some(note) = trainer.exchange().note() {
        watcher.note(&note);
    }
    // Resume from the newest checkpoint, or start.
    let checkpoints = plan.folder.join("checkpoints");
    ranks::on_first(&ranks, || {
        std::fs::create_dir_all(&checkpoints).map_err(TrainError::file(&checkpoints, "making the folder"))
    })?;
    let mut position = match newest(&checkpoints, trainer, plan, watcher)? {
        Some((mut position, path)) => {
            let prepared = go_on(&mut position, plan, (&path, ranks.is_first()), watcher);
            ranks::agree(&ranks, prepared)?;
            position
        }
        None => Position {
            format: checkpoint::FORMAT,
            epoch: 0,
            batch: 0,
            step: 0,
            best: None,
            stats: EpochStats::default(),
            base: trainer.base(),
            recipe: plan.recipe.to_owned(),
            data: plan.data.clone(),
        },
    };
    let mut journal = ranks::on_first(&ranks, || Journal::open(plan.folder, position.epoch))?;
    let before = journal.as_ref().and_then(|journal| journal.entries().last()).map_or(0.0, |entry| entry.seconds);
    let begun = Instant::now();
    let save = |trainer: &Trainer, position: &mut Position| {
        position.step = trainer.step;
        checkpoint::save(&checkpoint::name(&checkpoints, trainer.step), trainer, position)?;
        ranks::on_first(&ranks, || checkpoint::prune(&checkpoints, plan.keep)).map(|_| ())
    };

    let mut reported = HashSet::new();
    while position.epoch < plan.epochs {
        // One epoch of steps.
        let epoch_begun = Instant::now();
        // The statistics of a resumed epoch include the images of an earlier process, but not its time.
        let seen_before = position.stats.seen();
        let batches = train.batches();
        let mut source = train.epoch(position.epoch, position.batch);
        loop {
            let group = source.by_ref().take(plan.accumulate.max(1)).collect::<Result<Vec<Batch>, _>>();
            let group = ranks::agree(&ranks, group)?;
            if group.is_empty() {
                break;
            }
            let report = trainer.step(&group, plan.teacher);
            let report = report.map_err(|error| with_batch(error, plan.folder, &group, &ranks))?;
            position.batch += group.len();
            position.stats.add(&report);
            watcher.step(&report, position.batch, batches);
            let stop = ranks.any(plan.interrupted.load(Ordering::Relaxed))?;
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
        let met = ranks::gather(&ranks, &train.unreadable())?;
        let met: Vec<String> = met.into_iter().flatten().filter(|fault| reported.insert(fault.clone())).collect();
        watcher.unreadable(&met);

        // Evaluation, the best model, the journal, a checkpoint.
        position.epoch += 1;
        position.batch = 0;
        let score = plan.evaluates(position.epoch).then(|| score(trainer)).transpose()?;
        let better = |score: &Score| position.best.is_none_or(|(best, _)| score.is_better_than(&best));
        let best = score.filter(better);
        if let Some(score) = best {
            position.best = Some((score, position.epoch));
            ranks::on_first(&ranks, || keep_best(trainer))?;
        }
        let seconds = before + begun.elapsed().as_secs_f64();
        let stats = std::mem::take(&mut position.stats);
        let entry =
            stats.entry(position.epoch, trainer.step, trainer.counts_correct(), score, images_per_second, seconds);
        ranks::on_first(&ranks, || journal.as_mut().map_or(Ok(()), |journal| journal.push(entry)))?;
        save(trainer, &mut position)?;
        watcher.epoch(&entry, best.is_some());
    }
    let (best, epoch) = position.best.map_or_else(Default::default, |(score, epoch)| (score.accuracy, epoch));
    Ok(Outcome::Finished { best, epoch, test: None })
}

/// The newest checkpoint that can be read. One that is damaged, as by a full disk, is passed over with a note if there is
/// another. The first rank reads; the others need not see the folder.
fn newest(
    folder: &Path,
    trainer: &mut Trainer,
    plan: &Plan<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Option<(Position, PathBuf)>, TrainError> {
    let ranks = trainer.ranks().clone();
    let mut left = ranks::from_first(&ranks, || Ok(checkpoint::list(folder)))?;
    while let Some(path) = left.pop() {
        let read = || std::fs::read(&path).map_err(TrainError::file(&path, "reading a checkpoint"));
        let bytes = ranks::bytes_from_first(&ranks, read)?;
        match checkpoint::load(&path, &bytes, trainer, plan.recipe, plan.data) {
            Ok(position) => {
                ranks::agree(&ranks, Ok(()))?;
                return Ok(Some((position, path)));
            }
            Err(TrainError::Damaged { path, fault }) if !left.is_empty() => {
                watcher.note(&format!("`{}` is damaged ({fault}): the one before it is used", path.display()));
                let remove = || std::fs::remove_file(&path);
                let removing = TrainError::file(&path, "removing a damaged checkpoint");
                ranks::on_first(&ranks, || remove().map_err(removing))?;
            }
            Err(error) => return ranks::agree(&ranks, Err(error)),
        }
    }
    Ok(None)
}

/// Prepares to go on from a checkpoint, and says from where.
fn go_on(
    position: &mut Position,
    plan: &Plan<'_>,
    (checkpoint, writes): (&Path, bool),
    watcher: &mut dyn Watcher,
) -> Result<(), TrainError> {
    let (done, epochs) = (position.epoch, plan.epochs);
    if done > epochs || done == epochs && position.batch > 0 {
        let fault = format!("it is in epoch {}, after the {epochs} epochs of the recipe", done + 1);
        return Err(TrainError::Checkpoint { path: checkpoint.to_owned(), fault });
    }
    plan.recipe.clone_into(&mut position.recipe);
    plan.data.clone_into(&mut position.data);
    if done < epochs {
        watcher.note(&format!("resuming at step {}, in epoch {} of {epochs}", position.step, done + 1));
        // What an earlier, shorter run reported would no longer be true.
        for name in REPORTS {
            let path = plan.folder.join(name);
            if writes && path.exists() {
                std::fs::remove_file(&path).map_err(TrainError::file(&path, "removing the report of fewer epochs"))?;
            }
        }
    }
    Ok(())
}

/// Writes the batches of a diverged step to a file, so that they can be examined; each of several ranks its part.
fn with_batch(error: TrainError, folder: &Path, group: &[Batch], ranks: &Ranks) -> TrainError {
    let TrainError::Diverged { step, loss, gradient_norm, .. } = error else { return error };
    let path = match ranks.rank() {
        0 => folder.join("diverged.safetensors"),
        rank => folder.join(format!("diverged-{rank}.safetensors")),
    };
    let bytes = |tensor: &Tensor| -> Vec<u8> {
        // If the device fails as well, the file lacks these values; the divergence is still reported.
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
    // If it cannot be written, the divergence is still the error to report.
    TrainError::Diverged { step, loss, gradient_norm, batch: written.map(|()| path) }
}
