//! From gradients to better parameters: clipping, optimizer steps, the average.

use std::ops::Range;

use crate::arena::Parameters;
use crate::device::Device;
use crate::device::backend::{ClipCall, UpdateBuffers, UpdateCall, UpdateGroup, UpdateRule};
use crate::device::storage::FlatBuffer;
use crate::gradients::GradientSum;
use crate::tensor::Tensor;

/// How gradients are kept from exploding.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Clip {
    /// All gradients together get at most this Euclidean norm (PyTorch's `clip_grad_norm_`).
    Norm(f32),
    /// Every number is kept within ± this.
    Value(f32),
    /// The gradient of each output of a map, or of each vector, gets at most this fraction of the parameters\' own norm
    /// (adaptive gradient clipping, arXiv:2102.06171, as timm computes it).
    Adaptive(f32),
}

impl GradientSum {
    /// Clips the joined sum. Gives its Euclidean norm before that, as a tensor of one number.
    pub fn clip(&mut self, clip: Option<Clip>, parameters: &Parameters) -> Tensor {
        let call = clip.map(|clip| match clip {
            Clip::Norm(limit) => ClipCall::Norm(limit),
            Clip::Value(limit) => ClipCall::Value(limit),
            Clip::Adaptive(share) => ClipCall::Adaptive { share, units: units(parameters) },
        });
        parameters.device().backend().clip(self.sum_mut(), call.as_ref(), parameters.flat())
    }
}

/// The runs of the flat buffer that adaptive clipping looks at, each with the length of its units.
fn units(parameters: &Parameters) -> Vec<(Range<usize>, usize)> {
    let flat = parameters.declarations().ids().filter(|&id| parameters.is_flat(id));
    flat.map(|id| {
        let spec = parameters.declarations().spec(id);
        // Positions and tokens are vectors to timm, however they are laid out, and entries of a table are not.
        let mapped = spec.name.ends_with(".weight") || spec.name.ends_with("relative_positions");
        let rows = mapped && spec.shape.len() > 1;
        let unit = if rows { spec.count() / spec.shape[0].max(1) } else { spec.count() };
        (parameters.range(id), unit)
    })
    .collect()
}

/// What an optimizer remembers between steps, laid out like the parameters, or like a share of them.
#[derive(Debug)]
pub struct Moments {
    /// First moment, or velocity.
    pub first: FlatBuffer,
    /// Second moment; empty where none is kept.
    pub second: FlatBuffer,
    /// Where in the parameters they begin.
    start: usize,
}

impl Moments {
    /// Zeros, as a rule needs them.
    pub fn zeros(parameters: &Parameters, rule: UpdateRule) -> Self {
        Moments::of_share(parameters, rule, 0..parameters.flat().len())
    }

    /// Zeros for some of the parameters, where others keep the moments of the rest.
    pub fn of_share(parameters: &Parameters, rule: UpdateRule, share: Range<usize>) -> Self {
        let (device, count) = (parameters.device(), share.len());
        let second = device.flat_zeros(if rule.keeps_second() { count } else { 0 });
        Moments { first: device.flat_zeros(count), second, start: share.start }
    }

    /// The parameters that they belong to, as a range of the flat buffer.
    pub fn share(&self) -> Range<usize> {
        self.start..self.start + self.first.len()
    }
}

/// One optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// How parameters follow their gradients.
    pub rule: UpdateRule,
    /// Which are stepped, and how they differ.
    pub groups: &'a [UpdateGroup],
    /// The learning rate.
    pub learning_rate: f32,
    /// The step's number, from 1.
    pub step: u64,
}

impl Update<'_> {
    /// Updates parameters along their gradients; elements outside all groups are unchanged. Nothing changes if the gate
    /// holds 0.
    ///
    /// # Panics
    /// If gradients are not laid out like the parameters, or a group has no moments.
    pub fn apply(&self, parameters: &mut Parameters, gradients: &GradientSum, moments: &mut Moments, gate: &Tensor) {
        let device = parameters.device().clone();
        let call =
            UpdateCall { rule: self.rule, groups: self.groups, learning_rate: self.learning_rate, step: self.step };
        let buffers = UpdateBuffers {
            parameters: parameters.flat_mut(),
            gradients: gradients.sum(),
            first: &mut moments.first,
            second: &mut moments.second,
            moments_from: moments.start,
        };
        device.backend().update(&call, buffers, gate);
    }
}

impl Device {
    /// 1 if all values of all tensors are finite, else 0: the gate of an update.
    pub fn all_finite(&self, tensors: &[&Tensor]) -> Tensor {
        self.backend().all_finite(tensors)
    }

    /// Moves an exponential average towards the parameters: `average += (1 − decay) · (parameters − average)`, unless
    /// the gate holds 0.
    pub fn ema_update(&self, average: &mut FlatBuffer, parameters: &Parameters, decay: f32, gate: &Tensor) {
        self.backend().ema_update(average, parameters.flat(), decay, gate);
    }
}
