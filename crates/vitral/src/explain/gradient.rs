//! A recorded pass: named intermediates with their gradients.

use std::collections::BTreeMap;

use vitral_engine::{Context, Tensor};

use super::{ExplainError, Target};
use crate::error::Error;
use crate::load::Model;
use crate::model::{Input, Output};
use crate::numbers::largest;
use crate::trace::{Kept, Visitor};

/// What gradients are wanted of.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The pixels.
    Pixels,
    /// Intermediates of these names; see [`Vit::forward`](crate::model::Vit::forward).
    Named(&'a [String]),
}

/// A pass with gradients of what was explained.
pub struct GradientPass {
    /// What the model answered.
    pub output: Output,
    /// The gradient of the pixels, where it was wanted.
    pub pixels: Option<Tensor>,
    named: BTreeMap<String, (Tensor, Option<Tensor>)>,
}

impl GradientPass {
    /// An intermediate and its gradient; nothing where it was not wanted, or the answer does not depend on it.
    pub fn named(&self, name: &str) -> Option<(&Tensor, &Tensor)> {
        let (value, gradient) = self.named.get(name)?;
        Some((value, gradient.as_ref()?))
    }
}

impl Model {
    /// Runs the model on `pixels` `[batch, channels, height, width]` and gives the gradients of what `target` names: of a
    /// class's logit, or of the pooled feature along a direction. Every image has the same target. Weights get no
    /// gradients, and frozen ones are packed once more for the way back.
    ///
    /// # Errors
    /// If the model does not take such an input, or has no such answer.
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
    /// The tensor that holds the answer, `[batch, classes]` or `[batch, width]`.
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

    /// What is explained of the answer, as its gradient.
    fn upstream(&self, answer: &Tensor) -> Vec<f32> {
        let [images, width] = answer.shape()[..] else { unreachable!("checked with the answer") };
        let row = match self {
            Target::Class(class) => (0..width).map(|i| f32::from(u8::from(i == *class))).collect(),
            Target::Feature(direction) => direction.clone(),
        };
        row.repeat(images)
    }

    /// What is explained, as a number for every image: the class's logit, or the feature along the direction. Its
    /// gradient is what [`Model::gradients`] gives.
    ///
    /// # Errors
    /// If the model has no such answer.
    pub fn values(&self, model: &Model, output: &Output) -> Result<Vec<f64>, Error> {
        let answer = self.of(model, output)?;
        let value = |row: &[f32]| match self {
            Target::Class(class) => f64::from(row[*class]),
            Target::Feature(direction) => row.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(),
        };
        Ok(answer.to_vec()?.chunks_exact(answer.shape().last()).map(value).collect())
    }

    /// How much of the answer is there, as a number from 0 to 1 (−1 to 1 for features) for every image: the class's
    /// probability, or the cosine between the feature and the direction.
    ///
    /// # Errors
    /// If the model has no such answer.
    pub fn scores(&self, model: &Model, output: &Output) -> Result<Vec<f64>, Error> {
        let answer = self.of(model, output)?;
        let score = |row: &[f32]| match self {
            Target::Class(class) => {
                let greatest = largest(row.iter().copied());
                let total: f64 = row.iter().map(|x| f64::from(x - greatest).exp()).sum();
                f64::from(row[*class] - greatest).exp() / total
            }
            Target::Feature(direction) => {
                let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let along: f64 = row.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                along / length.max(f64::MIN_POSITIVE)
            }
        };
        Ok(answer.to_vec()?.chunks_exact(answer.shape().last()).map(score).collect())
    }
}
