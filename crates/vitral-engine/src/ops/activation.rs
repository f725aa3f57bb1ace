//! Elementwise non-linearities, gated ones, and softmax over rows.

use super::Activation;
use crate::device::cpu::kernels::{Kernel, Lanes, SharedMut};
use crate::device::cpu::map::Elementwise;
use crate::device::cpu::{Cpu, math};
use crate::tape::Context;
use crate::tensor::Tensor;

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
struct Pull(Activation);

impl Elementwise<2> for Pull {
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
struct PullGate(Activation);

impl Elementwise<3> for PullGate {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [gate, x, grad]: [L::V; 3]) -> L::V {
        l.mul(l.mul(grad, x), math::activate_derivative(l, self.0, gate))
    }
}

impl Context<'_> {
    /// A non-linearity of every number.
    pub fn activation(&self, x: &Tensor, activation: Activation) -> Tensor {
        let output =
            Tensor::filled(self.device, x.shape(), |out| self.device.map([x.values()], out, Apply(activation)));
        let saved = x.clone();
        self.record(output, x.node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(saved.node, |g| {
                    Tensor::filled(g.device, grad.shape(), |out| {
                        g.device.map([saved.values(), grad.values()], out, Pull(activation));
                    })
                });
            })
        })
    }

    /// `activation(gate) · x` of rows that hold the gate first and `x` second: `[…, 2 width]` to `[…, width]`. With
    /// [`Activation::Silu`] it is SwiGLU (arXiv:2002.05202).
    pub fn gated(&self, pair: &Tensor, activation: Activation) -> Tensor {
        let width = pair.shape().last() / 2;
        assert_eq!(pair.shape().last(), 2 * width, "a gated row has an even width, not {:?}", pair.shape());
        let output = gate_rows(self.device, pair, width, activation);
        let saved = pair.clone();
        self.record(output, pair.node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(saved.node, |g| pull_gated_rows(g.device, &saved, grad, width, activation));
            })
        })
    }

    /// Softmax over the innermost extent.
    pub fn softmax(&self, x: &Tensor) -> Tensor {
        let output = softmax_rows(self.device, x);
        let (saved, node) = (output.clone(), x.node);
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, grad.shape(), |out| {
                        let width = grad.shape().last();
                        let rows = out.chunks_exact_mut(width).zip(saved.values().chunks_exact(width));
                        for ((out, y), grad) in rows.zip(grad.values().chunks_exact(width)) {
                            let inner: f32 = y.iter().zip(grad).map(|(y, grad)| y * grad).sum();
                            for ((out, y), grad) in out.iter_mut().zip(y).zip(grad) {
                                *out = y * (grad - inner);
                            }
                        }
                    })
                });
            })
        })
    }
}

fn gate_rows(device: &Cpu, pair: &Tensor, width: usize, activation: Activation) -> Tensor {
    Tensor::filled(device, pair.shape().with_last(width), |out| {
        let shared = SharedMut::new(out);
        device.parallel_ranges(pair.rows(), 16, |rows| {
            let serial = SerialMap { device };
            for row in rows {
                let (gate, x) = pair.values()[2 * row * width..][..2 * width].split_at(width);
                serial.map([gate, x], shared.part(row * width, width), Gate(activation));
            }
        });
    })
}

fn pull_gated_rows(device: &Cpu, pair: &Tensor, grad: &Tensor, width: usize, activation: Activation) -> Tensor {
    Tensor::filled(device, pair.shape(), |out| {
        let shared = SharedMut::new(out);
        device.parallel_ranges(pair.rows(), 16, |rows| {
            let serial = SerialMap { device };
            for row in rows {
                let (gate, x) = pair.values()[2 * row * width..][..2 * width].split_at(width);
                let grad = &grad.values()[row * width..][..width];
                let (out_gate, out_x) = shared.part(2 * row * width, 2 * width).split_at_mut(width);
                serial.map([gate, x, grad], out_gate, PullGate(activation));
                serial.map([gate, grad], out_x, Gate(activation));
            }
        });
    })
}

/// Elementwise work on the calling thread.
struct SerialMap<'a> {
    device: &'a Cpu,
}

impl SerialMap<'_> {
    fn map<const N: usize>(&self, inputs: [&[f32]; N], out: &mut [f32], f: impl Elementwise<N>) {
        self.device.isa().run(crate::device::cpu::map::Map { inputs, out, f });
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

pub(crate) fn softmax_rows(device: &Cpu, x: &Tensor) -> Tensor {
    let width = x.shape().last();
    Tensor::filled(device, x.shape(), |out| {
        let shared = SharedMut::new(out);
        device.parallel_ranges(x.rows(), 4096usize.div_ceil(width.max(1)), |rows| {
            let x = &x.values()[rows.start * width..rows.end * width];
            device.isa().run(SoftmaxRows { x, out: shared.part(rows.start * width, x.len()), width });
        });
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    const ALL: [(&str, Activation); 6] = [
        ("gelu", Activation::Gelu),
        ("gelu_tanh", Activation::GeluTanh),
        ("quick_gelu", Activation::QuickGelu),
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
        ("tanh", Activation::Tanh),
    ];

    #[test]
    fn equal_pytorch() {
        let check = Check::new();
        for (name, activation) in ALL {
            let golden = Golden::load(name);
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.activation(&x[0], activation));
        }
        let golden = Golden::load("swiglu");
        check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.gated(&x[0], Activation::Silu));
        let golden = Golden::load("softmax");
        check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.softmax(&x[0]));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        for (_, activation) in ALL {
            check.differences(&[check.input(&[3, 7])], |cx, x| cx.activation(&x[0], activation));
            check.differences(&[check.input(&[3, 14])], |cx, x| cx.gated(&x[0], activation));
        }
        check.differences(&[check.input(&[3, 7])], |cx, x| cx.softmax(&x[0]));
    }

    #[test]
    fn a_nan_stays_a_nan() {
        let check = Check::new();
        for (name, activation) in ALL {
            let x = check.tensor(&[3], &[f32::NAN, 1.0, -1.0]);
            let y = check.run(&[x], |cx, x| cx.activation(&x[0], activation));
            assert!(y.values()[0].is_nan() && !y.values()[1].is_nan(), "{name}: {y:?}");
        }
    }
}
