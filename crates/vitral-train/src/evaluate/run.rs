//! Runs a model over a data set.

use vitral::Tensor;
use vitral_engine::Device;

use super::{Features, Metrics, Report};
use crate::data::Loader;
use crate::error::TrainError;

/// Classifies every image of a loader, in data set order; `forward` gives logits `[batch, classes]` for pixels.
///
/// # Errors
/// The first error of the loader or `forward`, or if the model's classes differ in number from the data's, or if the
/// model gives logits for each token.
pub fn evaluate(
    loader: &Loader,
    mut forward: impl FnMut(&Tensor) -> Result<Tensor, TrainError>,
) -> Result<Report, TrainError> {
    let dataset = loader.dataset();
    let mut metrics = Metrics::new(dataset.classes());
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let logits = forward(&batch.pixels)?;
        one_row_each(&logits, batch.labels.len(), "logits", loader)?;
        let (found, expected) = (logits.shape().last(), dataset.classes().len());
        if found != expected {
            return Err(TrainError::Data {
                path: dataset.name(0).into(),
                fault: format!("expected a model with {expected} classes, as in the data, found one with {found}"),
                hint: "evaluate it on data with its own classes, or give it a head for these",
            });
        }
        for (row, &label) in logits.to_vec()?.chunks_exact(found).zip(&batch.labels) {
            metrics.add(row, label);
        }
    }
    let skipped: Vec<usize> = loader.skipped().into_iter().map(|skipped| skipped.index).collect();
    let seen: Vec<usize> = (0..dataset.len()).filter(|index| skipped.binary_search(index).is_err()).collect();
    Ok(metrics.report(skipped.len(), |nth| (seen[nth], dataset.name(seen[nth]))))
}

/// Features of every image of a loader; `forward` gives `[batch, width]` for pixels.
///
/// # Errors
/// The first error of the loader or `forward`.
pub fn features(
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
