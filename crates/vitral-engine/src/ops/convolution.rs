//! Convolution with channels last and weight standardisation: what a stem is made of.

use crate::arena::ParameterId;
use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::{Gemm, Lhs, Rhs, SharedMut, pack_rhs_parallel};
use crate::ops::linear::multiply;
use crate::tape::{Context, Gradients};
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
    /// Epsilon of weight standardisation (arXiv:1903.10520), where it is used: each output's weights get mean 0 and
    /// variance 1.
    pub standardise: Option<f32>,
}

/// Extents of one convolution.
#[derive(Clone, Copy)]
struct Extents {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    outputs: usize,
    kernel: [usize; 2],
    grid: [usize; 2],
    before: [usize; 2],
    stride: usize,
}

impl Extents {
    fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    fn rows(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// Whether the input itself is the matrix of columns.
    fn is_linear(&self) -> bool {
        self.kernel == [1, 1] && self.stride == 1 && self.before == [0, 0]
    }

    /// Calls `copy(input offset, column offset, count)` for every run of pixels under a row of the kernel, at every place of
    /// one output row.
    #[inline(always)]
    fn pixels(&self, row: usize, mut copy: impl FnMut(usize, usize, usize)) {
        let (image, y) = (row / self.grid[0], row % self.grid[0]);
        for x in 0..self.grid[1] {
            let target = (row * self.grid[1] + x) * self.depth();
            let left = x * self.stride;
            // The part of the kernel's row that lies over the input.
            let first = self.before[1].saturating_sub(left).min(self.kernel[1]);
            let last = (self.before[1] + self.width).saturating_sub(left).min(self.kernel[1]);
            for ky in 0..self.kernel[0] {
                let py = y * self.stride + ky;
                if first < last && (self.before[0]..self.before[0] + self.height).contains(&py) {
                    let pixel =
                        (image * self.height + py - self.before[0]) * self.width + left + first - self.before[1];
                    let column = target + (ky * self.kernel[1] + first) * self.channels;
                    copy(pixel * self.channels, column, (last - first) * self.channels);
                }
            }
        }
    }

    /// The input as a matrix `[batch · output pixels, kernel pixels · channels]`.
    fn columns(&self, device: &Cpu, x: &Tensor) -> Tensor {
        let shape = [self.rows(), self.depth()];
        if self.is_linear() {
            return x.reshape(shape);
        }
        Tensor::filled(device, shape, |out| {
            let row = self.grid[1] * self.depth();
            let out = SharedMut::new(out);
            device.parallel_ranges(self.batch * self.grid[0], 2, |rows| {
                for y in rows {
                    out.part(y * row, row).fill(0.0);
                    self.pixels(y, |source, target, count| {
                        out.part(target, count).copy_from_slice(&x.values()[source..source + count]);
                    });
                }
            });
        })
    }

    /// `[out, in, height, width]` as a matrix `[out, height · width · in]`, standardised.
    fn matrix(&self, weight: &[f32], standardise: Option<f32>) -> Vec<f32> {
        let area = self.kernel[0] * self.kernel[1];
        let mut matrix = vec![0.0; weight.len()];
        let rows = weight.chunks_exact(self.depth()).zip(matrix.chunks_exact_mut(self.depth()));
        for (filter, row) in rows {
            let (mean, reciprocal) = standardise.map_or((0.0, 1.0), |epsilon| moments(filter, epsilon));
            for (i, &w) in filter.iter().enumerate() {
                row[i % area * self.channels + i / area] = (w - mean) * reciprocal;
            }
        }
        matrix
    }
}

/// Mean and reciprocal deviation of a filter.
fn moments(filter: &[f32], epsilon: f32) -> (f32, f32) {
    let count = filter.len() as f64;
    let mean = filter.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
    let variance = filter.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / count;
    (mean as f32, (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32)
}

impl Context<'_> {
    /// A convolution of `[batch, height, width, channels]`.
    pub fn convolution(&self, x: &Tensor, convolution: &Convolution) -> Tensor {
        let spec = self.parameters.declarations().spec(convolution.weight);
        let [outputs, channels, kernel_height, kernel_width] = spec.shape[..] else {
            panic!("`{}` of shape {:?} is no convolution", spec.name, spec.shape)
        };
        let [batch, height, width, found] = x.shape()[..] else {
            panic!("a convolution takes [batch, height, width, channels], not {:?}", x.shape())
        };
        assert_eq!(found, channels, "`{}` takes {channels} channels, not {:?}", spec.name, x.shape());
        let (rows, above) = convolution.padding.axis(height, kernel_height, convolution.stride);
        let (columns, left) = convolution.padding.axis(width, kernel_width, convolution.stride);
        let extents = Extents {
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
        let matrix = self.parameters.derived(convolution.weight, |weight| {
            let matrix = extents.matrix(weight, convolution.standardise);
            let rhs = Rhs::Columns { data: &matrix, stride: extents.depth() };
            pack_rhs_parallel(self.device, rhs, extents.depth(), outputs)
        });
        let unfolded = extents.columns(self.device, x);
        let lhs = Lhs::Rows { data: unfolded.values(), stride: extents.depth() };
        let mut gemm = Gemm::new(extents.rows(), lhs, &matrix);
        gemm.epilogue.bias = convolution.bias.map(|bias| self.parameters.plain(bias));
        let output = Tensor::filled(self.device, [batch, rows, columns, outputs], |out| gemm.run(self.device, out));
        let (saved, convolution) = (x.clone(), *convolution);
        let needed = self.depends(x, std::iter::once(convolution.weight).chain(convolution.bias));
        self.record(output, needed, || {
            Box::new(move |grad, gradients| backward(&convolution, extents, &saved, grad, gradients))
        })
    }
}

fn backward(convolution: &Convolution, extents: Extents, x: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let device = gradients.device;
    let (rows, depth, outputs) = (extents.rows(), extents.depth(), extents.outputs);
    let weight = gradients.parameters.plain(convolution.weight);
    if let Some(sums) = gradients.parameter(convolution.weight) {
        let unfolded = extents.columns(device, x);
        let mut matrix = vec![0.0; outputs * depth];
        let lhs = Lhs::Columns { data: grad.values(), stride: outputs };
        let rhs = Rhs::Rows { data: unfolded.values(), stride: depth };
        multiply(device, (outputs, rows, depth), lhs, rhs, &mut matrix, false);
        let area = extents.kernel[0] * extents.kernel[1];
        let filters = sums.chunks_exact_mut(depth).zip(matrix.chunks_exact(depth)).zip(weight.chunks_exact(depth));
        for ((sums, row), filter) in filters {
            let pulled = |i: usize| row[i % area * extents.channels + i / area];
            let Some(epsilon) = convolution.standardise else {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum += pulled(i);
                }
                continue;
            };
            let (mean, reciprocal) = moments(filter, epsilon);
            let normed = |i: usize| (filter[i] - mean) * reciprocal;
            let average = (0..depth).map(pulled).sum::<f32>() / depth as f32;
            let along = (0..depth).map(|i| pulled(i) * normed(i)).sum::<f32>() / depth as f32;
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += reciprocal * (pulled(i) - average - normed(i) * along);
            }
        }
    }
    if let Some(sums) = convolution.bias.and_then(|bias| gradients.parameter(bias)) {
        device.add_row_sums(grad.values(), sums);
    }
    gradients.add(x.node, |_| {
        let matrix = extents.matrix(weight, convolution.standardise);
        let unfolded = Tensor::filled(device, [rows, depth], |out| {
            let lhs = Lhs::Rows { data: grad.values(), stride: outputs };
            multiply(device, (rows, outputs, depth), lhs, Rhs::Rows { data: &matrix, stride: depth }, out, false);
        });
        if extents.is_linear() {
            return unfolded.reshape(x.shape());
        }
        Tensor::filled(device, x.shape(), |out| {
            let sample = extents.height * extents.width * extents.channels;
            let out = SharedMut::new(out);
            device.parallel(extents.batch, |image| {
                let out = out.part(image * sample, sample);
                out.fill(0.0);
                for row in image * extents.grid[0]..(image + 1) * extents.grid[0] {
                    extents.pixels(row, |source, target, count| {
                        let source = source - image * sample;
                        let pulled = &unfolded.values()[target..target + count];
                        for (out, pulled) in out[source..source + count].iter_mut().zip(pulled) {
                            *out += pulled;
                        }
                    });
                }
            });
        })
    });
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
                let convolution = Convolution { weight, bias, stride, padding, standardise: None };
                check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.convolution(&x[0], &convolution));
            }
        }
    }

    #[test]
    fn standardised_weights_equal_timm() {
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
                standardise: Some(golden.scalar("epsilon")),
            };
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.convolution(&x[0], &convolution));
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for (kernel, stride, padding, standardise) in [
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
                standardise,
            };
            check.differences(&[check.input(&[2, 5, 4, 2])], |cx, x| cx.convolution(&x[0], &convolution));
        }
    }
}
