//! Evaluates a model on a data set: which images, how they are matched to the model's classes, which views of them.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use vitral::config::Problem;
use vitral::image::Preprocess;
use vitral::message::count;
use vitral::{Model, Tensor};
use vitral_ranks::Ranks;

use super::run::own_features;
use super::{Evaluation, Features, evaluate, mirrored};
use crate::data::{
    Corner, Dataset, Loader, LoaderOptions, Match, Relabeled, Split, ValidationSplit, View, open_numbers, open_part,
};
use crate::error::TrainError;
use crate::ranks;

/// Follows an evaluation, to show its progress.
pub trait Watcher {
    /// Something the user should know, in a sentence.
    fn note(&mut self, _note: &str) {}
    /// Before the first image; `images` is how many there are, counting every view.
    fn begin(&mut self, _images: usize) {}
    /// After each batch of images; what it returns says whether to go on.
    fn advance(&mut self, images: usize) -> ControlFlow<()>;
    /// Why an image could not be used.
    fn unreadable(&mut self, _fault: &str) {}
}

/// Reports images, and ends the work if that was asked for.
pub(super) fn advance(watcher: &mut dyn Watcher, images: usize) -> Result<(), TrainError> {
    match watcher.advance(images) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(TrainError::Stopped),
    }
}

/// How a model is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelEvaluation {
    /// The split of the data, if it has splits.
    pub split: Split,
    /// Images in a batch; they do not affect the results.
    pub batch: usize,
    /// Averages the logits of each image and its mirror image.
    pub mirror: bool,
    /// Averages the logits of the center and four corner crops.
    pub five_crops: bool,
}

impl Default for ModelEvaluation {
    /// The test split, 16 images at a time, one view of each.
    fn default() -> Self {
        ModelEvaluation { split: Split::Test, batch: 16, mirror: false, five_crops: false }
    }
}

impl ModelEvaluation {
    /// The split of the data, if it has splits.
    #[must_use]
    pub fn split(mut self, split: Split) -> Self {
        self.split = split;
        self
    }

    /// Images in a batch.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }
}

/// Evaluates a classifier on labeled images, together with other ranks. The data's classes are matched to the model's by
/// name.
///
/// # Errors
/// If the model does not classify, the data cannot be opened or does not fit the model, or `watcher` stops the work.
pub fn evaluate_model(
    model: &Model,
    path: &Path,
    options: &ModelEvaluation,
    ranks: &Ranks,
    watcher: &mut dyn Watcher,
) -> Result<Evaluation, TrainError> {
    let &ModelEvaluation { split, batch, mirror, five_crops } = options;
    model.check_classifies()?;
    // Data without splits is evaluated whole.
    let whole =
        ValidationSplit { fraction: if split == Split::Train { 0.0 } else { 1.0 }, ..ValidationSplit::default() };
    let regression = model.vit().config().problem == Problem::Regression;
    let open = if regression { open_numbers } else { open_part };
    let opened = open(path, split, whole)?;
    let count = count(opened.dataset.len(), "image");
    if opened.parts.is_empty() {
        watcher.note(&format!("the data is not split: evaluating all of its {count}"));
    } else if !opened.parts.contains(&split) {
        let name = format!("{split:?}").to_lowercase();
        watcher.note(&format!("the data has no {name} split: evaluating the {count} of another one"));
    }
    let data = opened.dataset;
    opened.notes.iter().for_each(|note| watcher.note(note));
    let preprocess = model.preprocess()?;
    let matched = match regression {
        true => None,
        false => {
            let matched = Relabeled::to(Arc::clone(&data), model.vit().config().classes, model.labels().names());
            // That no class fits is a matter of all images.
            Some(Arc::new(matched.map_err(|fault| match fault {
                TrainError::Data { fault, hint, .. } => TrainError::Data { path: path.to_owned(), fault, hint },
                other => other,
            })?))
        }
    };
    let data: Arc<dyn Dataset> = matched.clone().map_or(data, |matched| matched);
    let device = model.parameters().device();
    let views = if five_crops { corners(&data, &preprocess)? } else { Vec::new() };
    let loader = Loader::new(Arc::clone(&data), LoaderOptions::evaluation(preprocess, batch).dealt_to(ranks), device)?;
    watcher.begin((1 + views.len()) * data.len());
    let mut shown = |pixels: &Tensor| -> Result<Tensor, TrainError> {
        let logits = logits(model, pixels, mirror)?;
        // Others are about as far.
        advance(watcher, pixels.extent(0) * ranks.size())?;
        Ok(logits)
    };
    let mut seen_views = Vec::with_capacity(views.len());
    for (view, after) in views {
        let loader = Loader::new(Arc::new(view), LoaderOptions::evaluation(after, batch).dealt_to(ranks), device)?;
        seen_views.push(own_features(&loader, &mut shown));
    }
    let seen_views: Vec<Features> = ranks::agree(ranks, seen_views.into_iter().collect())?;
    let mut seen = 0;
    let mut report = evaluate(&loader, |pixels| {
        let middle = shown(pixels)?;
        let first = seen;
        seen += pixels.extent(0);
        Ok(averaged(model, &middle, &seen_views, first)?)
    })?;
    if let Some(matched) = matched.filter(|matched| matched.how() != Match::Names || !matched.unknown().is_empty()) {
        report.note_matching(&matched);
    }
    loader.skipped().iter().for_each(|skipped| watcher.unreadable(&skipped.fault));
    Ok(report)
}

/// Views of the data at the four corners of each image, each with the preprocessing that remains to be done.
fn corners(data: &Arc<dyn Dataset>, preprocess: &Preprocess) -> Result<Vec<(View, Preprocess)>, TrainError> {
    let views = Corner::ALL.map(|corner| View::of(Arc::clone(data), preprocess, corner));
    let all: Option<Vec<_>> = views.into_iter().collect();
    all.ok_or_else(|| TrainError::Data {
        path: data.name(0).into(),
        fault: "expected preprocessing to end in a crop, found that it does not: all views would be the same"
            .to_owned(),
        hint: "leave the five crops out",
    })
}

/// Logits of the center crops, averaged with those of the other views, whose rows begin at `first`.
fn averaged(model: &Model, middle: &Tensor, views: &[Features], first: usize) -> Result<Tensor, vitral::Error> {
    if views.is_empty() {
        return Ok(middle.clone());
    }
    let share = 1.0 / (1 + views.len()) as f32;
    let (mut logits, classes) = (middle.to_vec()?, middle.shape().last());
    for (row, logits) in logits.chunks_exact_mut(classes).enumerate() {
        for (class, logit) in logits.iter_mut().enumerate() {
            *logit = share * views.iter().fold(*logit, |sum, view| sum + view.row(first + row)[class]);
        }
    }
    Ok(model.parameters().device().upload(middle.shape(), &logits)?)
}

/// Logits of pixels, averaged with those of their mirror image if requested.
fn logits(model: &Model, pixels: &Tensor, mirror: bool) -> Result<Tensor, vitral::Error> {
    let plain = model.logits(pixels)?;
    if !mirror {
        return Ok(plain);
    }
    let device = model.parameters().device();
    let other = model.logits(&mirrored(device, pixels))?;
    let mut mean = plain.to_vec()?;
    mean.iter_mut().zip(other.to_vec()?).for_each(|(mean, other)| *mean = 0.5 * (*mean + other));
    Ok(device.upload(plain.shape(), &mean)?)
}
