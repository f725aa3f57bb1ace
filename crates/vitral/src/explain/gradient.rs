//! A recorded forward pass: named intermediates with their gradients.

use std::collections::BTreeMap;

use vitral_engine::{Context, Tensor};

use super::{ExplainError, Target};
use crate::error::Error;
use crate::labels::probability;
use crate::load::Model;
use crate::model::{Input, Output};
use crate::trace::{Kept, Visitor};

/// What to compute gradients of.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The pixels.
    Pixels,
    /// Intermediates of these names; see [`Vit::forward`](crate::model::Vit::forward).
    Named(&'a [String]),
}

/// A pass with the gradients of the target.
#[derive(Debug)]
pub struct GradientPass {
    /// The model's output.
    pub output: Output,
    /// The gradient with respect to the pixels, if requested.
    pub pixels: Option<Tensor>,
    named: BTreeMap<String, (Tensor, Option<Tensor>)>,
}

impl GradientPass {
    /// An intermediate and its gradient; `None` if it was not requested, or if the target does not depend on it.
    pub fn named(&self, name: &str) -> Option<(&Tensor, &Tensor)> {
        let (value, gradient) = self.named.get(name)?;
        Some((value, gradient.as_ref()?))
    }
}

impl Model {
    /// Runs the model on `pixels` `[batch, channels, height, width]` and returns the gradients of the `target`: a
    /// class's logit, or the pooled features along a direction. All images have the same target. Weights get no
    /// gradients, and frozen ones are packed once more for the backward pass.
    ///
    /// # Errors
    /// If the model does not accept this input, or has no such output.
    pub fn gradients(&self, pixels: &Tensor, target: &Target, wanted: Wanted<'_>) -> Result<GradientPass, Error> {
        let kept = Kept::default();
        let visitor = Visitor {
            wanted: |name: &str| matches!(wanted, Wanted::Named(names) if names.iter().any(|wanted| wanted == name)),
            each: |name: &str, tensor: &Tensor| kept.keep(name, tensor),
        };
        let device = self.parameters.device();
        let (output, pixels, gradients) = device.scope(|| -> Result<_, Error> {
            let context = Context::recording(&self.parameters).observed_by(&visitor);
            let pixels = if matches!(wanted, Wanted::Pixels) { context.watch(pixels) } else { pixels.clone() };
            let output = self.vit.forward(&context, Input { pixels: &pixels, mask: None })?;
            let explained = target.of(self, &output)?.clone();
            let upstream = device.upload(explained.shape(), &target.upstream(&explained))?;
            let gradients = context.backward_from(&explained, upstream, None);
            Ok((output, pixels, gradients))
        })?;
        let with_gradient = |(name, value): (String, Tensor)| {
            let gradient = gradients.of(&value).cloned();
            (name, (value, gradient))
        };
        let named = kept.into_inner().into_iter().map(with_gradient).collect();
        Ok(GradientPass { output, pixels: gradients.of(&pixels).cloned(), named })
    }
}

impl Target {
    /// The tensor that holds the target, `[batch, classes]` or `[batch, width]`.
    fn of<'a>(&self, model: &Model, output: &'a Output) -> Result<&'a Tensor, Error> {
        let answer = match self {
            Target::Class(_) => output.logits.as_ref().ok_or_else(|| Error::NoHead { name: model.name.clone() })?,
            Target::Feature(_) => &output.features,
        };
        match answer.shape()[..] {
            [_, width] if self.fits(width) => Ok(answer),
            _ => Err(ExplainError::PerToken { model: model.name.clone() }.into()),
        }
    }

    fn fits(&self, width: usize) -> bool {
        match self {
            Target::Class(class) => *class < width,
            Target::Feature(direction) => direction.len() == width,
        }
    }

    /// The gradient of the target with respect to that tensor.
    fn upstream(&self, answer: &Tensor) -> Vec<f32> {
        let [images, width] = answer.shape()[..] else { unreachable!("checked with the answer") };
        let row = match self {
            Target::Class(class) => (0..width).map(|i| f32::from(u8::from(i == *class))).collect(),
            Target::Feature(direction) => direction.clone(),
        };
        row.repeat(images)
    }

    /// The target's value for every image: the class's logit, or the features along the direction. [`Model::gradients`]
    /// computes its gradient.
    ///
    /// # Errors
    /// If the model has no such output.
    pub fn values(&self, model: &Model, output: &Output) -> Result<Vec<f64>, Error> {
        let answer = self.of(model, output)?;
        let value = |row: &[f32]| match self {
            Target::Class(class) => f64::from(row[*class]),
            Target::Feature(direction) => row.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(),
        };
        Ok(answer.to_vec()?.chunks_exact(answer.shape().last()).map(value).collect())
    }

    /// The target's score for every image: the class's probability (in a regression, the number itself), or the cosine
    /// between the features and the direction.
    ///
    /// # Errors
    /// If the model has no such output.
    pub fn scores(&self, model: &Model, output: &Output) -> Result<Vec<f64>, Error> {
        let answer = self.of(model, output)?;
        let score = |row: &[f32]| match self {
            Target::Class(class) => probability(row, model.vit.config().problem)(row[*class]),
            Target::Feature(direction) => {
                let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let along: f64 = row.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                along / length.max(f64::MIN_POSITIVE)
            }
        };
        Ok(answer.to_vec()?.chunks_exact(answer.shape().last()).map(score).collect())
    }
}
