//! Linear maps, number by number.

use super::norms::normalized;
use super::operands::Operands;
use super::{Parameter, Reference, convolution, elements, stored};
use crate::device::backend::{ConvolutionCall, ConvolutionGradients, LinearBackward, LinearCall, Products};
use crate::tensor::Tensor;

impl Products for Reference {
    fn linear(&self, x: &Tensor, call: &LinearCall<'_>) -> Tensor {
        let (columns, depth) = (call.weight.shape[0], call.weight.shape[1]);
        let shape = x.shape().with_last(columns);
        let x = match &call.norm {
            Some(norm) => normalized(self, x, norm),
            None => x.clone(),
        };
        let [weight, bias, scale] = [Some(call.weight), call.bias, call.scale].map(|p| Parameter::maybe(self, p));
        let residual = call.residual.map_or_else(|| self.nothing(), |tensor| stored(tensor).clone());
        let (activation, ranges) = (call.activation, [&weight, &bias, &scale].map(Parameter::range));
        let reads = [stored(&x), &weight.memory, &bias.memory, &scale.memory, &residual];
        let operands = self.rounding(weight.stored);
        self.compute(shape, reads, move |[x, weight, bias, scale, residual], out| {
            let x = &operands.rows(x, depth);
            let [at_weight, at_bias, at_scale] = ranges;
            let (weight, bias, scale) = (&weight[at_weight], &bias[at_bias], &scale[at_scale]);
            for (i, out) in out.iter_mut().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let mut sum = bias.get(column).copied().unwrap_or(0.0);
                for k in 0..depth {
                    sum += x[row * depth + k] * operands.value(weight[column * depth + k]);
                }
                if let Some(activation) = activation {
                    sum = elements::activate(activation, sum);
                }
                sum *= scale.get(column).copied().unwrap_or(1.0);
                *out = sum + residual.get(i).copied().unwrap_or(0.0);
            }
        })
    }

    fn linear_backward(&self, x: &Tensor, grad: &Tensor, call: LinearBackward<'_>) -> Option<Tensor> {
        let (columns, depth) = (call.weight.shape[0], call.weight.shape[1]);
        // Products of what may change are rounded both ways, others not.
        let operands = match Parameter::of(call.weight).stored {
            None => self.rounding(None),
            Some(_) => Operands::Exact,
        };
        if let Some(gradients) = call.gradients {
            if let Some(range) = call.weight_range {
                self.change(gradients, [stored(x), stored(grad)], move |[x, grad], out| {
                    let out = &mut out[range];
                    for row in 0..grad.len() / columns {
                        for column in 0..columns {
                            for k in 0..depth {
                                let (grad, x) = (grad[row * columns + column], x[row * depth + k]);
                                out[column * depth + k] += operands.value(grad) * operands.value(x);
                            }
                        }
                    }
                });
            }
            if let Some(range) = call.bias_range {
                self.change(gradients, [stored(grad)], move |[grad], out| {
                    for (i, grad) in grad.iter().enumerate() {
                        out[range.start + i % columns] += grad;
                    }
                });
            }
        }
        call.input.then(|| {
            let weight = Parameter::of(call.weight);
            let range = weight.range();
            self.compute(x.shape(), [stored(grad), &weight.memory], move |[grad, weight], out| {
                let weight = &weight[range];
                for (i, out) in out.iter_mut().enumerate() {
                    let (row, k) = (i / depth, i % depth);
                    let product =
                        |c: usize| operands.value(grad[row * columns + c]) * operands.value(weight[c * depth + k]);
                    *out = (0..columns).map(product).sum();
                }
            })
        })
    }

    fn convolution(&self, x: &Tensor, call: &ConvolutionCall<'_>) -> Tensor {
        convolution::forward(self, x, call)
    }

    fn convolution_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        call: &ConvolutionCall<'_>,
        wanted: ConvolutionGradients<'_>,
    ) -> Option<Tensor> {
        convolution::backward(self, x, grad, call, wanted)
    }
}
