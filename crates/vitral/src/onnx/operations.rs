//! The operators that the parts of a model are written in.

use super::attribute::{float, int, ints, string};
use super::graph::{Graph, Value};
use super::options::Opset;
use crate::config::Activation;

impl Graph<'_> {
    pub(super) fn add(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Add", name, &[a, b], vec![])
    }

    pub(super) fn multiply(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Mul", name, &[a, b], vec![])
    }

    pub(super) fn product(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("MatMul", name, &[a, b], vec![])
    }

    pub(super) fn softmax(&mut self, name: &str, x: &Value) -> Value {
        self.node("Softmax", name, &[x], vec![int("axis", -1)])
    }

    /// The same values in other extents; 0 keeps an extent.
    pub(super) fn reshape(&mut self, name: &str, x: &Value, to: &[usize]) -> Value {
        let to: Vec<i64> = to.iter().map(|&extent| extent as i64).collect();
        let to = self.integers(&to);
        self.node("Reshape", name, &[x, &to], vec![])
    }

    pub(super) fn transpose(&mut self, name: &str, x: &Value, order: &[i64]) -> Value {
        self.node("Transpose", name, &[x], vec![ints("perm", order.iter().copied())])
    }

    pub(super) fn concatenate(&mut self, name: &str, parts: &[&Value], axis: i64) -> Value {
        self.node("Concat", name, parts, vec![int("axis", axis)])
    }

    /// Parts of the innermost extent, each with its name and width.
    pub(super) fn split<const N: usize>(&mut self, name: &str, x: &Value, parts: [(&str, usize); N]) -> [Value; N] {
        let sizes = self.integers(&parts.map(|(_, width)| width as i64));
        let names = parts.iter().map(|(part, _)| format!("{name}.{part}")).collect();
        let values = self.nodes("Split", name, &[x, &sizes], vec![int("axis", -1)], names);
        values.try_into().expect("as many as there are names")
    }

    /// Some of the tokens of `[batch, tokens, …]`.
    pub(super) fn tokens(&mut self, name: &str, x: &Value, first: usize, count: usize) -> Value {
        if self.shape(x).at(1) == count {
            return x.clone();
        }
        let ends = [first as i64, (first + count) as i64].map(|end| self.integers(&[end]));
        let axis = self.integers(&[1]);
        self.node("Slice", name, &[x, &ends[0], &ends[1], &axis], vec![])
    }

    /// One token of `[batch, tokens, width]`: `[batch, width]`.
    pub(super) fn token(&mut self, name: &str, x: &Value, index: usize) -> Value {
        let index = self.index(index as i64);
        self.node("Gather", name, &[x, &index], vec![int("axis", 1)])
    }

    /// The mean or the maximum over some axes.
    pub(super) fn reduce(&mut self, op: &str, name: &str, x: &Value, axis: i64, keep: bool) -> Value {
        let keep = int("keepdims", i64::from(keep));
        if self.opset >= Opset::V20 {
            let axes = self.integers(&[axis]);
            self.node(op, name, &[x, &axes], vec![keep])
        } else {
            self.node(op, name, &[x], vec![ints("axes", [axis]), keep])
        }
    }

    /// A non-linearity of every number, composed as runtimes recognize it.
    pub(super) fn activation(&mut self, name: &str, x: &Value, activation: Activation) -> Value {
        let at = |part: &str| format!("{name}.{part}");
        match activation {
            Activation::Gelu if self.opset >= Opset::V20 => self.node("Gelu", name, &[x], vec![]),
            Activation::GeluTanh if self.opset >= Opset::V20 => {
                self.node("Gelu", name, &[x], vec![string("approximate", "tanh")])
            }
            Activation::Gelu => {
                // x / √2, erf, + 1, · x, · ½
                let root = self.number("sqrt_two", std::f32::consts::SQRT_2);
                let scaled = self.node("Div", &at("scaled"), &[x, &root], vec![]);
                let erf = self.node("Erf", &at("erf"), &[&scaled], vec![]);
                self.half_of_both(name, x, &erf)
            }
            Activation::GeluTanh => {
                // √(2/π) (x + 0.044715 x³), tanh, + 1, · x, · ½
                let three = self.number("three", 3.0);
                let cube = self.node("Pow", &at("cube"), &[x, &three], vec![]);
                let factor = self.number("gelu_cubic", 0.044_715);
                let cubic = self.multiply(&at("cubic"), &cube, &factor);
                let sum = self.add(&at("sum"), x, &cubic);
                let factor = self.number("sqrt_two_over_pi", (2.0 / std::f64::consts::PI).sqrt() as f32);
                let scaled = self.multiply(&at("scaled"), &sum, &factor);
                let tanh = self.node("Tanh", &at("tanh"), &[&scaled], vec![]);
                self.half_of_both(name, x, &tanh)
            }
            Activation::QuickGelu => {
                let factor = self.number("quick_gelu", 1.702);
                let scaled = self.multiply(&at("scaled"), x, &factor);
                let gate = self.node("Sigmoid", &at("gate"), &[&scaled], vec![]);
                self.multiply(name, x, &gate)
            }
            Activation::Silu => {
                let gate = self.node("Sigmoid", &at("gate"), &[x], vec![]);
                self.multiply(name, x, &gate)
            }
            Activation::Relu => self.node("Relu", name, &[x], vec![]),
            Activation::Tanh => self.node("Tanh", name, &[x], vec![]),
        }
    }

    /// `x (1 + y) ½`.
    fn half_of_both(&mut self, name: &str, x: &Value, y: &Value) -> Value {
        let [one, half] = [("one", 1.0), ("half", 0.5)].map(|(label, value)| self.number(label, value));
        let shifted = self.add(&format!("{name}.shifted"), y, &one);
        let gated = self.multiply(&format!("{name}.gated"), x, &shifted);
        self.multiply(name, &gated, &half)
    }

    /// The mean of two values of one shape.
    pub(super) fn mean_of_both(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        let half = self.number("half", 0.5);
        let sum = self.add(&format!("{name}.sum"), a, b);
        self.multiply(name, &sum, &half)
    }

    pub(super) fn layer_normalization(
        &mut self,
        name: &str,
        x: &Value,
        parameters: [&Value; 2],
        epsilon: f32,
    ) -> Value {
        let [weight, bias] = parameters;
        self.node("LayerNormalization", name, &[x, weight, bias], vec![int("axis", -1), float("epsilon", epsilon)])
    }

    /// The root mean square's norm, with a weight.
    pub(super) fn rms_normalization(&mut self, name: &str, x: &Value, weight: &Value, epsilon: f32) -> Value {
        if self.opset >= Opset::V23 {
            return self.node("RMSNormalization", name, &[x, weight], vec![int("axis", -1), float("epsilon", epsilon)]);
        }
        let at = |part: &str| format!("{name}.{part}");
        let two = self.number("two", 2.0);
        let squares = self.node("Pow", &at("squares"), &[x, &two], vec![]);
        let mean = self.reduce("ReduceMean", &at("mean"), &squares, -1, true);
        let epsilon = self.number(&format!("epsilon_{epsilon:e}"), epsilon);
        let shifted = self.add(&at("shifted"), &mean, &epsilon);
        let root = self.node("Sqrt", &at("root"), &[&shifted], vec![]);
        let normed = self.node("Div", &at("normed"), &[x, &root], vec![]);
        self.multiply(name, &normed, weight)
    }
}
