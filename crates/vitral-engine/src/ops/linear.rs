//! Linear maps, with what stands before and after them fused in where nothing needs to be remembered.

use super::{Activation, Norm};
use crate::arena::{Matrix, ParameterId};
use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::{Epilogue, Gemm, Lhs, Operand, Rhs};
use crate::packs::{Towards, operand};
use crate::tape::{Context, Gradients};
use crate::tensor::Tensor;

/// A linear map `x Wᵀ + b` with `W` as `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: ParameterId,
    /// `[out]`.
    pub bias: Option<ParameterId>,
}

/// What follows a linear map: `residual + drop_path(scale · dropout(activation(x Wᵀ + b)))`.
#[derive(Clone, Copy, Default)]
pub struct After<'a> {
    /// A non-linearity.
    pub activation: Option<Activation>,
    /// Dropout rate, in training.
    pub dropout: f32,
    /// LayerScale, `[out]`.
    pub scale: Option<ParameterId>,
    /// Drop path rate, in training.
    pub drop_path: f32,
    /// What it is added to.
    pub residual: Option<&'a Tensor>,
}

impl Context<'_> {
    /// A linear map of the innermost extent: `[…, in]` to `[…, out]`.
    pub fn linear(&self, x: &Tensor, linear: Linear) -> Tensor {
        let output = self.product(x, None, linear, Epilogue::default());
        let saved = x.clone();
        let needed = self.depends(x, std::iter::once(linear.weight).chain(linear.bias));
        let output =
            self.record(output, needed, || Box::new(move |grad, gradients| backward(linear, &saved, grad, gradients)));
        match self.parameters.adapter(linear.weight) {
            Some(adapter) => self.adapted(x, &output, adapter),
            None => output,
        }
    }

    /// A linear map with the norm before it and what comes after it.
    ///
    /// In inference it is one pass: the norm is applied while the input is packed, the rest while the output tile is
    /// in cache. While recording, it is the same operations one by one; a test holds the two to the same bits.
    pub fn linear_with(&self, x: &Tensor, norm: Option<&Norm>, linear: Linear, after: After<'_>) -> Tensor {
        if self.is_recording() || self.parameters.adapter(linear.weight).is_some() {
            let normed = norm.map(|norm| self.norm(x, norm));
            return self.finish(&self.linear(normed.as_ref().unwrap_or(x), linear), after);
        }
        let epilogue = Epilogue {
            bias: None,
            activation: after.activation,
            scale: after.scale.map(|scale| self.parameters.plain(scale)),
            residual: after.residual.map(Tensor::values),
        };
        self.product(x, norm, linear, epilogue)
    }

    /// What comes after a linear map, one operation at a time.
    pub fn finish(&self, x: &Tensor, after: After<'_>) -> Tensor {
        let mut y = x.clone();
        if let Some(activation) = after.activation {
            y = self.activation(&y, activation);
        }
        y = self.dropout(&y, after.dropout);
        if let Some(scale) = after.scale {
            y = self.layer_scale(&y, scale);
        }
        y = self.drop_path(&y, after.drop_path);
        match after.residual {
            Some(residual) => self.add(residual, &y),
            None => y,
        }
    }

    fn product(&self, x: &Tensor, norm: Option<&Norm>, linear: Linear, epilogue: Epilogue<'_>) -> Tensor {
        self.with_product(x, norm, linear, epilogue, |gemm| {
            Tensor::filled(self.device, x.shape().with_last(gemm.columns), |out| gemm.run(self.device, out))
        })
    }

    /// The product of a linear map, to be run.
    pub(super) fn with_product<R>(
        &self,
        x: &Tensor,
        norm: Option<&Norm>,
        linear: Linear,
        epilogue: Epilogue<'_>,
        run: impl FnOnce(Gemm<'_>) -> R,
    ) -> R {
        let spec = self.parameters.declarations().spec(linear.weight);
        let (columns, depth) = (spec.shape[0], spec.shape[1]);
        assert_eq!(x.shape().last(), depth, "`{}` maps width {depth}, not {:?}", spec.name, x.shape());
        let fresh;
        let panels = match self.parameters.matrix(linear.weight) {
            Matrix::Packed(packed) => packed.panels(),
            Matrix::Flat(values) => {
                let which = (linear.weight, Towards::Output);
                fresh = operand(self.device, self.packs, which, (values, [columns, depth]));
                fresh.panels()
            }
        };
        run(Gemm {
            rows: x.rows(),
            columns,
            depth,
            lhs: Lhs::Rows { data: x.values(), stride: depth },
            norm: norm.map(|norm| norm.on_load(self.parameters)),
            panels,
            epilogue: Epilogue { bias: linear.bias.map(|bias| self.parameters.plain(bias)), ..epilogue },
            accumulate: false,
        })
    }
}

/// `product = lhs · rhs` (or added to it) with operands as they lie in memory.
pub(crate) fn multiply(
    device: &Cpu,
    (rows, depth, columns): (usize, usize, usize),
    lhs: Lhs<'_>,
    rhs: Rhs<'_>,
    product: &mut [f32],
    accumulate: bool,
) {
    let (rhs, epilogue) = (Operand::new(device, rhs, depth, columns), Epilogue::default());
    Gemm { rows, columns, depth, lhs, norm: None, panels: rhs.panels(), epilogue, accumulate }.run(device, product);
}

pub(super) fn backward(linear: Linear, x: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let device = gradients.device;
    let (rows, depth, columns) = (x.rows(), x.shape().last(), grad.shape().last());
    if let Some(sum) = gradients.parameter(linear.weight) {
        let lhs = Lhs::Columns { data: grad.values(), stride: columns };
        let rhs = Rhs::Rows { data: x.values(), stride: depth };
        multiply(device, (columns, rows, depth), lhs, rhs, sum, true);
    }
    if let Some(sum) = linear.bias.and_then(|bias| gradients.parameter(bias)) {
        device.add_row_sums(grad.values(), sum);
    }
    gradients.add(x.node, |g| {
        Tensor::filled(device, x.shape(), |out| {
            let lhs = Lhs::Rows { data: grad.values(), stride: columns };
            let (fresh, kept);
            let panels = match g.parameters.matrix(linear.weight) {
                Matrix::Flat(weight) => {
                    fresh = operand(device, g.packs, (linear.weight, Towards::Input), (weight, [columns, depth]));
                    fresh.panels()
                }
                Matrix::Packed(_) => {
                    kept = g.parameters.transposed(linear.weight);
                    kept.panels()
                }
            };
            let epilogue = Epilogue::default();
            Gemm { rows, columns: depth, depth: columns, lhs, norm: None, panels, epilogue, accumulate: false }
                .run(device, out);
        })
    });
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;
    use crate::ops::NormKind;

    #[test]
    fn equals_pytorch() {
        for (case, activation, scaled) in [
            ("linear", None, false),
            ("linear_gelu", Some(Activation::Gelu), false),
            ("linear_scale_residual", None, true),
            ("linear_gelu_residual", Some(Activation::Gelu), true),
        ] {
            let golden = Golden::load(case);
            let mut check = Check::new();
            let linear =
                Linear { weight: check.golden_matrix(&golden, "weight"), bias: Some(check.golden(&golden, "bias")) };
            let scale = scaled.then(|| check.golden(&golden, "scale"));
            let x = golden.tensor("x");
            let residual = scaled.then(|| golden.tensor("residual"));
            let mut inputs = vec![x];
            inputs.extend(residual);
            check.against(&golden, &inputs, &["x", "residual"], |cx, inputs| {
                cx.linear_with(
                    &inputs[0],
                    None,
                    linear,
                    After { activation, scale, residual: inputs.get(1), ..After::default() },
                )
            });
        }
    }

    #[test]
    fn gradients_are_those_of_differences_and_fusing_keeps_the_bits() {
        for (rows, depth, columns) in [(1, 3, 5), (7, 33, 18), (30, 16, 47)] {
            let mut check = Check::new();
            let linear = Linear { weight: check.matrix(columns, depth), bias: Some(check.vector(columns)) };
            let scale = Some(check.vector(columns));
            let norm = Norm {
                weight: check.vector(depth),
                bias: Some(check.vector(depth)),
                epsilon: 1e-5,
                kind: NormKind::Layer,
            };
            let inputs = [check.input(&[rows, depth]), check.input(&[rows, columns])];
            let forward = |cx: &Context<'_>, inputs: &[Tensor]| {
                let after = After {
                    activation: Some(Activation::GeluTanh),
                    scale,
                    residual: Some(&inputs[1]),
                    ..After::default()
                };
                cx.linear_with(&inputs[0], Some(&norm), linear, after)
            };
            check.differences(&inputs, forward);
            check.fused_equals_recorded(&inputs, forward);
        }
    }
}
