//! Element-wise operations, softmax and dropping.

use std::ops::Range;

use crate::activation::Activation;
use crate::device::storage::FlatBuffer;
use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

/// One number at a time, or one row.
pub(crate) trait Elements {
    /// `a + b`.
    fn add(&self, a: &Tensor, b: &Tensor) -> Tensor;
    /// `factor · a + shift`.
    fn scale(&self, a: &Tensor, factor: f32) -> Tensor;
    /// Planes `[…, channels, height, width]`, each by its channel's `(factor, shift)`.
    fn affine_channels(&self, x: &Tensor, lines: &[(f32, f32)]) -> Tensor;
    /// Every row times a parameter `[width]`.
    fn multiply_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor;
    /// Adds `Σ rows x ∘ grad` to the gradient of [`Elements::multiply_row`]'s parameter.
    fn multiply_row_backward(&self, x: &Tensor, grad: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>);
    /// Every row plus a parameter `[width]`.
    fn add_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor;
    /// Adds the rows of `x`, as many values each as the range holds, to a gradient.
    fn add_row_sums(&self, x: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>);
    /// The sum of the rows of `x`, each of so many values.
    fn sum_rows(&self, x: &Tensor, width: usize) -> Tensor;
    /// Zeroes runs of `group` values with a probability, and scales the others so that the mean is unchanged.
    fn drop(&self, x: &Tensor, draw: Draw, group: usize, rate: f32) -> Tensor;
    /// A non-linearity of every number.
    fn activation(&self, x: &Tensor, activation: Activation) -> Tensor;
    /// `grad · f′(x)`.
    fn activation_backward(&self, x: &Tensor, grad: &Tensor, activation: Activation) -> Tensor;
    /// `activation(gate) · x` of rows that hold the gate first and `x` second.
    fn gated(&self, pair: &Tensor, activation: Activation) -> Tensor;
    /// The gradient of both halves.
    fn gated_backward(&self, pair: &Tensor, grad: &Tensor, activation: Activation) -> Tensor;
    /// Softmax of every row.
    fn softmax(&self, x: &Tensor) -> Tensor;
    /// The gradient of softmax, from its output.
    fn softmax_backward(&self, y: &Tensor, grad: &Tensor) -> Tensor;
}

/// One random operation: its key, and the index of the tensor's first image in the whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) key: u64,
    pub(crate) first_image: usize,
}
