//! The best model so far: how it is found and kept.

use std::path::Path;

use vitral::atomic::AtomicFolder;
use vitral::image::Preprocess;
use vitral::model::Input;
use vitral::weights::export::{ExportSource, Target, export};
use vitral::{Device, DeviceError, LoadOptions, Model};
use vitral_engine::{Context, DType, ParameterSpec, Parameters};
use vitral_ranks::Ranks;

use crate::balance::ChooseBy;
use crate::data::Loader;
use crate::epoch::Score;
use crate::error::TrainError;
use crate::evaluate::{Errors, Metrics, SeveralMetrics, each_in_order};
use crate::labeling::Labeling;
use crate::lora;
use crate::ranks;
use crate::step::{Batch, Trainer};

/// The parameters that are evaluated and kept, prepared for inference: the exponential average if the run has one.
fn kept(trainer: &Trainer, device: &Device) -> Result<Parameters, DeviceError> {
    let declarations = trainer.vit().declarations();
    let flat = trainer.ema.as_ref().unwrap_or(trainer.parameters.flat()).to_vec()?;
    let read = |spec: &ParameterSpec| {
        let id = declarations.find(&spec.name).expect("its own name");
        lora::merged(&trainer.parameters, &flat, id).map(Into::into)
    };
    Parameters::prepared(declarations.clone(), device.clone(), DType::F32, read)
}

/// Loads the best model of a run, which the first of several ranks reads for all: the others need not see its folder.
///
/// # Errors
/// If it is not there, or cannot be loaded.
pub(crate) fn load(folder: &Path, device: &Device, ranks: &Ranks) -> Result<Model, TrainError> {
    let best = folder.join("best");
    let names = ranks::from_first(ranks, || {
        if !best.is_dir() {
            return Err(TrainError::Data {
                path: best.clone(),
                fault: "expected the run's best model, found none".to_owned(),
                hint: "restore it, or train again in another folder",
            });
        }
        let listing = || TrainError::file(&best, "listing the best model");
        let entries = std::fs::read_dir(&best).map_err(listing())?;
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(listing())?;
        let files = entries.iter().filter(|entry| entry.path().is_file());
        Ok(files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>())
    })?;
    if !ranks.is_several() {
        return Ok(Model::load(best, &LoadOptions::default(), device)?);
    }
    let copy = tempfile::tempdir().map_err(TrainError::file(std::env::temp_dir(), "making a folder"));
    let copy = ranks::agree(ranks, copy)?;
    for name in names {
        let path = best.join(&name);
        let read = || std::fs::read(&path).map_err(TrainError::file(&path, "reading the best model"));
        let bytes = ranks::bytes_from_first(ranks, read)?;
        let path = copy.path().join(&name);
        let written = if ranks.is_first() { Ok(()) } else { std::fs::write(&path, bytes) };
        ranks::agree(ranks, written.map_err(TrainError::file(&path, "copying the best model")))?;
    }
    let seen = if ranks.is_first() { &best } else { copy.path() };
    ranks::agree(ranks, Model::load(seen, &LoadOptions::default(), device).map_err(TrainError::from))
}

/// Evaluates the model as it is now: mean loss, in which all classes count the same, and the fraction of images classified
/// correctly, or its mean over the classes; where images have several labels the mean average precision, and where they
/// have numbers R².
///
/// # Errors
/// If an image does not fit the model, or the device fails.
pub(crate) fn score(trainer: &Trainer, test: &Loader, by: ChooseBy, device: &Device) -> Result<Score, TrainError> {
    let parameters = kept(trainer, device)?;
    let labeling = test.dataset().labeling();
    let mut errors = Errors::default();
    let mut metrics = SeveralMetrics::new(test.dataset().classes());
    let mut of_classes = Metrics::new(test.dataset().classes());
    let (mut loss, mut correct, mut seen) = (0.0, 0.0, 0usize);
    let answer = |batch: &Batch| {
        let values = device.scope(|| {
            let cx = Context::inference(&parameters);
            let input = Input { pixels: &batch.pixels, mask: None };
            let output = trainer.vit().forward(&cx, input).map_err(vitral::Error::from)?;
            let logits = output.logits.expect("a model that is trained has a head");
            let loss = trainer.rules().loss.of(&cx, &logits, &batch.targets, None);
            let values = match (labeling, by) {
                (Labeling::Several | Labeling::Number, _) | (Labeling::One, ChooseBy::BalancedAccuracy) => {
                    [loss, logits.reshape([logits.shape().count()])]
                }
                (Labeling::One, ChooseBy::Accuracy) => {
                    let labels: Vec<f32> = batch.labels.iter().map(|&label| label as f32).collect();
                    let labels = device.constant([labels.len()], &labels);
                    [loss, cx.count_correct(&logits, &labels)]
                }
            };
            Ok::<_, TrainError>(device.concatenate(&values))
        })?;
        Ok(values.to_vec()?)
    };
    each_in_order(test, answer, |answers| {
        let (values, images) = (&answers.values, answers.labels.len());
        seen += images;
        loss += f64::from(values[0]) * images as f64;
        match (labeling, by) {
            (Labeling::Several, _) => metrics.add_batch(&values[1..], &answers.targets),
            (Labeling::Number, _) => errors.add(&values[1..], &answers.targets),
            (Labeling::One, ChooseBy::Accuracy) => correct += f64::from(values[1]),
            (Labeling::One, ChooseBy::BalancedAccuracy) => {
                let rows = values[1..].chunks_exact(test.dataset().classes().len());
                rows.zip(&answers.labels).for_each(|(row, &label)| of_classes.add(row, label));
            }
        }
        Ok(())
    })?;
    if seen == 0 {
        let images = test.dataset();
        return Err(TrainError::Data {
            path: images.name(0).into(),
            fault: format!("expected validation images that can be read, found none among {}", images.len()),
            hint: "the best epoch is chosen by them: check the files, or split off others",
        });
    }
    let accuracy = match (labeling, by) {
        (Labeling::One, ChooseBy::Accuracy) => correct / seen as f64,
        (Labeling::One, ChooseBy::BalancedAccuracy) => of_classes.balanced_accuracy(),
        (Labeling::Several, _) => metrics.report(0).mean_average_precision,
        (Labeling::Number, _) => errors.report(0).r_squared,
    };
    Ok(Score { loss: loss / seen as f64, accuracy }.in_range())
}

/// Writes the model as the bundle `best`, named after the run, in place of the previous one.
///
/// # Errors
/// If it cannot be written; the previous one then stays.
pub(crate) fn keep(
    trainer: &Trainer,
    preprocess: &Preprocess,
    labels: &[String],
    folder: &Path,
    device: &Device,
) -> Result<(), TrainError> {
    let parameters = kept(trainer, device)?;
    let declarations = trainer.vit().declarations();
    let classifies = trainer.vit().config().classes > 0;
    let run = folder.canonicalize().ok();
    let name = run.as_deref().unwrap_or(folder).file_name().map(|name| name.to_string_lossy().into_owned());
    let source = ExportSource {
        name: name.as_deref().unwrap_or("trained"),
        vit: trainer.vit(),
        preprocess: Some(preprocess.clone()),
        labels: Some(labels).filter(|_| classifies),
        license: None,
        storage: DType::F32,
        read: Box::new(|spec| Ok(parameters.read(declarations.find(&spec.name).expect("its own name"))?.into())),
    };
    let best = folder.join("best");
    let failed = || TrainError::file(&best, "keeping the best model");
    let beside = AtomicFolder::beside(&best).map_err(failed())?;
    export(&source, &beside.path().join("new"), Target::Bundle, &[]).map_err(vitral::Error::from)?;
    beside.replace_with("new").map_err(failed())
}
