//! Elementwise non-linearities, gated ones, and softmax over rows.

use crate::activation::Activation;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// A non-linearity of every number.
    pub fn activation(&self, x: &Tensor, activation: Activation) -> Tensor {
        let output = self.backend().activation(x, activation);
        let saved = x.clone();
        self.record(output, x.node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(saved.node, |g| g.backend().activation_backward(&saved, grad, activation));
            })
        })
    }

    /// `activation(gate) · x` of rows that hold the gate first and `x` second: `[…, 2 width]` to `[…, width]`. With
    /// [`Activation::Silu`] it is SwiGLU (arXiv:2002.05202).
    ///
    /// # Panics
    /// If the width is odd.
    pub fn gated(&self, pair: &Tensor, activation: Activation) -> Tensor {
        assert!(pair.shape().last().is_multiple_of(2), "a gated row has an even width, not {:?}", pair.shape());
        let output = self.backend().gated(pair, activation);
        let saved = pair.clone();
        self.record(output, pair.node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(saved.node, |g| g.backend().gated_backward(&saved, grad, activation));
            })
        })
    }

    /// Softmax over the innermost extent.
    pub fn softmax(&self, x: &Tensor) -> Tensor {
        let output = self.backend().softmax(x);
        let (saved, node) = (output.clone(), x.node);
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| g.backend().softmax_backward(&saved, grad)))
        })
    }
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
