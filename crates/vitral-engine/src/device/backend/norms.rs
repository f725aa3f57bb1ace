//! Norms.

use super::elements::Elements;
use crate::device::storage::FlatBuffer;
use crate::device::storage::GradientRange;
use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

/// Norms.
pub(crate) trait Norms: Elements {
    /// Layer norm or RMS norm of segments of rows; columns outside all segments pass through.
    fn norm(&self, x: &Tensor, norms: &[(NormCall<'_>, Segments)]) -> Tensor;
    /// Gradients of the same; `ranges` are those of each norm's weight and bias.
    fn norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
    ) -> Tensor;
    /// As [`Norms::norm_backward`], added to what is there of the gradient of `x` already.
    fn norm_backward_onto(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
        onto: &Tensor,
    ) -> Tensor {
        self.add(onto, &self.norm_backward(x, grad, norms, gradients, ranges))
    }
    /// Batch norm with its running statistics, over the innermost extent.
    fn batch_norm(&self, x: &Tensor, norm: &ChannelNormCall<'_>) -> Tensor;
    /// Gradients of the same: adds those of weight and bias, gives that of `x`.
    fn batch_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &ChannelNormCall<'_>,
        gradients: Option<&mut FlatBuffer>,
        ranges: [GradientRange; 2],
    ) -> Tensor;
    /// Group norm of `[batch, …, channels]`.
    fn group_norm(&self, x: &Tensor, norm: &GroupNormCall<'_>) -> Tensor;
    /// Gradients of the same.
    fn group_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &GroupNormCall<'_>,
        gradients: Option<&mut FlatBuffer>,
        ranges: [GradientRange; 2],
    ) -> Tensor;
}

/// A norm over the innermost extent.
#[derive(Clone, Copy)]
pub(crate) struct NormCall<'a> {
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: Option<ParameterView<'a>>,
    pub(crate) epsilon: f32,
    /// Root mean square only; no mean is taken away.
    pub(crate) rms: bool,
}

/// Segments of `width` values: `first, first + 1, … first + count − 1` of every group of `per_group`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    pub(crate) width: usize,
    pub(crate) per_group: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Segments {
    /// Whole rows.
    pub(crate) fn whole(width: usize) -> Self {
        Segments { width, per_group: 1, first: 0, count: 1 }
    }

    /// Whether a segment is one of them.
    pub(crate) fn holds(&self, segment: usize) -> bool {
        (self.first..self.first + self.count).contains(&(segment % self.per_group))
    }
}

/// A norm of channels whose statistics are given.
pub(crate) struct ChannelNormCall<'a> {
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: ParameterView<'a>,
    pub(crate) mean: ParameterView<'a>,
    pub(crate) variance: ParameterView<'a>,
    pub(crate) epsilon: f32,
}

/// A group norm.
pub(crate) struct GroupNormCall<'a> {
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: ParameterView<'a>,
    pub(crate) groups: usize,
    pub(crate) epsilon: f32,
}
