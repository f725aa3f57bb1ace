//! Sums, factors, dropping, non-linearities, softmax.

use std::ops::Range;

use super::{Parameter, Reference, stored};
use crate::activation::Activation;
use crate::device::backend::{Draw, Elements};
use crate::device::storage::{FlatBuffer, ParameterView};
use crate::random::uniform;
use crate::tensor::Tensor;

impl Elements for Reference {
    fn add(&self, a: &Tensor, b: &Tensor) -> Tensor {
        self.compute(a.shape(), [stored(a), stored(b)], |[a, b], out| {
            for i in 0..out.len() {
                out[i] = a[i] + b[i];
            }
        })
    }

    fn scale(&self, a: &Tensor, factor: f32) -> Tensor {
        self.compute(a.shape(), [stored(a)], move |[a], out| {
            for i in 0..out.len() {
                out[i] = f64::from(factor) * a[i];
            }
        })
    }

    fn affine_channels(&self, x: &Tensor, lines: &[(f32, f32)]) -> Tensor {
        let (plane, lines) = (x.shape()[x.shape().len() - 2] * x.shape().last(), lines.to_vec());
        self.compute(x.shape(), [stored(x)], move |[x], out| {
            for i in 0..out.len() {
                let (factor, shift) = lines[i / plane % lines.len()];
                out[i] = x[i] * f64::from(factor) + f64::from(shift);
            }
        })
    }

    fn multiply_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor {
        let row = Parameter::of(row);
        let (range, width) = (row.range(), row.count);
        self.compute(x.shape(), [stored(x), &row.memory], move |[x, row], out| {
            let row = &row[range];
            for i in 0..out.len() {
                out[i] = x[i] * row[i % width];
            }
        })
    }

    fn multiply_row_backward(&self, x: &Tensor, grad: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>) {
        let width = range.len();
        self.change(gradients, [stored(x), stored(grad)], move |[x, grad], out| {
            for i in 0..x.len() {
                out[range.start + i % width] += x[i] * grad[i];
            }
        });
    }

    fn add_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor {
        let row = Parameter::of(row);
        let (range, width) = (row.range(), row.count);
        self.compute(x.shape(), [stored(x), &row.memory], move |[x, row], out| {
            let row = &row[range];
            for i in 0..out.len() {
                out[i] = x[i] + row[i % width];
            }
        })
    }

    fn add_row_sums(&self, x: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>) {
        let width = range.len();
        self.change(gradients, [stored(x)], move |[x], out| {
            for i in 0..x.len() {
                out[range.start + i % width] += x[i];
            }
        });
    }

    fn sum_rows(&self, x: &Tensor, width: usize) -> Tensor {
        self.compute([width], [stored(x)], move |[x], out| {
            out.fill(0.0);
            for i in 0..x.len() {
                out[i % width] += x[i];
            }
        })
    }

    fn drop(&self, x: &Tensor, draw: Draw, group: usize, rate: f32) -> Tensor {
        let first = draw.first_image * x.shape().item();
        self.compute(x.shape(), [stored(x)], move |[x], out| {
            let keep = if rate < 1.0 { 1.0 / (1.0 - f64::from(rate)) } else { 0.0 };
            for i in 0..out.len() {
                let dropped = uniform(draw.key, ((first + i) / group) as u64) < rate;
                out[i] = if dropped { 0.0 } else { keep * x[i] };
            }
        })
    }

    fn activation(&self, x: &Tensor, activation: Activation) -> Tensor {
        self.compute(x.shape(), [stored(x)], move |[x], out| {
            for i in 0..out.len() {
                out[i] = activate(activation, x[i]);
            }
        })
    }

    fn activation_backward(&self, x: &Tensor, grad: &Tensor, activation: Activation) -> Tensor {
        self.compute(x.shape(), [stored(x), stored(grad)], move |[x, grad], out| {
            for i in 0..out.len() {
                out[i] = grad[i] * derivative(activation, x[i]);
            }
        })
    }

    fn gated(&self, pair: &Tensor, activation: Activation) -> Tensor {
        let width = pair.shape().last() / 2;
        self.compute(pair.shape().with_last(width), [stored(pair)], move |[pair], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (row, column) = (i / width, i % width);
                let gate = pair[row * 2 * width + column];
                *out = activate(activation, gate) * pair[row * 2 * width + width + column];
            }
        })
    }

    fn gated_backward(&self, pair: &Tensor, grad: &Tensor, activation: Activation) -> Tensor {
        let width = pair.shape().last() / 2;
        self.compute(pair.shape(), [stored(pair), stored(grad)], move |[pair, grad], out| {
            for (i, grad) in grad.iter().enumerate() {
                let at = i / width * 2 * width + i % width;
                let (gate, x) = (pair[at], pair[at + width]);
                out[at] = grad * x * derivative(activation, gate);
                out[at + width] = grad * activate(activation, gate);
            }
        })
    }

    fn softmax(&self, x: &Tensor) -> Tensor {
        let width = x.shape().last();
        self.compute(x.shape(), [stored(x)], move |[x], out| {
            out.copy_from_slice(x);
            out.chunks_exact_mut(width).for_each(softmax_row);
        })
    }

    fn softmax_backward(&self, y: &Tensor, grad: &Tensor) -> Tensor {
        let width = y.shape().last();
        self.compute(y.shape(), [stored(y), stored(grad)], move |[y, grad], out| {
            for row in 0..y.len() / width {
                let at = row * width..(row + 1) * width;
                let inner: f64 = at.clone().map(|i| y[i] * grad[i]).sum();
                for i in at {
                    out[i] = y[i] * (grad[i] - inner);
                }
            }
        })
    }
}

/// Softmax in place. A row that is −∞ throughout becomes zeros: a query without keys attends to nothing.
pub(super) fn softmax_row(row: &mut [f64]) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, |top, x| if x > top || x.is_nan() { x } else { top });
    if top == f64::NEG_INFINITY {
        return row.fill(0.0);
    }
    row.iter_mut().for_each(|x| *x = (*x - top).exp());
    let total: f64 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= total);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The standard normal distribution function.
fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// `√(2/π)` and the cubic coefficient of GELU's tanh form.
const GELU_TANH: (f64, f64) = (0.797_884_560_802_865_4, 0.044_715);

pub(super) fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => x * normal_cdf(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + (GELU_TANH.0 * (x + GELU_TANH.1 * x * x * x)).tanh()),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => {
            if x > 0.0 || x.is_nan() {
                x
            } else {
                0.0
            }
        }
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

fn derivative(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => normal_cdf(x) + x * normal_density(x),
        Activation::GeluTanh => {
            let (root, cubic) = GELU_TANH;
            let t = (root * (x + cubic * x * x * x)).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * cubic * x * x)
        }
        Activation::QuickGelu => {
            let s = sigmoid(1.702 * x);
            s + 1.702 * x * s * (1.0 - s)
        }
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::Silu => {
            let s = sigmoid(x);
            s + x * s * (1.0 - s)
        }
        Activation::Tanh => 1.0 - x.tanh().powi(2),
    }
}
