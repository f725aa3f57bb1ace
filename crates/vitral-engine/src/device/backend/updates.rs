//! Gradients, moments and updates of parameters.

use std::ops::Range;

use crate::device::storage::FlatBuffer;
use crate::tensor::Tensor;

/// What happens to the flat buffers of training.
pub(crate) trait Updates {
    /// Zeroes a buffer.
    fn clear(&self, buffer: &mut FlatBuffer);
    /// Adds one buffer to another.
    fn accumulate(&self, sums: &mut FlatBuffer, numbers: &FlatBuffer);
    /// Every number times a factor.
    fn scale_buffer(&self, buffer: &mut FlatBuffer, factor: f32);
    /// The Euclidean norm of all gradients, summed in a fixed order, as a tensor of one number; clips them on the way.
    fn clip(&self, gradients: &mut FlatBuffer, clip: Option<&ClipCall>, parameters: &FlatBuffer) -> Tensor;
    /// 1 if all values of all tensors are finite, else 0.
    fn all_finite(&self, values: &[&Tensor]) -> Tensor;
    /// One optimizer step, unless the gate holds 0.
    fn update(&self, call: &UpdateCall<'_>, buffers: UpdateBuffers<'_>, gate: &Tensor);
    /// `average += (1 − decay) · (parameters − average)`, unless the gate holds 0.
    fn ema_update(&self, average: &mut FlatBuffer, parameters: &FlatBuffer, decay: f32, gate: &Tensor);
}

/// How gradients are clipped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClipCall {
    /// All together to at most this norm.
    Norm(f32),
    /// Every number within ± this.
    Value(f32),
    /// Each unit, a run of values, to at most this fraction of the parameters\' own norm.
    Adaptive {
        share: f32,
        /// Ranges of the flat buffer, each with the length of its units.
        units: Vec<(Range<usize>, usize)>,
    },
}

/// An optimizer step.
pub(crate) struct UpdateCall<'a> {
    pub(crate) rule: UpdateRule,
    pub(crate) groups: &'a [UpdateGroup],
    pub(crate) learning_rate: f32,
    /// The step's number, from 1.
    pub(crate) step: u64,
}

/// The buffers of an optimizer step.
pub(crate) struct UpdateBuffers<'a> {
    pub(crate) parameters: &'a mut FlatBuffer,
    pub(crate) gradients: &'a FlatBuffer,
    /// First moment, or velocity.
    pub(crate) first: &'a mut FlatBuffer,
    /// Second moment; empty where none is kept.
    pub(crate) second: &'a mut FlatBuffer,
    /// The parameter that the moments begin with.
    pub(crate) moments_from: usize,
}

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum UpdateRule {
    /// AdamW (arXiv:1711.05101), as PyTorch computes it: decay first, bias-corrected moments.
    Adamw {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// Stochastic gradient descent with momentum, as PyTorch computes it: decay is added to the gradient.
    Sgd {
        /// Of the velocity.
        momentum: f32,
        /// Looks one step ahead (Nesterov).
        nesterov: bool,
    },
    /// Lion (arXiv:2302.06675): the sign of an interpolated momentum.
    Lion {
        /// Interpolation for the update.
        beta1: f32,
        /// Decay of the momentum.
        beta2: f32,
    },
    /// LAMB (arXiv:1904.00962), as timm computes it: Adam's step of each decayed tensor, scaled to the tensor's own
    /// norm.
    Lamb {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// Muon (arXiv:2502.16982): the momentum of a matrix, orthogonalized.
    Muon {
        /// Decay of the momentum.
        momentum: f32,
        /// Looks one step ahead (Nesterov).
        nesterov: bool,
        /// Whether steps are as large as AdamW's (`0.2 · √max(out, in)`), or Muon's own (`√max(1, out / in)`).
        match_adamw: bool,
    },
}

impl UpdateRule {
    /// Whether it remembers a second moment.
    pub fn keeps_second(self) -> bool {
        matches!(self, UpdateRule::Adamw { .. } | UpdateRule::Lamb { .. } | UpdateRule::Muon { .. })
    }
}

/// A run of the flat buffer that is stepped alike.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateGroup {
    /// Where in the flat buffer.
    pub range: Range<usize>,
    /// Weight decay.
    pub weight_decay: f32,
    /// Factor on the learning rate.
    pub learning_rate_scale: f32,
    /// What steps it, where that is not the rule of all.
    pub rule: Option<UpdateRule>,
    /// `[out, in]` where the group is one matrix, which Muon steps as a whole.
    pub matrix: Option<[usize; 2]>,
}
