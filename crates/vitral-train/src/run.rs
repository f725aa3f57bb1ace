//! A recipe to a trained model: the data is opened, the model made and trained, and the best one kept as a bundle with
//! a report.

use std::fs::{File, TryLockError};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vitral::config::ModelConfig;
use vitral::files::{is_hidden, is_image};
use vitral::image::Preprocess;
use vitral::image::preprocess::Channels;
use vitral::message::count;
use vitral::model::Vit;
use vitral::{Device, LoadOptions, Model, Tensor, atomic};
use vitral_engine::Parameters;
use vitral_ranks::Ranks;

use crate::best;
use crate::checkpoint::{self, TrainedOn};
use crate::data::{Cached, Dataset, LOADED, Loader, LoaderOptions, Match, statistics};
use crate::error::TrainError;
use crate::evaluate::evaluate;
use crate::fit::{self, Outcome, Plan, RunSize, Source, Watcher};
use crate::fits;
use crate::journal::Journal;
use crate::lora;
use crate::loss::Loss;
use crate::optimize::groups;
use crate::ranks;
use crate::recipe::{NewHead, Recipe};
use crate::report::{self, Chosen};
use crate::sets::Sets;
use crate::start::Start;
use crate::step::{Batch, Rules, Trainer};
use crate::teacher::Teacher;

/// Bytes of decoded images that are cached in memory, for each set.
const CACHE: u64 = 2 << 30;

impl Source for Loader {
    fn batches(&self) -> usize {
        Loader::batches(self)
    }

    fn epoch(&self, epoch: u64, from: usize) -> Box<dyn Iterator<Item = Result<Batch, TrainError>> + '_> {
        Box::new(Loader::epoch(self, epoch, from))
    }

    fn unreadable(&self) -> Vec<String> {
        self.skipped().into_iter().map(|skipped| skipped.fault).collect()
    }
}

/// The models that a recipe names, loaded.
#[derive(Debug, Default)]
pub struct Models {
    /// The model that training starts from (`model.from`), loaded with [`Recipe::load_options`].
    pub learned: Option<Model>,
    /// The teacher (`distillation.teacher`).
    pub teacher: Option<Model>,
}

impl Models {
    /// Loads the models that a recipe names; `load` loads one by its path or name. If the recipe keeps the classifier, the
    /// images get its classes.
    ///
    /// # Errors
    /// The first error of `load`, or if the images have classes that the classifier does not have.
    pub fn load<E: From<TrainError>>(
        recipe: &Recipe,
        sets: &mut Sets,
        load: impl Fn(&str, &LoadOptions) -> Result<Model, E>,
    ) -> Result<Self, E> {
        let mut models = Models::default();
        if let Some(from) = &recipe.model.from {
            let model = load(from, &recipe.load_options(sets.train.classes().len())?)?;
            if recipe.model.head == NewHead::Keep {
                sets.keep_classes(&model)?;
            }
            models.learned = Some(model);
        }
        if let Some(teaching) = &recipe.distillation {
            models.teacher = Some(load(&teaching.teacher, &LoadOptions::default())?);
        }
        Ok(models)
    }
}

/// What a run runs on, and what stops it.
#[derive(Clone, Debug)]
pub struct RunOn<'a> {
    /// The device of this process.
    pub device: &'a Device,
    /// The processes that train together. Only the first needs the folder of the run.
    pub ranks: Ranks,
    /// Set from outside to stop after the step in progress.
    pub interrupted: &'a AtomicBool,
}

impl<'a> RunOn<'a> {
    /// One process.
    pub fn alone(device: &'a Device, interrupted: &'a AtomicBool) -> Self {
        RunOn { device, ranks: Ranks::alone(), interrupted }
    }
}

/// Runs a recipe in a folder, or resumes the run that is there.
///
/// # Errors
/// As [`fit::fit`]; and if the recipe, its models and its data do not fit each other.
pub fn run(
    recipe: &Recipe,
    sets: &Sets,
    models: Models,
    folder: &Path,
    on: RunOn<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, TrainError> {
    let ranks = on.ranks.clone();
    let recipe = &ranks::agree(&ranks, with_statistics(recipe, sets, models.learned.as_ref(), watcher))?;
    let prepared = Run::prepare(recipe, sets, models, folder, on, watcher);
    let (run, mut trainer) = ranks::agree(&ranks, prepared)?;
    let _lock = ranks::on_first(&ranks, || open_folder(run.folder, &run.resolved))?;
    match run.fit(&mut trainer, watcher) {
        Ok(Outcome::Finished { best, epoch, .. }) => {
            drop(trainer);
            let by = recipe.run.choose_by;
            run.report(Chosen { on: sets.chosen_on, by, epoch, accuracy: best }, watcher)
        }
        Ok(stopped) => Ok(stopped),
        Err(error) => {
            let (rules, config) = (*trainer.rules(), trainer.vit().config().clone());
            drop(trainer);
            Err(run.explained(error, &rules, config))
        }
    }
}

/// A run whose data and models are ready.
struct Run<'a> {
    recipe: &'a Recipe,
    /// The recipe with every default written out, as the run's folder keeps it.
    resolved: String,
    sets: &'a Sets,
    folder: &'a Path,
    on: RunOn<'a>,
    preprocess: Preprocess,
    teacher: Option<Teacher>,
    train: Loader,
    choosing: Loader,
}

impl<'a> Run<'a> {
    /// Opens the loaders, and makes the model and its trainer.
    fn prepare(
        recipe: &'a Recipe,
        sets: &'a Sets,
        models: Models,
        folder: &'a Path,
        on: RunOn<'a>,
        watcher: &mut dyn Watcher,
    ) -> Result<(Self, Trainer), TrainError> {
        let device = on.device;
        let classes = sets.train.classes();
        let loss = recipe.loss(sets.train.labeling())?;
        let class_weights = recipe.class_weights(sets.train.as_ref())?;
        // The parameters' device is that of the steps; evaluations have the run's own.
        let stepping = match recipe.run.precision {
            Some(precision) => {
                let stepping = device.clone().with_precision(precision.into());
                stepping.map_err(|error| fault("run.precision", error.to_string()))?
            }
            None => device.clone(),
        };
        let Start { vit, parameters, preprocess } =
            recipe.start(classes.len(), loss, models.learned.as_ref(), &stepping)?;
        // Only the teacher is needed during training.
        drop(models.learned);
        let teacher = models.teacher.map(|model| Teacher::new(model, &preprocess, classes)).transpose()?;
        match teacher.as_ref().map(Teacher::how) {
            Some(Match::Order) => watcher.note("no class name of the data is one of the teacher's: matched in order"),
            Some(Match::Numbers) => watcher.note("the data's class names were taken for the teacher's class numbers"),
            Some(Match::Names) | None => {}
        }
        // A small data set is one batch, rather than none.
        let batch = recipe.run.batch.min(sets.train.len());
        let resolved = toml::to_string_pretty(recipe).map_err(|error| fault("[model]", error.to_string()))?;
        let options = training(recipe, &preprocess, batch)?.in_leaves(recipe.run.leaves, &on.ranks);
        let train = Loader::new(cached(&sets.train), options, device)?;
        let options = LoaderOptions::evaluation(preprocess.clone(), recipe.run.batch).dealt_to(&on.ranks);
        let choosing = Loader::new(cached(sets.choosing()), options, device)?;

        let frozen = recipe.groups.frozen(&vit).map_err(|found| fault("[model]", found))?;
        let parameters = lora::prepare(&vit, parameters, &frozen, recipe.lora.as_ref(), recipe.run.seed)?;
        let (trained, all) = lora::trainable(&vit, &parameters);
        let groups = groups(&vit, &parameters, &recipe.groups, &recipe.optimizer);
        let rules = rules(recipe, loss, batch, Loader::batches(&train), teacher.is_some());
        let steps = recipe.run.epochs * Loader::batches(&train).div_ceil(recipe.run.accumulate) as u64;
        watcher.begin(&RunSize {
            trained,
            parameters: all,
            macs: vit.macs(preprocess.output_size().unwrap_or(vit.config().image_size)).map_or(0, |macs| macs.total()),
            steps,
            images: batch * recipe.run.accumulate,
        });
        if rules.schedule.warmup_steps >= rules.total_steps {
            let (warmup, total) = (rules.schedule.warmup_steps, rules.total_steps);
            let idle = total == 1 && rules.schedule.warmup_learning_rate == 0.0;
            let so = if idle { "nothing is learned at a rate of 0" } else { "the peak learning rate is never reached" };
            watcher.note(&format!(
                "the warm-up ({}) is not shorter than the run ({}): {so}",
                count(warmup as usize, "step"),
                count(total as usize, "step")
            ));
        }
        let trainer = Trainer::on_ranks(vit, parameters, groups, rules, on.ranks.clone())?;
        let trainer = match class_weights {
            Some(weights) => trainer.with_class_weights(&weights)?,
            None => trainer,
        };
        let run = Run { recipe, resolved, sets, folder, on, preprocess, teacher, train, choosing };
        Ok((run, trainer))
    }

    /// Trains until the last epoch, or until it is interrupted.
    fn fit(&self, trainer: &mut Trainer, watcher: &mut dyn Watcher) -> Result<Outcome, TrainError> {
        let RunOn { device, ranks, interrupted } = &self.on;
        let teach = |pixels: &Tensor| self.teacher.as_ref().expect("asked only if there is one").logits(pixels);
        let settings = &self.recipe.run;
        let plan = Plan {
            folder: self.folder,
            recipe: &self.resolved,
            data: &TrainedOn { classes: self.sets.train.classes().to_vec(), images: self.sets.train.len() },
            epochs: settings.epochs,
            accumulate: settings.accumulate,
            evaluate_every: settings.evaluate_every,
            checkpoint_every: settings.checkpoint_every,
            keep: settings.keep,
            teacher: self.teacher.is_some().then_some(&teach),
            interrupted,
        };
        let score = |trainer: &Trainer| best::score(trainer, &self.choosing, settings.choose_by, device);
        let classes = self.sets.train.classes();
        let keep = |trainer: &Trainer| best::keep(trainer, &self.preprocess, classes, self.folder, device);
        let outcome = fit::fit(trainer, &self.train, &score, &keep, &plan, watcher)?;
        watcher.unreadable(&ranks::gather(ranks, &Source::unreadable(&self.choosing))?.concat());
        ranks::on_first(ranks, || write_recipe(self.folder, &self.resolved))?;
        Ok(outcome)
    }

    /// Says which batch fits, if the memory of a card was too small for the run's.
    fn explained(&self, error: TrainError, rules: &Rules, config: ModelConfig) -> TrainError {
        let (recipe, image) = (self.recipe, self.preprocess.output_size().unwrap_or(config.image_size));
        let make = |device: &Device| {
            let vit = Vit::new(config.clone()).map_err(|found| fault("[model]", found.to_string()))?;
            let frozen = recipe.groups.frozen(&vit).map_err(|found| fault("[model]", found))?;
            let parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
            let parameters = lora::prepare(&vit, parameters, &frozen, recipe.lora.as_ref(), recipe.run.seed)?;
            let groups = groups(&vit, &parameters, &recipe.groups, &recipe.optimizer);
            Trainer::new(vit, parameters, groups, Rules { distillation: None, share_moments: false, ..*rules })
        };
        // In the precision of the steps.
        let precision = recipe.run.precision.map(Into::into);
        let device = precision.and_then(|precision| self.on.device.clone().with_precision(precision).ok());
        let device = device.as_ref().unwrap_or(self.on.device);
        let (ranks, images) = (self.on.ranks.size(), recipe.run.batch.min(self.sets.train.len()));
        // Those of the step, and those that the loader has ready.
        let waiting = recipe.run.accumulate.max(1) - 1 + LOADED;
        let tried = fits::Tried { batch: images.div_ceil(ranks), ranks, waiting, config: &config, image };
        fits::explained(error, device, &tried, make, fits::whole)
    }

    /// Evaluates the best model on the test images and writes the report, unless a finished run has one already. If the
    /// epoch was chosen on validation images, the test images are used here for the first time.
    fn report(self, chosen: Chosen, watcher: &mut dyn Watcher) -> Result<Outcome, TrainError> {
        let RunOn { device, ranks, .. } = &self.on;
        let (folder, separate) = (self.folder, self.sets.validation.is_some());
        let wanted = || Ok(!folder.join("report.html").exists() || !folder.join("best").exists());
        if ranks::from_first(ranks, wanted)? {
            let test = if separate {
                let options = LoaderOptions::evaluation(self.preprocess.clone(), self.recipe.run.batch).dealt_to(ranks);
                Loader::new(Arc::clone(&self.sets.test), options, device)?
            } else {
                self.choosing
            };
            let best = best::load(folder, device, ranks)?;
            let evaluation = evaluate(&test, |pixels| Ok(best.logits(pixels)?))?;
            ranks::on_first(ranks, || {
                let sources = report::Sources {
                    recipe: &self.resolved,
                    entries: &Journal::read(folder)?,
                    chosen: &chosen,
                    evaluation: &evaluation,
                    dataset: test.dataset().as_ref(),
                    channels: test.channels(),
                };
                report::write(folder, sources)
            })?;
            if separate {
                watcher.unreadable(&ranks::gather(ranks, &Source::unreadable(&test))?.concat());
            }
        }
        let measured = || Ok(if separate { report::measure(folder) } else { None });
        Ok(Outcome::Finished { best: chosen.accuracy, epoch: chosen.epoch, test: ranks::from_first(ranks, measured)? })
    }
}

/// The recipe with mean and standard deviation of the training images, if it asks for them.
fn with_statistics(
    recipe: &Recipe,
    sets: &Sets,
    learned: Option<&Model>,
    watcher: &mut dyn Watcher,
) -> Result<Recipe, TrainError> {
    let mut recipe = recipe.clone();
    if !std::mem::take(&mut recipe.data.statistics) {
        return Ok(recipe);
    }
    let one = recipe.model.set.get("channels").and_then(toml::Value::as_integer) == Some(1);
    let channels = match recipe.data.bands {
        Some(bands) => Channels::Bands(bands),
        None if one => Channels::Gray,
        None => Channels::Rgb,
    };
    // A pretrained model keeps its own scale, unless the recipe says what bands there are.
    let learned = learned.filter(|_| recipe.data.bands.is_none());
    let described = learned.and_then(|learned| learned.described_preprocess().ok());
    let (channels, rescale) = match described {
        Some(described) => (described.channels, described.rescale),
        None => (channels, Some(recipe.data.rescale())),
    };
    let preprocess = Preprocess { channels, steps: Vec::new(), rescale, normalize: None };
    let threads = NonZero::new(rayon::current_num_threads()).unwrap_or(NonZero::<usize>::MIN);
    let (found, unreadable) = statistics(sets.train.as_ref(), &preprocess, threads)?;
    watcher.unreadable(&unreadable);
    if let Some(band) = found.std().iter().position(|&std| std == 0.0) {
        let problem = format!("band {} has the same value in every pixel of every training image", band + 1);
        let hint = "leave the band out, or give `data.mean` and `data.std`";
        return Err(TrainError::Data { path: recipe.data.train.clone(), fault: problem, hint });
    }
    watcher.note(&format!(
        "mean {:?} and standard deviation {:?} of {} images",
        found.mean(),
        found.std(),
        found.images()
    ));
    (recipe.data.mean, recipe.data.std) = (Some(found.mean()), Some(found.std()));
    Ok(recipe)
}

/// How the training images are loaded: augmented, but for the plain epochs at the end.
pub(crate) fn training(recipe: &Recipe, preprocess: &Preprocess, batch: usize) -> Result<LoaderOptions, TrainError> {
    let (augment, epochs) = (recipe.augment.clone(), recipe.run.epochs);
    let plain_from = epochs.checked_sub(augment.plain_epochs).ok_or_else(|| {
        let found = augment.plain_epochs;
        fault("augment", format!("expected `plain_epochs` to be at most the {epochs} epochs, found {found}"))
    })?;
    let options = LoaderOptions::training(preprocess.clone(), augment, batch, recipe.run.seed);
    Ok(options.plain_from(plain_from).sampling(recipe.run.sampling))
}

/// The rules of every step, with the schedule in steps. `batches` is the number of batches in an epoch.
pub(crate) fn rules(recipe: &Recipe, loss: Loss, batch: usize, batches: usize, taught: bool) -> Rules {
    let settings = &recipe.run;
    let accumulate = settings.accumulate.max(1);
    let steps_per_epoch = batches.div_ceil(accumulate) as u64;
    let total = settings.epochs * steps_per_epoch;
    let (schedule, total_steps) = recipe.schedule.in_steps(steps_per_epoch, total, batch * accumulate);
    Rules {
        optimizer: recipe.optimizer,
        schedule,
        total_steps,
        clip: settings.clip,
        ema_decay: settings.ema_decay,
        loss,
        distillation: recipe.distillation.as_ref().filter(|_| taught).map(|teaching| teaching.how),
        recompute: settings.recompute,
        seed: settings.seed,
        leaves: settings.leaves,
        share_moments: settings.share_moments,
    }
}

/// Takes possession of a run's folder, for as long as the file is open, and writes the recipe into it.
pub(crate) fn open_folder(folder: &Path, resolved: &str) -> Result<File, TrainError> {
    refuse_other_files(folder, resolved)?;
    std::fs::create_dir_all(folder).map_err(TrainError::file(folder, "creating the run's folder"))?;
    let lock = locked(folder)?;
    let best = folder.join("best");
    atomic::recover(&best).map_err(TrainError::file(&best, "restoring what a stopped run left"))?;
    let path = folder.join("recipe.toml");
    // With a checkpoint, the recipe is only replaced once it is known to go on with it.
    if !path.exists() || checkpoint::list(&folder.join("checkpoints")).is_empty() {
        write_recipe(folder, resolved)?;
    }
    Ok(lock)
}

/// Refuses a folder that is not a run's and holds files that a run would replace, or images: a folder of the data, say.
fn refuse_other_files(folder: &Path, resolved: &str) -> Result<(), TrainError> {
    let ours = !checkpoint::list(&folder.join("checkpoints")).is_empty()
        || std::fs::read_to_string(folder.join("recipe.toml")).is_ok_and(|found| found == resolved);
    if ours || !folder.exists() {
        return Ok(());
    }
    let listing = TrainError::file(folder, "listing the run's folder");
    let inside: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(listing)?;
    let written = ["recipe.toml", "journal.jsonl", "journal.csv"].iter().chain(&fit::REPORTS);
    let replaced = |path: &PathBuf| written.clone().any(|name| path.file_name().is_some_and(|found| found == *name));
    let foreign = |path: &&PathBuf| !is_hidden(path) && (path.is_dir() || is_image(path) || replaced(path));
    match inside.iter().find(foreign) {
        Some(path) => Err(TrainError::Data {
            path: folder.to_owned(),
            fault: format!("expected a new folder or that of a run, found one with other files (`{}`)", path.display()),
            hint: "choose another folder",
        }),
        None => Ok(()),
    }
}

/// Keeps other processes out of a run's folder for as long as the file is open.
fn locked(folder: &Path) -> Result<File, TrainError> {
    let path = folder.join(".lock");
    let opening = TrainError::file(&path, "opening the run's lock");
    let file = File::options().create(true).append(true).open(&path).map_err(opening)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::Data {
            path: folder.to_owned(),
            fault: "another process is training in this folder".to_owned(),
            hint: "wait until it ends, or choose another folder for the run",
        }),
        // Some network file systems have no locks.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Writes the resolved recipe into a run's folder.
pub(crate) fn write_recipe(folder: &Path, resolved: &str) -> Result<(), TrainError> {
    let path = folder.join("recipe.toml");
    if std::fs::read_to_string(&path).is_ok_and(|found| found == resolved) {
        return Ok(());
    }
    atomic::write(&path, resolved.as_bytes()).map_err(TrainError::file(&path, "writing the resolved recipe"))
}

pub(crate) fn cached(set: &Arc<dyn Dataset>) -> Arc<dyn Dataset> {
    Arc::new(Cached::new(Arc::clone(set), CACHE))
}

fn fault(place: &str, fault: String) -> TrainError {
    TrainError::Recipe { path: place.into(), fault }
}
