//! Pre-training on images without labels by a recipe: a masked autoencoder (He et al., arXiv:2111.06377) or masked patches
//! (Dosovitskiy et al., arXiv:2010.11929), whose encoder becomes a bundle.

mod drawing;
mod evaluation;
mod hiding;
mod images;

use std::path::Path;
use std::sync::Arc;

use vitral::config::ModelConfig;
use vitral::image::Preprocess;
use vitral::model::{MaskedAutoencoder, MaskedPatches, Vit};
use vitral::{Device, Model, atomic};
use vitral_engine::{Context, Declarations, Parameters};
use vitral_ranks::Ranks;

use crate::best;
use crate::checkpoint::TrainedOn;
use crate::data::{LOADED, Loader, LoaderOptions, Subset};
use crate::epoch::Score;
use crate::error::TrainError;
use crate::fit::{self, Outcome, Plan, RunSize, Source, Watcher};
use crate::fits;
use crate::hidden::{Brightness, Pretraining};
use crate::loss::Loss;
use crate::optimize::groups;
use crate::ranks;
use crate::recipe::Recipe;
use crate::run::{RunOn, cached, open_folder, rules, training, write_recipe};
use crate::start::Start;
use crate::step::{Learner, Rules, Trainer};

use drawing::Drawn;
use hiding::Hiding;
pub use images::Images;

/// Images drawn with what the model makes of them.
const SHOWN: usize = 8;

/// The file in a run's folder with held-out images beside what the model predicts of them.
pub fn drawing_of(rule: &Pretraining) -> &'static str {
    match rule {
        Pretraining::MaskedAutoencoder(_) => "reconstructions.png",
        Pretraining::MaskedPatches(_) => "colors.png",
    }
}

/// Runs a recipe with `pretraining` in a folder, or resumes the run that is there. `learned` is the model in `model.from`, loaded
/// with [`Recipe::load_options`] for no classes. The outcome's accuracy is R² of the hidden pixels, or the fraction of the
/// corrupted patches whose color is predicted.
///
/// # Errors
/// As [`fit::fit`]; and if the recipe, its model and its images do not fit each other.
pub fn pretrain(
    recipe: &Recipe,
    images: &Images,
    learned: Option<Model>,
    folder: &Path,
    on: RunOn<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, TrainError> {
    let ranks = on.ranks.clone();
    let prepared = Run::prepare(recipe, images, learned, folder, on, watcher);
    let (run, mut trainer) = ranks::agree(&ranks, prepared)?;
    let _lock = ranks::on_first(&ranks, || open_folder(folder, &run.resolved))?;
    run.fit(&mut trainer, watcher).map_err(|error| {
        let (rules, config) = (*trainer.rules(), trainer.vit().config().clone());
        drop(trainer);
        run.explained(error, &rules, &config)
    })
}

/// A pre-training whose images and model are ready.
struct Run<'a> {
    recipe: &'a Recipe,
    resolved: String,
    images: &'a Images,
    folder: &'a Path,
    on: RunOn<'a>,
    preprocess: Preprocess,
    train: Hiding,
    choosing: Hiding,
}

fn fault(place: &str, fault: String) -> TrainError {
    TrainError::Recipe { path: place.into(), fault }
}

impl<'a> Run<'a> {
    fn prepare(
        recipe: &'a Recipe,
        images: &'a Images,
        learned: Option<Model>,
        folder: &'a Path,
        on: RunOn<'a>,
        watcher: &mut dyn Watcher,
    ) -> Result<(Self, Trainer), TrainError> {
        let Some(rule) = recipe.pretraining else {
            return Err(fault("pretraining", "the recipe has no table of that name".to_owned()));
        };
        let device = on.device;
        let stepping = match recipe.run.precision {
            Some(precision) => {
                let stepping = device.clone().with_precision(precision.into());
                stepping.map_err(|error| fault("run.precision", error.to_string()))?
            }
            None => device.clone(),
        };
        let start = recipe.start(0, Loss::CrossEntropy, learned.as_ref(), &stepping)?;
        let (parameters, learner) = learner(recipe, &rule, &start, &stepping)?;
        let Start { vit, preprocess, .. } = start;
        let patches = vit.config().grid().area();
        if patches < 2 {
            let problem = format!(
                "expected images of at least two patches, some of which are hidden, found {patches} for images of {} pixels and \
                 patches of {}",
                vit.config().image_size,
                vit.config().patch_size
            );
            return Err(fault("[pretraining]", problem));
        }
        let batch = recipe.run.batch.min(images.train.len());
        let resolved = toml::to_string_pretty(recipe).map_err(|error| fault("[model]", error.to_string()))?;
        let options = training(recipe, &preprocess, batch)?.in_leaves(recipe.run.leaves, &on.ranks);
        let channels = vit.config().channels;
        let hiding = |loader| Hiding {
            loader,
            device: device.clone(),
            rule,
            brightness: Brightness::of(&preprocess, channels),
            patch: vit.config().patch_size,
            seed: recipe.run.seed,
        };
        let train = hiding(Loader::new(cached(&images.train), options, device)?);
        let options = LoaderOptions::evaluation(preprocess.clone(), recipe.run.batch).dealt_to(&on.ranks);
        let choosing = hiding(Loader::new(cached(&images.held_out), options, device)?);
        let groups = groups(&vit, &parameters, &recipe.groups, &recipe.optimizer);
        let rules = rules(recipe, Loss::Squared, batch, Source::batches(&train), false);
        let count = parameters.declarations().count();
        watcher.begin(&RunSize {
            trained: count,
            parameters: count,
            macs: vit.macs(preprocess.output_size().unwrap_or(vit.config().image_size)).map_or(0, |macs| macs.total()),
            steps: recipe.run.epochs * Source::batches(&train).div_ceil(recipe.run.accumulate) as u64,
            images: batch * recipe.run.accumulate,
        });
        let trainer = Trainer::with_hidden_patches(learner, parameters, groups, rules, on.ranks.clone())?;
        Ok((Run { recipe, resolved, images, folder, on, preprocess, train, choosing }, trainer))
    }

    fn fit(&self, trainer: &mut Trainer, watcher: &mut dyn Watcher) -> Result<Outcome, TrainError> {
        let RunOn { device, ranks, interrupted } = &self.on;
        let settings = &self.recipe.run;
        let plan = Plan {
            folder: self.folder,
            recipe: &self.resolved,
            data: &TrainedOn { classes: Vec::new(), images: self.images.train.len() },
            epochs: settings.epochs,
            accumulate: settings.accumulate,
            evaluate_every: settings.evaluate_every,
            checkpoint_every: settings.checkpoint_every,
            keep: settings.keep,
            teacher: None,
            interrupted,
        };
        let score = |trainer: &Trainer| self.score(trainer, device);
        let keep = |trainer: &Trainer| {
            best::keep(trainer, &self.preprocess, &[], self.folder, device)?;
            self.draw(trainer, device)
        };
        let outcome = fit::fit(trainer, &self.train, &score, &keep, &plan, watcher)?;
        watcher.unreadable(&ranks::gather(ranks, &Source::unreadable(&self.choosing))?.concat());
        ranks::on_first(ranks, || write_recipe(self.folder, &self.resolved))?;
        Ok(outcome)
    }

    /// Says which batch fits, if the memory of a card was too small for the run's.
    fn explained(&self, error: TrainError, rules: &Rules, config: &ModelConfig) -> TrainError {
        let (recipe, image) = (self.recipe, self.preprocess.output_size().unwrap_or(config.image_size));
        let make = |device: &Device| {
            let vit = Vit::new(config.clone()).map_err(|found| fault("[model]", found.to_string()))?;
            let (parameters, learner) = untrained(&self.train.rule, config, device)?;
            let groups = groups(&vit, &parameters, &recipe.groups, &recipe.optimizer);
            let rules = Rules { share_moments: false, ..*rules };
            Trainer::with_hidden_patches(learner, parameters, groups, rules, Ranks::alone())
        };
        let hide = |device: &Device, batch| self.train.hide_on(device, batch, 0, 0);
        // In the precision of the steps.
        let precision = recipe.run.precision.map(Into::into);
        let device = precision.and_then(|precision| self.on.device.clone().with_precision(precision).ok());
        let device = device.as_ref().unwrap_or(self.on.device);
        let (ranks, images) = (self.on.ranks.size(), recipe.run.batch.min(self.images.train.len()));
        // Those of the step, and those that the loader has ready.
        let waiting = recipe.run.accumulate.max(1) - 1 + LOADED;
        let tried = fits::Tried { batch: images.div_ceil(ranks), ranks, waiting, config, image };
        fits::explained(error, device, &tried, make, hide)
    }

    /// The mean loss on the held-out images, and R² of their pixels or the accuracy of their colors.
    fn score(&self, trainer: &Trainer, device: &Device) -> Result<Score, TrainError> {
        evaluation::score(trainer, &self.choosing, device)?.ok_or_else(|| {
            let path = self.recipe.data.test.as_ref().unwrap_or(&self.recipe.data.train).clone();
            let fault = "expected held-out images that can be read, found none".to_owned();
            TrainError::Data { path, fault, hint: "check the paths, or replace the files" }
        })
    }

    /// Draws a few held-out images beside what is predicted of them.
    fn draw(&self, trainer: &Trainer, device: &Device) -> Result<(), TrainError> {
        let parameters = evaluation::kept(trainer, device)?;
        // Neighbors are often of one class.
        let images = &self.images.held_out;
        let every = (images.len() / SHOWN).max(1);
        let some = Subset::new(Arc::clone(images), (0..images.len()).step_by(every).take(SHOWN).collect());
        let options = LoaderOptions::evaluation(self.preprocess.clone(), SHOWN);
        let Some(batch) = Loader::new(Arc::new(some), options, device)?.epoch(0, 0).next() else { return Ok(()) };
        let batch = self.choosing.hide(batch?, 0, 0)?;
        let predicted =
            device.scope(|| evaluation::predicted(trainer.learner(), &Context::inference(&parameters), &batch))?;
        let drawn = Drawn { hiding: &self.choosing, batch: &batch, predicted: &predicted };
        let Some(png) = drawn.png()? else { return Ok(()) };
        let path = self.folder.join(drawing_of(&self.choosing.rule));
        atomic::write(&path, &png).map_err(TrainError::file(&path, "drawing what is predicted"))
    }
}

/// What is trained, with parameters that are all zero.
fn untrained(rule: &Pretraining, config: &ModelConfig, device: &Device) -> Result<(Parameters, Learner), TrainError> {
    let refused = |error: vitral::config::ConfigError| fault("pretraining", error.to_string());
    let zeros = |declarations: &Declarations| {
        device.check_memory(4 * declarations.count() as u64)?;
        Ok::<_, TrainError>(Parameters::zeros(declarations.clone(), device.clone()))
    };
    Ok(match rule {
        Pretraining::MaskedAutoencoder(rule) => {
            let autoencoder = MaskedAutoencoder::new(config.clone(), rule.decoder()).map_err(refused)?;
            (zeros(autoencoder.declarations())?, Learner::from(autoencoder))
        }
        Pretraining::MaskedPatches(_) => {
            let model = MaskedPatches::new(config.clone()).map_err(refused)?;
            (zeros(model.declarations())?, Learner::from(model))
        }
    })
}

/// What is trained by a recipe, and its initial values, the encoder's from `start`.
fn learner(
    recipe: &Recipe,
    rule: &Pretraining,
    start: &Start,
    device: &Device,
) -> Result<(Parameters, Learner), TrainError> {
    let (scheme, seed) = (recipe.model.initialize, recipe.run.seed);
    let (mut parameters, learner) = untrained(rule, start.vit.config(), device)?;
    match &learner {
        Learner::Autoencoder(autoencoder) => autoencoder.initialize(&mut parameters, scheme, seed),
        Learner::MaskedPatches(model) => model.initialize(&mut parameters, scheme, seed),
        Learner::Classifier(_) => unreachable!("there are no labels"),
    }
    // The encoder's parameters come first, under the same numbers.
    for id in start.vit.declarations().ids() {
        parameters.write(id, &start.parameters.read(id)?);
    }
    Ok((parameters, learner))
}
