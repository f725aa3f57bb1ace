//! Layers with parameters: linear maps, norms, LayerScale.

use super::attribute::int;
use super::graph::{Graph, Value};
use crate::config::NormKind;

impl Graph<'_> {
    /// The linear map at a place, `[…, in]` to `[…, out]`.
    pub(super) fn linear(&mut self, place: &str, x: &Value) -> Value {
        self.linear_as(place, place, x)
    }

    /// The same under a name of its own, for a map that is used twice.
    pub(super) fn linear_as(&mut self, name: &str, place: &str, x: &Value) -> Value {
        let bias = format!("{place}.bias");
        let bias = self.has(&bias).then(|| {
            let count = self.spec(&bias).count();
            self.vector(&bias, &[count])
        });
        self.linear_with(name, place, x, bias)
    }

    /// The same with a bias that is given.
    pub(super) fn linear_with(&mut self, name: &str, place: &str, x: &Value, bias: Option<Value>) -> Value {
        let parameter = format!("{place}.weight");
        if self.shape(x).rank() == 2 {
            let weight = self.there(&parameter).unwrap_or_else(|| self.matrix(&parameter, true));
            let operands: Vec<&Value> = [x, &weight].into_iter().chain(&bias).collect();
            return self.node("Gemm", name, &operands, vec![int("transB", 1)]);
        }
        let weight = self.matrix(&parameter, false);
        match bias {
            Some(bias) => {
                let product = self.product(&format!("{name}.product"), x, &weight);
                self.add(name, &product, &bias)
            }
            None => self.product(name, x, &weight),
        }
    }

    /// The norm at a place, over the innermost extent.
    pub(super) fn norm(&mut self, place: &str, x: &Value) -> Value {
        self.norm_as(place, place, x)
    }

    /// The same under a name of its own, for a norm that is used twice.
    pub(super) fn norm_as(&mut self, own: &str, place: &str, x: &Value) -> Value {
        let (kind, epsilon) = (self.config().norm, self.config().norm_epsilon);
        let name = |leaf: &str| format!("{place}.{leaf}");
        let width = self.spec(&name("weight")).count();
        let weight = self.vector(&name("weight"), &[width]);
        match kind {
            NormKind::Layer => {
                let bias = self.vector(&name("bias"), &[width]);
                self.layer_normalization(own, x, [&weight, &bias], epsilon)
            }
            NormKind::Rms => self.rms_normalization(own, x, &weight, epsilon),
        }
    }

    /// The norm at a place, where the model has one.
    pub(super) fn norm_if(&mut self, present: bool, place: &str, x: &Value) -> Value {
        if present { self.norm(place, x) } else { x.clone() }
    }

    /// LayerScale by the parameter of that name, where the model has it.
    pub(super) fn scaled(&mut self, parameter: &str, x: &Value) -> Value {
        if !self.has(parameter) {
            return x.clone();
        }
        let width = self.spec(parameter).count();
        let factors = self.vector(parameter, &[width]);
        self.multiply(&format!("{parameter}.product"), x, &factors)
    }
}
