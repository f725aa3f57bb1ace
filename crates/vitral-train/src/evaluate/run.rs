//! Runs a model over a data set.

use std::fmt;

use serde::{Deserialize, Serialize};
use vitral::Tensor;
use vitral_engine::Device;

use super::{
    Errors, Features, Metrics, NumbersReport, Report, SeveralMetrics, SeveralReport, UnknownClass, each_in_order,
};
use crate::data::{Loader, Relabeled};
use crate::error::TrainError;
use crate::labeling::Labeling;
use crate::step::Batch;

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Evaluation {
    /// Images with one label each.
    One(Box<Report>),
    /// Images with several labels each.
    Several(Box<SeveralReport>),
    /// Images labeled with numbers.
    Numbers(NumbersReport),
}

impl Evaluation {
    /// The main measure, between 0 and 1: the fraction of the images that are classified correctly, or the mean average
    /// precision where images have several labels, or R² where labels are numbers, which is below 0 for a bad model.
    pub fn measure(&self) -> f64 {
        match self {
            Evaluation::One(report) => report.top1,
            Evaluation::Several(report) => report.mean_average_precision,
            Evaluation::Numbers(report) => report.r_squared,
        }
    }

    /// Images that could not be read.
    pub fn skipped(&self) -> usize {
        match self {
            Evaluation::One(report) => report.skipped,
            Evaluation::Several(report) => report.skipped,
            Evaluation::Numbers(report) => report.skipped,
        }
    }

    /// Notes how the data's classes were matched to the model's, and which the model does not know.
    pub fn note_matching(&mut self, data: &Relabeled) {
        let unknown = data
            .unknown()
            .iter()
            .filter(|(_, images)| *images > 0)
            .map(|(name, images)| UnknownClass { name: name.clone(), images: *images });
        let (matched, left_out) = match self {
            Evaluation::One(report) => (&mut report.matched, &mut report.unknown),
            Evaluation::Several(report) => (&mut report.matched, &mut report.unknown),
            Evaluation::Numbers(_) => return,
        };
        *matched = Some(data.how());
        *left_out = unknown.collect();
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evaluation::One(report) => report.fmt(f),
            Evaluation::Several(report) => report.fmt(f),
            Evaluation::Numbers(report) => report.fmt(f),
        }
    }
}

/// Predictions accumulated so far.
enum Accumulated {
    One(Box<Metrics>),
    Several(SeveralMetrics),
    Numbers(Errors),
}

/// Classifies every image of a loader, in data set order; `forward` gives logits `[batch, classes]` for pixels. The
/// loader's ranks share the work, and all get the whole.
///
/// # Errors
/// The first error of the loader or `forward`, or if the model's classes differ in number from the data's, or if the
/// model gives logits for each token.
pub fn evaluate(
    loader: &Loader,
    mut forward: impl FnMut(&Tensor) -> Result<Tensor, TrainError>,
) -> Result<Evaluation, TrainError> {
    let dataset = loader.dataset();
    let mut metrics = match dataset.labeling() {
        Labeling::One => Accumulated::One(Box::new(Metrics::new(dataset.classes()))),
        Labeling::Several => Accumulated::Several(SeveralMetrics::new(dataset.classes())),
        Labeling::Number => Accumulated::Numbers(Errors::default()),
    };
    let classes = dataset.classes().len();
    let answer = |batch: &Batch| {
        let logits = forward(&batch.pixels)?;
        one_row_each(&logits, batch.labels.len(), "logits", loader)?;
        let found = logits.shape().last();
        if found != classes {
            return Err(TrainError::Data {
                path: dataset.name(0).into(),
                fault: format!("expected a model with {classes} classes, as in the data, found one with {found}"),
                hint: "evaluate it on data with its own classes, or give it a head for these",
            });
        }
        Ok(logits.to_vec()?)
    };
    each_in_order(loader, answer, |answers| {
        match &mut metrics {
            Accumulated::One(metrics) => {
                let rows = answers.values.chunks_exact(classes);
                rows.zip(&answers.labels).for_each(|(row, &label)| metrics.add(row, label));
            }
            Accumulated::Several(metrics) => metrics.add_batch(&answers.values, &answers.targets),
            Accumulated::Numbers(errors) => errors.add(&answers.values, &answers.targets),
        }
        Ok(())
    })?;
    let skipped: Vec<usize> = loader.skipped().into_iter().map(|skipped| skipped.index).collect();
    let seen: Vec<usize> = (0..dataset.len()).filter(|index| skipped.binary_search(index).is_err()).collect();
    Ok(match metrics {
        Accumulated::One(metrics) => {
            Evaluation::One(Box::new(metrics.report(skipped.len(), |nth| (seen[nth], dataset.name(seen[nth])))))
        }
        Accumulated::Several(metrics) => Evaluation::Several(Box::new(metrics.report(skipped.len()))),
        Accumulated::Numbers(errors) => Evaluation::Numbers(errors.report(skipped.len())),
    })
}

/// Features of every image of a loader; `forward` gives `[batch, width]` for pixels. The loader's ranks share the work,
/// and all get the whole.
///
/// # Errors
/// The first error of the loader or `forward`.
pub fn features(
    loader: &Loader,
    mut forward: impl FnMut(&Tensor) -> Result<Tensor, TrainError>,
) -> Result<Features, TrainError> {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let answer = |batch: &Batch| {
        let found = forward(&batch.pixels)?;
        one_row_each(&found, batch.labels.len(), "features", loader)?;
        Ok(found.to_vec()?)
    };
    each_in_order(loader, answer, |answers| {
        values.extend(&answers.values);
        labels.extend(&answers.labels);
        Ok(())
    })?;
    let width = values.len() / labels.len().max(1);
    Ok(Features::new(values, width, labels, loader.dataset().classes().len()))
}

/// As [`features`], of the images only that are this rank's.
pub(super) fn own_features(
    loader: &Loader,
    mut forward: impl FnMut(&Tensor) -> Result<Tensor, TrainError>,
) -> Result<Features, TrainError> {
    let (mut values, mut labels, mut width) = (Vec::new(), Vec::new(), 0);
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let found = forward(&batch.pixels)?;
        one_row_each(&found, batch.labels.len(), "features", loader)?;
        width = found.shape().last();
        values.extend(found.to_vec()?);
        labels.extend(batch.labels);
    }
    Ok(Features::new(values, width, labels, loader.dataset().classes().len()))
}

/// Checks that an output has one row per image.
fn one_row_each(answer: &Tensor, images: usize, what: &str, loader: &Loader) -> Result<(), TrainError> {
    match answer.shape()[..] {
        [rows, _] if rows == images => Ok(()),
        _ => Err(TrainError::Data {
            path: loader.dataset().name(0).into(),
            fault: format!(
                "expected {what} of shape [{images}, …], one row for each image, found {:?}",
                answer.shape()
            ),
            hint: "use a model that pools its tokens",
        }),
    }
}

/// Pixels `[batch, channels, height, width]` mirrored left to right, for averaging predictions over both views.
pub fn mirrored(device: &Device, pixels: &Tensor) -> Tensor {
    let columns: Vec<usize> = (0..pixels.shape().last()).rev().collect();
    device.select_columns(pixels, &columns)
}
