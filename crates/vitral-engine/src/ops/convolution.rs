//! Convolution with channels last and weight standardization: the operations of a convolutional stem.

use crate::arena::ParameterId;
use crate::device::backend::{ConvolutionCall, ConvolutionExtents, ConvolutionGradients};
use crate::tape::Context;
use crate::tensor::Tensor;

/// How the border is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As many on every side.
    Explicit(usize),
    /// So that the output is ⌈input / stride⌉, the odd one at the end: TensorFlow's and JAX's SAME.
    Same,
}

impl Padding {
    /// Output extent and padding before, of one axis.
    pub(crate) fn axis(self, extent: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Padding::Explicit(pad) => {
                assert!(extent + 2 * pad >= kernel, "a kernel of {kernel} over {extent} padded by {pad}");
                ((extent + 2 * pad - kernel) / stride + 1, pad)
            }
            Padding::Same => {
                let output = extent.div_ceil(stride);
                (output, ((output - 1) * stride + kernel).saturating_sub(extent) / 2)
            }
        }
    }
}

/// A convolution.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// `[out, in, height, width]`.
    pub weight: ParameterId,
    /// `[out]`.
    pub bias: Option<ParameterId>,
    /// Step of the kernel, both ways.
    pub stride: usize,
    /// Border.
    pub padding: Padding,
    /// Epsilon of weight standardization (arXiv:1903.10520), where it is used: each output's weights get mean 0 and
    /// variance 1.
    pub standardize: Option<f32>,
}

impl Context<'_> {
    /// A convolution of `[batch, height, width, channels]`.
    ///
    /// # Panics
    /// If the number of channels is not that of the convolution.
    pub fn convolution(&self, x: &Tensor, convolution: &Convolution) -> Tensor {
        let spec = self.parameters.declarations().spec(convolution.weight);
        let [outputs, channels, kernel_height, kernel_width] = spec.shape[..] else {
            panic!("`{}` of shape {:?} is not a convolution", spec.name, spec.shape)
        };
        let [batch, height, width, found] = x.shape()[..] else {
            panic!("a convolution takes [batch, height, width, channels], not {:?}", x.shape())
        };
        assert_eq!(found, channels, "`{}` takes {channels} channels, not {:?}", spec.name, x.shape());
        let (rows, above) = convolution.padding.axis(height, kernel_height, convolution.stride);
        let (columns, left) = convolution.padding.axis(width, kernel_width, convolution.stride);
        let extents = ConvolutionExtents {
            batch,
            height,
            width,
            channels,
            outputs,
            kernel: [kernel_height, kernel_width],
            grid: [rows, columns],
            before: [above, left],
            stride: convolution.stride,
        };
        let Convolution { weight, bias, standardize, .. } = *convolution;
        let call =
            ConvolutionCall { weight: self.view(weight), bias: bias.map(|bias| self.view(bias)), standardize, extents };
        let output = self.backend().convolution(x, &call);
        let saved = x.clone();
        self.record(output, self.depends(x, std::iter::once(weight).chain(bias)), || {
            Box::new(move |grad, gradients| {
                let backend = gradients.backend();
                let call = ConvolutionCall { weight: gradients.view(weight), bias: None, standardize, extents };
                let (weight_range, bias_range) = (gradients.range(weight), bias.and_then(|bias| gradients.range(bias)));
                let input = gradients.wants(saved.node);
                let wanted = ConvolutionGradients { gradients: gradients.flat(), weight_range, bias_range, input };
                let gradient = backend.convolution_backward(&saved, grad, &call, wanted);
                gradients.add_made(saved.node, gradient);
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equals_pytorch() {
        for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (7, 1), (7, 2)] {
            for same in [false, true] {
                let name = format!("conv2d_{}{kernel}_stride_{stride}", if same { "same_" } else { "" });
                if same && matches!((kernel, stride), (1, 1) | (7, 1)) {
                    continue;
                }
                let golden = Golden::load(&name).channels_last();
                let padding = if same { Padding::Same } else { Padding::Explicit(golden.scalar("padding") as usize) };
                let mut check = Check::new();
                let weight = check.golden(&golden, "weight");
                let bias = (!same).then(|| check.golden(&golden, "bias"));
                let convolution = Convolution { weight, bias, stride, padding, standardize: None };
                check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.convolution(&x[0], &convolution));
            }
        }
    }

    /// One sum after the other, as the definition says.
    fn plain(x: &Tensor, weight: &[f32], [outputs, kernel]: [usize; 2], stride: usize, pad: usize) -> Vec<f64> {
        let [batch, height, width, channels] = x.shape()[..] else { panic!("{:?}", x.shape()) };
        let (rows, columns) = ((height + 2 * pad - kernel) / stride + 1, (width + 2 * pad - kernel) / stride + 1);
        let mut out = vec![0.0; batch * rows * columns * outputs];
        for (i, out) in out.iter_mut().enumerate() {
            let (o, left, top) = (i % outputs, i / outputs % columns * stride, i / outputs / columns % rows * stride);
            let image = i / outputs / columns / rows;
            for tap in 0..kernel * kernel {
                let (y, x_) = (top + tap / kernel, left + tap % kernel);
                if (pad..pad + height).contains(&y) && (pad..pad + width).contains(&x_) {
                    let pixel = ((image * height + y - pad) * width + x_ - pad) * channels;
                    for c in 0..channels {
                        let w = weight[(o * channels + c) * kernel * kernel + tap];
                        *out += f64::from(w) * f64::from(x.values()[pixel + c]);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn equals_its_definition_where_a_thread_takes_several_turns() {
        for (shape, outputs, kernel, stride, pad) in [
            ([1, 37, 29, 16], 5, 3, 1, 1),
            ([3, 23, 31, 17], 33, 3, 2, 1),
            ([2, 19, 7, 70], 3, 5, 1, 0),
            ([5, 4, 4, 3], 8, 3, 1, 1),
            ([2, 3, 70, 150], 2, 1, 2, 1),
        ] {
            for threads in [1, 3] {
                let mut check = Check::with_threads(threads);
                let weight = check.plain(&[outputs, shape[3], kernel, kernel]);
                let convolution =
                    Convolution { weight, bias: None, stride, padding: Padding::Explicit(pad), standardize: None };
                let x = check.input(&shape);
                let expected = plain(&x, &check.values(weight), [outputs, kernel], stride, pad);
                let found = check.run(std::slice::from_ref(&x), |cx, x| cx.convolution(&x[0], &convolution));
                assert_eq!(found.values().len(), expected.len());
                let deviation = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
                for (found, expected) in found.values().iter().zip(&expected) {
                    let off = (f64::from(*found) - expected).abs() / deviation;
                    assert!(off < 1e-5, "{shape:?} by {kernel}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn standardized_weights_equal_timm() {
        for (name, padding) in [
            ("std_conv2d", Padding::Explicit(1)),
            ("std_conv2d_1e_8", Padding::Explicit(1)),
            ("std_conv2d_1x1", Padding::Explicit(0)),
            ("std_conv2d_same", Padding::Same),
            ("std_conv2d_same_1e_8", Padding::Same),
            ("std_conv2d_same_1e_5", Padding::Same),
        ] {
            let golden = Golden::load(name).channels_last();
            let mut check = Check::new();
            let convolution = Convolution {
                weight: check.golden(&golden, "weight"),
                bias: None,
                stride: golden.scalar("stride") as usize,
                padding,
                standardize: Some(golden.scalar("epsilon")),
            };
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.convolution(&x[0], &convolution));
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for (kernel, stride, padding, standardize) in [
            (3, 2, Padding::Same, None),
            (2, 1, Padding::Explicit(1), Some(1e-3)),
            (1, 1, Padding::Explicit(0), Some(1e-3)),
        ] {
            let mut check = Check::new();
            let convolution = Convolution {
                weight: check.plain(&[3, 2, kernel, kernel]),
                bias: Some(check.vector(3)),
                stride,
                padding,
                standardize,
            };
            check.differences(&[check.input(&[2, 5, 4, 2])], |cx, x| cx.convolution(&x[0], &convolution));
        }
    }
}
