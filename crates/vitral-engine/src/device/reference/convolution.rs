//! Convolutions, one product after the other.

use super::{Parameter, Reference, stored};
use crate::device::backend::{ConvolutionCall, ConvolutionExtents, ConvolutionGradients};
use crate::tensor::Tensor;

impl ConvolutionExtents {
    /// Calls `visit(output, input, weight)` with the place of every number that is multiplied.
    fn each_product(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let ([rows, columns], [kernel_height, kernel_width]) = (self.grid, self.kernel);
        for place in 0..self.batch * rows * columns {
            let (image, y, x) = (place / (rows * columns), place / columns % rows, place % columns);
            for tap in 0..kernel_height * kernel_width {
                let py = (y * self.stride + tap / kernel_width).wrapping_sub(self.before[0]);
                let px = (x * self.stride + tap % kernel_width).wrapping_sub(self.before[1]);
                if py >= self.height || px >= self.width {
                    continue;
                }
                let pixel = ((image * self.height + py) * self.width + px) * self.channels;
                for output in 0..self.outputs {
                    for channel in 0..self.channels {
                        let weight = (output * self.channels + channel) * kernel_height * kernel_width + tap;
                        visit(place * self.outputs + output, pixel + channel, weight);
                    }
                }
            }
        }
    }

    /// Weights with mean 0 and variance 1 for each output (arXiv:1903.10520), where that is asked for.
    fn standardized(&self, weight: &[f64], epsilon: Option<f64>) -> Vec<f64> {
        let Some(epsilon) = epsilon else { return weight.to_vec() };
        let rows = weight.chunks_exact(self.depth());
        rows.flat_map(|row| {
            let (mean, reciprocal) = moments(row, epsilon);
            row.iter().map(move |w| (w - mean) * reciprocal)
        })
        .collect()
    }
}

fn moments(row: &[f64], epsilon: f64) -> (f64, f64) {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    let variance = row.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

pub(super) fn forward(device: &Reference, x: &Tensor, call: &ConvolutionCall<'_>) -> Tensor {
    let (extents, epsilon) = (call.extents, call.standardize.map(f64::from));
    let (weight, bias) = (Parameter::of(call.weight), Parameter::maybe(device, call.bias));
    let (at_weight, at_bias) = (weight.range(), bias.range());
    let shape = [extents.batch, extents.grid[0], extents.grid[1], extents.outputs];
    device.compute(shape, [stored(x), &weight.memory, &bias.memory], move |[x, weight, bias], out| {
        let (weight, bias) = (extents.standardized(&weight[at_weight], epsilon), &bias[at_bias]);
        for (i, out) in out.iter_mut().enumerate() {
            *out = bias.get(i % extents.outputs).copied().unwrap_or(0.0);
        }
        extents.each_product(|output, input, w| out[output] += x[input] * weight[w]);
    })
}

pub(super) fn backward(
    device: &Reference,
    x: &Tensor,
    grad: &Tensor,
    call: &ConvolutionCall<'_>,
    wanted: ConvolutionGradients<'_>,
) -> Option<Tensor> {
    let (extents, epsilon) = (call.extents, call.standardize.map(f64::from));
    let weight = Parameter::of(call.weight);
    if let Some(gradients) = wanted.gradients {
        if let Some(range) = wanted.weight_range {
            let at_weight = weight.range();
            let reads = [stored(x), stored(grad), &weight.memory];
            // Parameters and gradients are different buffers.
            device.change(gradients, reads, move |[x, grad, weight], out| {
                let weight = &weight[at_weight];
                let mut sums = vec![0.0; weight.len()];
                extents.each_product(|output, input, w| sums[w] += x[input] * grad[output]);
                let depth = extents.depth();
                for (row, sums) in sums.chunks_exact(depth).enumerate() {
                    let out = &mut out[range.start + row * depth..][..depth];
                    let Some(epsilon) = epsilon else {
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                        continue;
                    };
                    let own = &weight[row * depth..][..depth];
                    let (mean, reciprocal) = moments(own, epsilon);
                    let normed = |i: usize| (own[i] - mean) * reciprocal;
                    let average = sums.iter().sum::<f64>() / depth as f64;
                    let along = (0..depth).map(|i| sums[i] * normed(i)).sum::<f64>() / depth as f64;
                    for i in 0..depth {
                        out[i] += reciprocal * (sums[i] - average - normed(i) * along);
                    }
                }
            });
        }
        if let Some(range) = wanted.bias_range {
            device.change(gradients, [stored(grad)], move |[grad], out| {
                for (i, grad) in grad.iter().enumerate() {
                    out[range.start + i % extents.outputs] += grad;
                }
            });
        }
    }
    wanted.input.then(|| {
        let at_weight = weight.range();
        device.compute(x.shape(), [stored(grad), &weight.memory], move |[grad, weight], out| {
            let weight = extents.standardized(&weight[at_weight], epsilon);
            out.fill(0.0);
            extents.each_product(|output, input, w| out[input] += grad[output] * weight[w]);
        })
    })
}
