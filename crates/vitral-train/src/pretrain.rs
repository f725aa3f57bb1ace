//! Pre-training on images without labels: a masked autoencoder (He et al., arXiv:2111.06377) by a recipe, and its encoder as a
//! bundle.

use std::path::Path;
use std::sync::Arc;

use vitral::config::Size;
use vitral::image::Preprocess;
use vitral::model::MaskedAutoencoder;
use vitral::{Device, Model, atomic};
use vitral_engine::{Context, DType, ParameterSpec, Parameters, Tensor};

use crate::best;
use crate::checkpoint::TrainedOn;
use crate::data::{Dataset, Loader, LoaderOptions, Split, Subset, Unlabeled, ValidationSplit, open_part};
use crate::epoch::Score;
use crate::error::TrainError;
use crate::evaluate::each_in_order;
use crate::fit::{self, Outcome, Plan, RunSize, Source, Watcher};
use crate::hidden::{Pretraining, moments};
use crate::loss::Loss;
use crate::optimize::groups;
use crate::ranks;
use crate::recipe::Recipe;
use crate::run::{RunOn, cached, open_folder, rules, training, write_recipe};
use crate::start::Start;
use crate::step::{Batch, Trainer};

/// Images drawn with what the model makes of them.
const SHOWN: usize = 8;

/// The images of a pre-training.
#[derive(Debug)]
pub struct Images {
    /// Those it is trained on.
    pub train: Arc<dyn Dataset>,
    /// Those that the best epoch is chosen on, which are held out.
    pub held_out: Arc<dyn Dataset>,
    /// What was left out or decided when they were opened, a sentence each.
    pub notes: Vec<String>,
}

impl Images {
    /// Opens a recipe's images: labeled data whose labels are not looked at, or any folder of images. Without `data.test`, a part
    /// is held out.
    ///
    /// # Errors
    /// If there are no images.
    pub fn open(recipe: &Recipe) -> Result<Self, TrainError> {
        let data = &recipe.data;
        let (mut train, mut notes) = unlabeled(&data.train, Split::Train)?;
        let held_out = match &data.test {
            Some(path) => {
                let (held_out, more) = unlabeled(path, Split::Test)?;
                notes.extend(more);
                held_out
            }
            None => {
                let ValidationSplit { fraction, seed } = data.validation_split;
                let (some, rest) = Subset::parted(&train, fraction, seed);
                train = Arc::new(rest);
                Arc::new(some)
            }
        };
        if let Some(subset) = data.subset {
            train = Arc::new(Subset::share(&train, subset.fraction, subset.seed));
        }
        if train.is_empty() || held_out.is_empty() {
            let fault =
                format!("expected images to train on and to hold out, found {} and {}", train.len(), held_out.len());
            return Err(TrainError::Data { path: data.train.clone(), fault, hint: "add images, or give `data.test`" });
        }
        Ok(Images { train, held_out, notes })
    }
}

/// Images of any kind, and notes about them.
fn unlabeled(path: &Path, split: Split) -> Result<(Arc<dyn Dataset>, Vec<String>), TrainError> {
    let all = ValidationSplit { fraction: if split == Split::Train { 0.0 } else { 1.0 }, ..ValidationSplit::default() };
    match open_part(path, split, all) {
        Ok(part) => Ok((part.dataset, part.notes)),
        // A folder that is not a data set is still full of images, unless it has splits: those are not to be mixed.
        Err(_) if path.is_dir() && !has_splits(path) => {
            let images = Unlabeled::open(path)?;
            let notes = images.notes();
            Ok((Arc::new(images), notes))
        }
        Err(error) => Err(error),
    }
}

/// Whether a folder has one for a split.
fn has_splits(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .any(|entry| entry.file_name().to_str().is_some_and(|name| Split::of_name(name).is_some()))
}

/// Batches of a loader with hidden patches and what is to be predicted, instead of classes.
#[derive(Debug)]
struct Hiding {
    loader: Loader,
    device: Device,
    rule: Pretraining,
    patch: Size,
    seed: u64,
}

impl Hiding {
    /// A batch of the loader as one with hidden patches. `round` is the epoch, and `before` the images in it before the batch.
    fn hide(&self, batch: Batch, round: u64, before: usize) -> Result<Batch, TrainError> {
        let [images, channels, height, width] = batch.pixels.shape()[..] else { unreachable!("a batch of images") };
        let image = Size { height, width };
        let patches = (height / self.patch.height) * (width / self.patch.width);
        let targets = self.rule.targets(&batch.pixels.to_vec()?, channels, image, self.patch);
        let shape = [images, patches, channels * self.patch.area()];
        let targets = self.device.upload(shape, &targets)?;
        let first = (before + batch.place.first) as u64;
        let visible = (images > 0).then(|| self.rule.draw(self.seed, round, first, images, patches));
        Ok(Batch { targets, visible, ..batch })
    }
}

impl Source for Hiding {
    fn batches(&self) -> usize {
        Source::batches(&self.loader)
    }

    fn epoch(&self, epoch: u64, from: usize) -> Box<dyn Iterator<Item = Result<Batch, TrainError>> + '_> {
        let batches = Source::epoch(&self.loader, epoch, from).enumerate();
        Box::new(batches.map(move |(index, batch)| {
            let batch = batch?;
            let before = (from + index) * batch.place.of;
            self.hide(batch, epoch, before)
        }))
    }

    fn unreadable(&self) -> Vec<String> {
        Source::unreadable(&self.loader)
    }
}

/// Runs a recipe with `pretraining` in a folder, or resumes the run that is there. `learned` is the model in `model.from`, loaded
/// with [`Recipe::load_options`] for no classes. The outcome's accuracy is R² of the hidden pixels.
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
    run.fit(&mut trainer, watcher)
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
        let (parameters, autoencoder) = with_decoder(recipe, &rule, &start, &stepping)?;
        let Start { vit, preprocess, .. } = start;
        let batch = recipe.run.batch.min(images.train.len());
        let resolved = toml::to_string_pretty(recipe).map_err(|error| fault("[model]", error.to_string()))?;
        let options = training(recipe, &preprocess, batch)?.in_leaves(recipe.run.leaves, &on.ranks);
        let hiding = |loader| Hiding {
            loader,
            device: device.clone(),
            rule,
            patch: vit.config().patch_size,
            seed: recipe.run.seed,
        };
        let train = hiding(Loader::new(cached(&images.train), options, device)?);
        let options = LoaderOptions::evaluation(preprocess.clone(), recipe.run.batch).dealt_to(&on.ranks);
        let choosing = hiding(Loader::new(cached(&images.held_out), options, device)?);
        let groups = groups(&vit, &parameters, &recipe.groups, &recipe.optimizer);
        let rules = rules(recipe, Loss::Squared, batch, Source::batches(&train), false);
        let count = autoencoder.declarations().count();
        watcher.begin(&RunSize {
            trained: count,
            parameters: count,
            macs: vit.macs(preprocess.output_size().unwrap_or(vit.config().image_size)).map_or(0, |macs| macs.total()),
            steps: recipe.run.epochs * Source::batches(&train).div_ceil(recipe.run.accumulate) as u64,
            images: batch * recipe.run.accumulate,
        });
        let trainer = Trainer::with_hidden_patches(autoencoder, parameters, groups, rules, on.ranks.clone())?;
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

    /// The mean loss on the held-out images, of which the same patches are hidden each time, and R².
    fn score(&self, trainer: &Trainer, device: &Device) -> Result<Score, TrainError> {
        let (autoencoder, parameters) = kept(trainer, device)?;
        let (mut loss, mut squares, mut sums, mut count, mut images) = (0.0, 0.0, 0.0, 0.0, 0usize);
        let answer = |batch: &Batch| -> Result<Vec<f32>, TrainError> {
            let batch = self.choosing.hide(batch.clone(), 0, 0)?;
            let visible = batch.visible.as_ref().expect("a batch of images");
            let loss = device.scope(|| {
                let cx = Context::inference(&parameters);
                autoencoder.loss(&cx, &batch.pixels, &batch.targets, visible).map_err(vitral::Error::from)
            })?;
            let targets = batch.targets.to_vec()?;
            let (mut sum, mut square) = (0.0f64, 0.0f64);
            targets.iter().for_each(|&value| {
                sum += f64::from(value);
                square += f64::from(value).powi(2);
            });
            Ok(vec![loss.to_vec()?[0], sum as f32, square as f32, targets.len() as f32])
        };
        each_in_order(&self.choosing.loader, answer, |answers| {
            let (values, of) = (&answers.values, answers.labels.len());
            loss += f64::from(values[0]) * of as f64;
            images += of;
            sums += f64::from(values[1]);
            squares += f64::from(values[2]);
            count += f64::from(values[3]);
            Ok(())
        })?;
        if images == 0 {
            let path = self.recipe.data.test.as_ref().unwrap_or(&self.recipe.data.train).clone();
            let fault = "expected held-out images that can be read, found none".to_owned();
            return Err(TrainError::Data { path, fault, hint: "check the paths, or replace the files" });
        }
        let loss = loss / images as f64;
        let variance = squares / f64::max(count, 1.0) - (sums / f64::max(count, 1.0)).powi(2);
        Ok(Score { loss, accuracy: 1.0 - loss / variance.max(f64::MIN_POSITIVE) })
    }

    /// Draws a few held-out images: whole, with patches hidden, and as predicted.
    fn draw(&self, trainer: &Trainer, device: &Device) -> Result<(), TrainError> {
        let (autoencoder, parameters) = kept(trainer, device)?;
        // Neighbors are often of one class.
        let images = &self.images.held_out;
        let every = (images.len() / SHOWN).max(1);
        let some = Subset::new(Arc::clone(images), (0..images.len()).step_by(every).take(SHOWN).collect());
        let options = LoaderOptions::evaluation(self.preprocess.clone(), SHOWN);
        let Some(batch) = Loader::new(Arc::new(some), options, device)?.epoch(0, 0).next() else { return Ok(()) };
        let batch = self.choosing.hide(batch?, 0, 0)?;
        let visible = batch.visible.as_ref().expect("a batch of images");
        let predicted = device.scope(|| {
            let cx = Context::inference(&parameters);
            autoencoder.predict(&cx, &batch.pixels, visible).map_err(vitral::Error::from)
        })?;
        let drawn = Drawn { run: self, pixels: &batch.pixels, predicted: &predicted };
        let Some(png) = drawn.png(&visible.seen())? else { return Ok(()) };
        let path = self.folder.join("reconstructions.png");
        atomic::write(&path, &png).map_err(TrainError::file(&path, "writing the reconstructions"))
    }
}

/// The autoencoder of a recipe with its initial values, the encoder's from `start`.
fn with_decoder(
    recipe: &Recipe,
    rule: &Pretraining,
    start: &Start,
    device: &Device,
) -> Result<(Parameters, MaskedAutoencoder), TrainError> {
    let autoencoder = MaskedAutoencoder::new(start.vit.config().clone(), rule.decoder());
    let autoencoder = autoencoder.map_err(|error| fault("pretraining", error.to_string()))?;
    let declarations = autoencoder.declarations().clone();
    device.check_memory(4 * declarations.count() as u64)?;
    let mut parameters = Parameters::zeros(declarations, device.clone());
    autoencoder.initialize(&mut parameters, recipe.model.initialize, recipe.run.seed);
    // The encoder's parameters come first, under the same numbers.
    for id in start.vit.declarations().ids() {
        parameters.write(id, &start.parameters.read(id)?);
    }
    Ok((parameters, autoencoder))
}

/// The model with its decoder, and the parameters that are evaluated: the exponential average if the run has one.
fn kept<'a>(trainer: &'a Trainer, device: &Device) -> Result<(&'a MaskedAutoencoder, Parameters), TrainError> {
    let autoencoder = trainer.autoencoder().expect("a trainer with hidden patches");
    let declarations = autoencoder.declarations();
    let flat = trainer.ema().unwrap_or(trainer.parameters().flat()).to_vec()?;
    let read = |spec: &ParameterSpec| {
        let id = declarations.find(&spec.name).expect("its own name");
        Ok::<_, TrainError>(flat[trainer.parameters().range(id)].to_vec().into())
    };
    Ok((autoencoder, Parameters::prepared(declarations.clone(), device.clone(), DType::F32, read)?))
}

/// Images on their way to a drawing.
struct Drawn<'a> {
    run: &'a Run<'a>,
    pixels: &'a Tensor,
    predicted: &'a Tensor,
}

impl Drawn<'_> {
    /// A PNG with a row for each image: whole, hidden patches in gray, and hidden patches as predicted, with the brightness and
    /// contrast of the true ones if the model does not predict those. `None` for images that are neither gray nor in color.
    fn png(&self, seen: &[&[usize]]) -> Result<Option<Vec<u8>>, TrainError> {
        let [images, channels, height, width] = self.pixels.shape()[..] else { unreachable!("a batch of images") };
        let Some(normalize) = self.run.preprocess.normalize.as_ref().filter(|_| matches!(channels, 1 | 3)) else {
            return Ok(None);
        };
        let (patch, shown) = (self.run.train.patch, images.min(SHOWN));
        let (pixels, predicted) = (self.pixels.to_vec()?, self.predicted.to_vec()?);
        let (columns, area) = (width / patch.width, height * width);
        let each = channels * patch.area();
        let gap = 2;
        let (full_width, full_height) = (3 * width + 2 * gap, shown * height + shown.saturating_sub(1) * gap);
        let mut canvas = vec![255u8; full_width * full_height * 3];
        let level = |value: f32, channel: usize| {
            ((value * normalize.std[channel] + normalize.mean[channel]) * 255.0).round().clamp(0.0, 255.0) as u8
        };
        for image in 0..shown {
            let own = &pixels[image * channels * area..][..channels * area];
            let plain = Pretraining { normalize_patches: false, ..self.run.train.rule };
            let patches = plain.targets(own, channels, Size { height, width }, patch);
            for (place, truth) in patches.chunks_exact(each).enumerate() {
                let hidden = seen[image].binary_search(&place).is_err();
                let (mean, deviation) = match self.run.train.rule.normalize_patches {
                    true => moments(truth),
                    false => (0.0, 1.0),
                };
                let made = &predicted[(image * patches.len() / each + place) * each..][..each];
                for (index, (&truth, &made)) in truth.iter().zip(made).enumerate() {
                    let (cell, channel) = (index / channels, index % channels);
                    let y = image * (height + gap) + place / columns * patch.height + cell / patch.width;
                    let x = place % columns * patch.width + cell % patch.width;
                    let made = (f64::from(made) * deviation + mean) as f32;
                    let levels = [
                        level(truth, channel),
                        if hidden { 128 } else { level(truth, channel) },
                        level(if hidden { made } else { truth }, channel),
                    ];
                    for (column, value) in levels.into_iter().enumerate() {
                        let at = (y * full_width + column * (width + gap) + x) * 3;
                        if channels == 1 {
                            canvas[at..at + 3].fill(value);
                        } else {
                            canvas[at + channel] = value;
                        }
                    }
                }
            }
        }
        let mut png = Vec::new();
        let image = image::RgbImage::from_raw(full_width as u32, full_height as u32, canvas).expect("as many bytes");
        image
            .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
            .map_err(|error| fault("reconstructions.png", error.to_string()))?;
        Ok(Some(png))
    }
}
