//! Linear maps and convolutions.

use super::norms::NormCall;
use crate::activation::Activation;
use crate::device::storage::FlatBuffer;
use crate::device::storage::GradientRange;
use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

/// Linear maps and convolutions.
pub(crate) trait Products {
    /// `residual + scale · activation(norm(x) Wᵀ + b)`, `[…, in]` to `[…, out]`.
    fn linear(&self, x: &Tensor, call: &LinearCall<'_>) -> Tensor;
    /// Gradients of `x Wᵀ + b`: adds those of the weight and the bias, gives that of `x` if it is wanted.
    fn linear_backward(&self, x: &Tensor, grad: &Tensor, call: LinearBackward<'_>) -> Option<Tensor>;
    /// A convolution of `[batch, height, width, channels]`.
    fn convolution(&self, x: &Tensor, call: &ConvolutionCall<'_>) -> Tensor;
    /// Gradients of a convolution.
    fn convolution_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        call: &ConvolutionCall<'_>,
        wanted: ConvolutionGradients<'_>,
    ) -> Option<Tensor>;
}

/// A linear map with the operations fused into it.
pub(crate) struct LinearCall<'a> {
    /// `[out, in]`.
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: Option<ParameterView<'a>>,
    pub(crate) norm: Option<NormCall<'a>>,
    pub(crate) activation: Option<Activation>,
    pub(crate) scale: Option<ParameterView<'a>>,
    pub(crate) residual: Option<&'a Tensor>,
    /// Of packed queries, keys and values: how many tokens of every sample have queries that are used. The other
    /// queries may be anything finite.
    pub(crate) queries: Option<usize>,
}

/// What is wanted of a linear map's gradients.
pub(crate) struct LinearBackward<'a> {
    pub(crate) weight: ParameterView<'a>,
    /// As in [`LinearCall`]: the other queries have no gradient.
    pub(crate) queries: Option<usize>,
    pub(crate) gradients: Option<&'a mut FlatBuffer>,
    pub(crate) weight_range: GradientRange,
    pub(crate) bias_range: GradientRange,
    pub(crate) input: bool,
}

/// A convolution's operands and extents.
pub(crate) struct ConvolutionCall<'a> {
    /// `[out, in, height, width]`.
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: Option<ParameterView<'a>>,
    /// Epsilon of weight standardization, where it is used.
    pub(crate) standardize: Option<f32>,
    pub(crate) extents: ConvolutionExtents,
}

/// What is wanted of a convolution's gradients.
pub(crate) struct ConvolutionGradients<'a> {
    pub(crate) gradients: Option<&'a mut FlatBuffer>,
    pub(crate) weight_range: GradientRange,
    pub(crate) bias_range: GradientRange,
    pub(crate) input: bool,
}

/// Extents of one convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvolutionExtents {
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) outputs: usize,
    /// Height and width of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Height and width of the output.
    pub(crate) grid: [usize; 2],
    /// Padding above and to the left.
    pub(crate) before: [usize; 2],
    pub(crate) stride: usize,
}

impl ConvolutionExtents {
    /// Numbers under a kernel.
    pub(crate) fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// Places of the output, of all images.
    pub(crate) fn rows(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// Values of one image of the input.
    pub(crate) fn sample(&self) -> usize {
        self.height * self.width * self.channels
    }
}
