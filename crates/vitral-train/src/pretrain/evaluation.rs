//! How well hidden patches of held-out images are predicted.

use vitral::Device;
use vitral_engine::{Context, DType, ParameterSpec, Parameters, Tensor};

use super::hiding::Hiding;
use crate::epoch::Score;
use crate::error::TrainError;
use crate::evaluate::each_in_order;
use crate::step::{Batch, Hidden, Learner, Trainer};

/// The parameters that are evaluated, with those that are left behind afterwards: the exponential average if the run has one.
pub(super) fn kept(trainer: &Trainer, device: &Device) -> Result<Parameters, TrainError> {
    let declarations = trainer.parameters().declarations().clone();
    let flat = trainer.ema().unwrap_or(trainer.parameters().flat()).to_vec()?;
    let named = declarations.clone();
    let read = |spec: &ParameterSpec| {
        let id = named.find(&spec.name).expect("its own name");
        Ok::<_, TrainError>(flat[trainer.parameters().range(id)].to_vec().into())
    };
    Parameters::prepared(declarations, device.clone(), DType::F32, read)
}

/// What a model predicts of the hidden patches of a batch: pixels of all patches, or logits of the corrupted ones.
pub(super) fn predicted(learner: &Learner, cx: &Context<'_>, batch: &Batch) -> Result<Tensor, TrainError> {
    let predicted = match (learner, &batch.hidden) {
        (Learner::Autoencoder(autoencoder), Some(Hidden::AllBut(visible))) => {
            autoencoder.predict(cx, &batch.pixels, visible)
        }
        (Learner::MaskedPatches(model), Some(Hidden::Embeddings(corrupted))) => {
            model.predict(cx, &batch.pixels, corrupted)
        }
        _ => unreachable!("a batch of images, with what its model predicts"),
    };
    Ok(predicted.map_err(vitral::Error::from)?)
}

/// The mean loss on held-out images, of which the same patches are hidden each time, and how good that is: R² of the pixels, or the
/// fraction of colors that are predicted. `None` if there is no image that can be read.
///
/// # Errors
/// If the device fails, on any rank.
pub(super) fn score(trainer: &Trainer, choosing: &Hiding, device: &Device) -> Result<Option<Score>, TrainError> {
    let parameters = kept(trainer, device)?;
    let learner = trainer.learner();
    let answer = |batch: &Batch| -> Result<Vec<f32>, TrainError> {
        let batch = choosing.hide(batch.clone(), 0, 0)?;
        match (learner, &batch.hidden) {
            (Learner::Autoencoder(autoencoder), Some(Hidden::AllBut(visible))) => {
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
            }
            (Learner::MaskedPatches(model), Some(Hidden::Embeddings(corrupted))) => {
                let colors: Vec<f32> = corrupted.colors().map(|color| color as f32).collect();
                let values = device.scope(|| {
                    let cx = Context::inference(&parameters);
                    let logits = predicted(learner, &cx, &batch)?;
                    let correct = cx.count_correct(&logits, &device.constant([colors.len()], &colors));
                    let loss = model.loss_of(&cx, &logits, corrupted);
                    Ok::<_, TrainError>(device.concatenate(&[loss, correct]))
                })?;
                let values = values.to_vec()?;
                Ok(vec![values[0], values[1], colors.len() as f32])
            }
            _ => unreachable!("a batch of images, with what its model predicts"),
        }
    };
    let (mut loss, mut images, mut sums) = (0.0, 0usize, [0.0f64; 3]);
    each_in_order(&choosing.loader, answer, |answers| {
        let of = answers.labels.len();
        loss += f64::from(answers.values[0]) * of as f64;
        images += of;
        sums.iter_mut().zip(&answers.values[1..]).for_each(|(sum, &value)| *sum += f64::from(value));
        Ok(())
    })?;
    if images == 0 {
        return Ok(None);
    }
    let loss = loss / images as f64;
    let accuracy = match learner {
        Learner::MaskedPatches(_) => sums[0] / f64::max(sums[1], 1.0),
        _ => {
            let [sum, squares, count] = sums;
            let variance = squares / f64::max(count, 1.0) - (sum / f64::max(count, 1.0)).powi(2);
            1.0 - loss / variance.max(f64::MIN_POSITIVE)
        }
    };
    Ok(Some(Score { loss, accuracy }.in_range()))
}
