//! A recipe brought to life: data opened, model made, trained, judged, and the best kept as a bundle.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vitral::atomic::{self, AtomicFolder};
use vitral::model::Input;
use vitral::weights::export::{ExportSource, Target, export};
use vitral::{Device, DeviceError, LoadOptions, Model, Tensor};
use vitral_engine::{Context, DType, Parameters};

use crate::data::{Cached, Dataset, Loader, LoaderOptions, Part, Split, Subset, ValidationSplit, open, open_part};
use crate::epoch::Score;
use crate::error::TrainError;
use crate::evaluate::evaluate;
use crate::fit::{self, Outcome, Plan, Source, Watcher};
use crate::journal::Journal;
use crate::lora;
use crate::optimize::groups;
use crate::recipe::{Recipe, SubsetRecipe};
use crate::report::{self, Chosen, ChosenOn};
use crate::start::Start;
use crate::step::{Batch, Rules, TeacherFn, Trainer};
use crate::teacher::Teacher;

/// Bytes of decoded images that are kept in memory, for each of the two sets.
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

/// The images of a recipe, opened: for training and for judging.
pub struct Sets {
    /// What is learned from.
    pub train: Arc<dyn Dataset>,
    /// What the best epoch is chosen on, where those are other images than what the result is told on.
    pub validation: Option<Arc<dyn Dataset>>,
    /// What the result is told on.
    pub test: Arc<dyn Dataset>,
    /// What the best epoch is chosen on, by its name.
    pub chosen_on: ChosenOn,
}

impl Sets {
    /// The images that are judged after epochs, to choose the best one.
    pub fn judging(&self) -> &Arc<dyn Dataset> {
        self.validation.as_ref().unwrap_or(&self.test)
    }
}

/// Opens a recipe's images. Where the data has a validation part beside its test part, the best epoch is chosen on it.
///
/// # Errors
/// If they are not there, or the sets have other classes.
pub fn open_sets(recipe: &Recipe) -> Result<Sets, TrainError> {
    let data = &recipe.data;
    // With images of its own to judge by, nothing is held out of those to learn from.
    let share = |fraction| ValidationSplit { fraction, ..data.validation_split };
    let own = data.test.as_ref();
    let Part { dataset: train, parts: beside } =
        open_part(&data.train, Split::Train, own.map_or(data.validation_split, |_| share(0.0)))?;
    let path = own.unwrap_or(&data.train);
    let Part { dataset: test, parts } =
        open_part(path, Split::Test, own.map_or(data.validation_split, |_| share(1.0)))?;
    // Without a test part the validation part stands for it.
    let stands_in = parts.contains(&Split::Validation) && !parts.contains(&Split::Test);
    let place = match own {
        Some(_) if beside.contains(&Split::Validation) => Some(&data.train),
        _ => Some(path).filter(|_| parts.contains(&Split::Validation) && !stands_in),
    };
    let validation = place.map(|place| open(place, Split::Validation, share(1.0))).transpose()?;
    let given_twice = validation.as_ref().is_some_and(|validation| same(validation.as_ref(), test.as_ref()));
    let validation = validation.filter(|_| !given_twice);
    let chosen_on = match validation {
        Some(_) => ChosenOn::Validation,
        None if stands_in || given_twice => ChosenOn::ValidationAlone,
        None if own.is_some() || parts.contains(&Split::Test) => ChosenOn::Test,
        None => ChosenOn::ValidationSplit,
    };
    for (path, set) in std::iter::once((path, &test)).chain(place.zip(validation.as_ref())) {
        if train.classes() != set.classes() {
            return Err(TrainError::Data {
                path: path.clone(),
                fault: format!("{} classes to learn, {} to judge by", train.classes().len(), set.classes().len()),
                hint: "give both sets the same classes",
            });
        }
    }
    let train = match data.subset {
        Some(SubsetRecipe { fraction, seed }) => Arc::new(Subset::share(&train, fraction, seed)),
        None => train,
    };
    Ok(Sets { train, validation, test, chosen_on })
}

/// Whether two sets hold the same images, by their names.
fn same(a: &dyn Dataset, b: &dyn Dataset) -> bool {
    a.len() == b.len() && (0..a.len()).all(|index| a.name(index) == b.name(index))
}

/// Models that a recipe names, loaded.
#[derive(Default)]
pub struct Models {
    /// What training begins with (`model.from`), loaded with [`Recipe::load_options`].
    pub learned: Option<Model>,
    /// The teacher (`distillation.teacher`).
    pub teacher: Option<Model>,
}

/// Runs a recipe in a folder, or goes on with the run that is there.
///
/// # Errors
/// As [`fit::fit`]; and if the recipe, its models and its data do not fit each other.
pub fn run(
    recipe: &Recipe,
    sets: &Sets,
    models: Models,
    folder: &Path,
    device: &Device,
    interrupted: &AtomicBool,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, TrainError> {
    let classes = sets.train.classes();
    let Start { vit, parameters, preprocess } = recipe.start(classes.len(), models.learned.as_ref(), device)?;
    // The teacher alone stays in memory while the student learns.
    drop(models.learned);
    let teacher = models.teacher.map(|model| Teacher::new(model, &preprocess, classes)).transpose()?;
    let fault = |fault: String| TrainError::Recipe { path: "[model]".into(), fault };
    let settings = &recipe.run;
    let cached = |set: &Arc<dyn Dataset>| -> Arc<dyn Dataset> { Arc::new(Cached::new(Arc::clone(set), CACHE)) };
    let augment = recipe.augment.clone();
    let plain_from = settings.epochs.checked_sub(augment.plain_epochs).ok_or_else(|| TrainError::Recipe {
        path: "augment".into(),
        fault: format!(
            "expected `plain_epochs` to be at most the {} epochs, found {}",
            settings.epochs, augment.plain_epochs
        ),
    })?;
    let options = LoaderOptions::training(preprocess.clone(), augment, settings.batch, settings.seed);
    let options = LoaderOptions { plain_from, ..options };
    let train = Loader::new(cached(&sets.train), options, device)?;
    let options = LoaderOptions::evaluation(preprocess.clone(), settings.batch);
    let judging = Loader::new(cached(sets.judging()), options.clone(), device)?;

    let frozen = recipe.groups.frozen(&vit).map_err(fault)?;
    let parameters = lora::prepare(&vit, parameters, &frozen, recipe.lora.as_ref(), settings.seed)?;
    let (trained, all) = lora::trainable(&vit, &parameters);
    watcher.begin(trained, all);
    let groups = groups(&vit, &parameters, &recipe.groups, &recipe.optimizer);
    let accumulate = settings.accumulate.max(1);
    let steps_per_epoch = Loader::batches(&train).div_ceil(accumulate) as u64;
    let total = settings.epochs * steps_per_epoch;
    let (schedule, total_steps) = recipe.schedule.in_steps(steps_per_epoch, total, settings.batch * accumulate);
    let rules = Rules {
        optimizer: recipe.optimizer,
        schedule,
        total_steps,
        clip: settings.clip,
        average_decay: settings.average,
        loss: settings.loss,
        distillation: recipe.distillation.as_ref().filter(|_| teacher.is_some()).map(|teaching| teaching.how),
        recompute: settings.recompute,
        seed: settings.seed,
    };
    let mut trainer = Trainer::new(vit, parameters, groups, rules)?;
    std::fs::create_dir_all(folder).map_err(TrainError::file(folder, "making the run's folder"))?;
    let best = folder.join("best");
    atomic::recover(&best).map_err(TrainError::file(&best, "putting right what a stopped run left"))?;
    let resolved = toml::to_string_pretty(recipe).map_err(|error| fault(error.to_string()))?;
    let path = folder.join("recipe.toml");
    if !path.exists() {
        atomic::write(&path, resolved.as_bytes()).map_err(TrainError::file(&path, "writing the recipe as resolved"))?;
    }
    let teach = teacher.as_ref().map(|teacher| |pixels: &Tensor| teacher.logits(pixels));
    let plan = Plan {
        folder,
        recipe: &resolved,
        epochs: settings.epochs,
        accumulate: settings.accumulate,
        evaluate_every: settings.evaluate_every,
        checkpoint_every: settings.checkpoint_every,
        keep: settings.keep,
        teacher: teach.as_ref().map(|teach| teach as &TeacherFn<'_>),
        interrupted,
    };
    let judge = |trainer: &Trainer| score(trainer, &judging, device);
    let labels = classes.to_vec();
    let keep = |trainer: &Trainer| keep_best(trainer, &preprocess, &labels, folder, device);
    let outcome = fit::fit(&mut trainer, &train, &judge, &keep, &plan, watcher)?;
    watcher.unreadable(&Source::unreadable(&judging));
    let Outcome::Finished { best: accuracy, epoch, .. } = outcome else { return Ok(outcome) };
    // A run that was finished before has its report.
    if !folder.join("report.html").exists() {
        let chosen = Chosen { on: sets.chosen_on, epoch, accuracy };
        // The test images are judged here for the first time, where others chose the best epoch.
        let test = match sets.validation {
            Some(_) => Loader::new(Arc::clone(&sets.test), options, device)?,
            None => judging,
        };
        tell(folder, &resolved, &chosen, &test, device)?;
        if sets.validation.is_some() {
            watcher.unreadable(&Source::unreadable(&test));
        }
    }
    let test = sets.validation.as_ref().and_then(|_| report::accuracy(folder));
    Ok(Outcome::Finished { best: accuracy, epoch, test })
}

/// Judges the best model in full, and writes the run's report.
fn tell(folder: &Path, recipe: &str, chosen: &Chosen, test: &Loader, device: &Device) -> Result<(), TrainError> {
    let best = Model::load(&folder.join("best"), &LoadOptions::default(), device)?;
    let report = evaluate(test, |pixels| Ok(best.logits(pixels)?))?;
    report::write(folder, recipe, &Journal::read(folder)?, chosen, &report, test.dataset().as_ref())
}

/// The parameters that are validated and kept, ready for inference: the average, where there is one.
fn kept(trainer: &Trainer, device: &Device) -> Result<Parameters, DeviceError> {
    let declarations = trainer.vit.declarations();
    let flat = trainer.average.as_ref().unwrap_or(trainer.parameters.flat()).to_vec()?;
    let read = |spec: &vitral_engine::ParameterSpec| {
        let id = declarations.find(&spec.name).expect("its own name");
        lora::merged(&trainer.parameters, &flat, id).map(Into::into)
    };
    Parameters::prepared(declarations.clone(), device.clone(), DType::F32, read)
}

fn score(trainer: &Trainer, test: &Loader, device: &Device) -> Result<Score, TrainError> {
    let parameters = kept(trainer, device)?;
    let (mut loss, mut correct, mut seen) = (0.0, 0.0, 0usize);
    for batch in Loader::epoch(test, 0, 0) {
        let batch = batch?;
        let numbers = device.scope(|| {
            let cx = Context::inference(&parameters);
            let input = Input { pixels: &batch.pixels, mask: None };
            let output = trainer.vit.forward(&cx, input).map_err(vitral::Error::from)?;
            let logits = output.logits.expect("a model that is trained has a head");
            let labels: Vec<f32> = batch.labels.iter().map(|&label| label as f32).collect();
            let labels = device.constant([labels.len()], &labels);
            let numbers = [trainer.rules().loss.of(&cx, &logits, &batch.targets), cx.count_correct(&logits, &labels)];
            Ok::<_, TrainError>(device.concatenate(&numbers))
        })?;
        let numbers = numbers.to_vec()?;
        seen += batch.labels.len();
        loss += f64::from(numbers[0]) * batch.labels.len() as f64;
        correct += f64::from(numbers[1]);
    }
    Ok(Score { loss: loss / seen.max(1) as f64, accuracy: correct / seen.max(1) as f64 })
}

/// Writes the model as a bundle, in place of the one before.
fn keep_best(
    trainer: &Trainer,
    preprocess: &vitral::image::Preprocess,
    labels: &[String],
    folder: &Path,
    device: &Device,
) -> Result<(), TrainError> {
    let parameters = kept(trainer, device)?;
    let declarations = trainer.vit.declarations();
    let exported = ExportSource {
        name: "trained",
        vit: &trainer.vit,
        preprocess: Some(preprocess.clone()),
        labels: Some(labels),
        license: None,
        storage: DType::F32,
        read: Box::new(|spec| Ok(parameters.read(declarations.find(&spec.name).expect("its own name"))?.into())),
    };
    let best = folder.join("best");
    let failed = || TrainError::file(&best, "keeping the best model");
    let aside = AtomicFolder::beside(&best).map_err(failed())?;
    export(&exported, &aside.path().join("new"), Target::Bundle, &[]).map_err(vitral::Error::from)?;
    aside.replace_with("new").map_err(failed())
}
