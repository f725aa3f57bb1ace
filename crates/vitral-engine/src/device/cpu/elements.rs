//! Sums, factors, dropping, non-linearities, softmax.

use std::ops::Range;

use super::kernels::{Kernel, Lanes};
use super::map::{Elementwise, Map};
use super::parameter::plain;
use super::{Cpu, math, values};
use crate::activation::Activation;
use crate::device::backend::{Draw, Elements};
use crate::device::storage::{FlatBuffer, ParameterView};
use crate::random::uniform;
use crate::tensor::Tensor;

#[derive(Clone, Copy)]
struct Add;

impl Elementwise<2> for Add {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [a, b]: [L::V; 2]) -> L::V {
        l.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct Multiply;

impl Elementwise<2> for Multiply {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [a, b]: [L::V; 2]) -> L::V {
        l.mul(a, b)
    }
}

#[derive(Clone, Copy)]
struct Times(f32);

impl Elementwise<1> for Times {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [a]: [L::V; 1]) -> L::V {
        l.mul(a, l.splat(self.0))
    }
}

#[derive(Clone, Copy)]
struct Apply(Activation);

impl Elementwise<1> for Apply {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [x]: [L::V; 1]) -> L::V {
        math::activate(l, self.0, x)
    }
}

/// `grad · f′(x)`.
#[derive(Clone, Copy)]
struct ApplyBackward(Activation);

impl Elementwise<2> for ApplyBackward {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [x, grad]: [L::V; 2]) -> L::V {
        l.mul(grad, math::activate_derivative(l, self.0, x))
    }
}

#[derive(Clone, Copy)]
struct Gate(Activation);

impl Elementwise<2> for Gate {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [gate, x]: [L::V; 2]) -> L::V {
        l.mul(math::activate(l, self.0, gate), x)
    }
}

/// The gradient of the gate: `grad · x · f′(gate)`.
#[derive(Clone, Copy)]
struct GateBackward(Activation);

impl Elementwise<3> for GateBackward {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [gate, x, grad]: [L::V; 3]) -> L::V {
        l.mul(l.mul(grad, x), math::activate_derivative(l, self.0, gate))
    }
}

struct SoftmaxRows<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    width: usize,
}

impl Kernel for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (x, out) in self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width)) {
            out.copy_from_slice(x);
            let total = math::exp_row(l, out, 1.0);
            math::scale_row(l, out, 1.0 / total);
        }
    }
}

impl Cpu {
    /// Every row of `a` times one row.
    pub(super) fn rows_times(&self, a: &Tensor, row: &[f32]) -> Tensor {
        self.tensor(a.shape(), |out| self.processor.map_rows([values(a), row], row.len(), out, Multiply))
    }

    /// `out[i] = f(inputs…)` on the calling thread.
    fn map_serial<const N: usize>(&self, inputs: [&[f32]; N], out: &mut [f32], f: impl Elementwise<N>) {
        self.processor.isa().run(Map { inputs, out, f });
    }
}

impl Elements for Cpu {
    fn add(&self, a: &Tensor, b: &Tensor) -> Tensor {
        self.tensor(a.shape(), |out| self.processor.map([values(a), values(b)], out, Add))
    }

    fn scale(&self, a: &Tensor, factor: f32) -> Tensor {
        self.tensor(a.shape(), |out| self.processor.map([values(a)], out, Times(factor)))
    }

    fn affine_channels(&self, x: &Tensor, lines: &[(f32, f32)]) -> Tensor {
        let [.., height, width] = x.shape()[..] else { panic!("planes are […, height, width], not {:?}", x.shape()) };
        let plane = (height * width).max(1);
        self.tensor(x.shape(), |out| {
            self.processor.parallel_chunks(out, plane, |i, out| {
                let (factor, shift) = lines[i % lines.len()];
                out.iter_mut().zip(&values(x)[i * plane..]).for_each(|(out, x)| *out = x * factor + shift);
            });
        })
    }

    fn multiply_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor {
        self.rows_times(x, plain(row))
    }

    fn multiply_row_backward(&self, x: &Tensor, grad: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>) {
        let product = self.tensor(grad.shape(), |out| self.processor.map([values(grad), values(x)], out, Multiply));
        self.add_row_sums(&product, gradients, range);
    }

    fn add_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor {
        let row = plain(row);
        self.tensor(x.shape(), |out| self.processor.map_rows([values(x), row], row.len(), out, Add))
    }

    fn add_row_sums(&self, x: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>) {
        self.processor.add_row_sums(values(x), &mut gradients.cpu_mut()[range]);
    }

    fn sum_rows(&self, x: &Tensor, width: usize) -> Tensor {
        self.tensor([width], |out| {
            out.fill(0.0);
            self.processor.add_row_sums(values(x), out);
        })
    }

    fn drop(&self, x: &Tensor, draw: Draw, group: usize, rate: f32) -> Tensor {
        let first = draw.first_image * x.shape().item() / group.max(1);
        let keep = if rate < 1.0 { 1.0 / (1.0 - rate) } else { 0.0 };
        let source = values(x);
        self.tensor(x.shape(), |out| {
            self.processor.parallel_rows(out, group, 4096usize.div_ceil(group.max(1)), |start, out| {
                for (i, out) in out.chunks_exact_mut(group.max(1)).enumerate() {
                    let i = start + i;
                    let factor = if uniform(draw.key, (first + i) as u64) < rate { 0.0 } else { keep };
                    for (out, x) in out.iter_mut().zip(&source[i * group..]) {
                        *out = factor * x;
                    }
                }
            });
        })
    }

    fn activation(&self, x: &Tensor, activation: Activation) -> Tensor {
        self.tensor(x.shape(), |out| self.processor.map([values(x)], out, Apply(activation)))
    }

    fn activation_backward(&self, x: &Tensor, grad: &Tensor, activation: Activation) -> Tensor {
        self.tensor(grad.shape(), |out| {
            self.processor.map([values(x), values(grad)], out, ApplyBackward(activation));
        })
    }

    fn gated(&self, pair: &Tensor, activation: Activation) -> Tensor {
        let width = pair.shape().last() / 2;
        let source = values(pair);
        self.tensor(pair.shape().with_last(width), |out| {
            self.processor.parallel_rows(out, width, 16, |first, out| {
                for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
                    let (gate, x) = source[2 * (first + row) * width..][..2 * width].split_at(width);
                    self.map_serial([gate, x], out, Gate(activation));
                }
            });
        })
    }

    fn gated_backward(&self, pair: &Tensor, grad: &Tensor, activation: Activation) -> Tensor {
        let width = pair.shape().last() / 2;
        let (source, upstream) = (values(pair), values(grad));
        self.tensor(pair.shape(), |out| {
            self.processor.parallel_rows(out, 2 * width, 16, |first, out| {
                for (row, out) in out.chunks_exact_mut((2 * width).max(1)).enumerate() {
                    let row = first + row;
                    let (gate, x) = source[2 * row * width..][..2 * width].split_at(width);
                    let grad = &upstream[row * width..][..width];
                    let (out_gate, out_x) = out.split_at_mut(width);
                    self.map_serial([gate, x, grad], out_gate, GateBackward(activation));
                    self.map_serial([gate, grad], out_x, Gate(activation));
                }
            });
        })
    }

    fn softmax(&self, x: &Tensor) -> Tensor {
        let (width, source) = (x.shape().last(), values(x));
        self.tensor(x.shape(), |out| {
            self.processor.parallel_rows(out, width, 4096usize.div_ceil(width.max(1)), |first, out| {
                let x = &source[first * width..][..out.len()];
                self.processor.isa().run(SoftmaxRows { x, out, width });
            });
        })
    }

    fn softmax_backward(&self, y: &Tensor, grad: &Tensor) -> Tensor {
        let width = grad.shape().last();
        self.tensor(grad.shape(), |out| {
            let rows = out.chunks_exact_mut(width).zip(values(y).chunks_exact(width));
            for ((out, y), grad) in rows.zip(values(grad).chunks_exact(width)) {
                let inner: f32 = y.iter().zip(grad).map(|(y, grad)| y * grad).sum();
                for ((out, y), grad) in out.iter_mut().zip(y).zip(grad) {
                    *out = y * (grad - inner);
                }
            }
        })
    }
}
