//! Linear maps, with the norm before and the operations after them fused in when backward does not need the
//! intermediate results.

use super::Norm;
use crate::activation::Activation;
use crate::arena::{Adapter, ParameterId};
use crate::device::backend::{LinearBackward, LinearCall};
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
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
    ///
    /// # Panics
    /// If the innermost extent is not the map's input width.
    pub fn linear(&self, x: &Tensor, linear: Linear) -> Tensor {
        self.recorded_linear(x, linear, None)
    }

    /// A linear map with the norm before it and what comes after it.
    ///
    /// In inference it is one pass, fused as far as the device can. While recording, it is the same operations one by
    /// one; a test holds the two to the same bits.
    ///
    /// # Panics
    /// As [`Context::linear`].
    pub fn linear_with(&self, x: &Tensor, norm: Option<&Norm>, linear: Linear, epilogue: Epilogue<'_>) -> Tensor {
        let adapted = self.parameters.adapter(linear.weight).is_some();
        if self.is_recording() || adapted {
            let normed = norm.map(|norm| self.norm(x, norm));
            if let Some(residual) = epilogue.residual.filter(|_| !adapted && self.only_adds(&epilogue)) {
                return self.recorded_linear_onto(normed.as_ref().unwrap_or(x), linear, residual);
            }
            return self.epilogue(&self.linear(normed.as_ref().unwrap_or(x), linear), epilogue);
        }
        self.checked(x, linear);
        self.name_input(x, norm, linear);
        self.backend().linear(
            x,
            &LinearCall {
                weight: self.view(linear.weight),
                bias: linear.bias.map(|bias| self.view(bias)),
                norm: norm.map(|norm| norm.call(|id| self.view(id))),
                activation: epilogue.activation,
                scale: epilogue.scale.map(|scale| self.view(scale)),
                residual: epilogue.residual,
                queries: None,
            },
        )
    }

    /// Packed queries, keys and values of `norm(x)`, `[batch, tokens, in]` to `[batch, tokens, 3 · inner]`. Where only
    /// the first `queries` tokens of every sample ask, the queries of the others need not be computed: they are
    /// anything finite, and must not be used. The others have the bits of the whole map.
    ///
    /// # Panics
    /// As [`Context::linear`].
    pub fn qkv(&self, x: &Tensor, norm: Option<&Norm>, linear: Linear, queries: Option<usize>) -> Tensor {
        let whole = self.parameters.adapter(linear.weight).is_some();
        let Some(queries) = queries.filter(|_| !whole) else {
            return self.linear_with(x, norm, linear, Epilogue::default());
        };
        if self.is_recording() {
            let normed = norm.map_or_else(|| x.clone(), |norm| self.norm(x, norm));
            return self.recorded_linear(&normed, linear, Some(queries));
        }
        self.checked(x, linear);
        self.name_input(x, norm, linear);
        self.backend().linear(x, &self.plain_call(linear, norm, Some(queries)))
    }

    /// The operations after a linear map, one at a time.
    pub fn epilogue(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Tensor {
        let mut y = x.clone();
        if let Some(activation) = epilogue.activation {
            y = self.activation(&y, activation);
        }
        y = self.dropout(&y, epilogue.dropout);
        if let Some(scale) = epilogue.scale {
            y = self.layer_scale(&y, scale);
        }
        y = self.drop_path(&y, epilogue.drop_path);
        match epilogue.residual {
            Some(residual) => self.add(residual, &y),
            None => y,
        }
    }

    /// Whether nothing comes between a linear map and its residual.
    fn only_adds(&self, epilogue: &Epilogue<'_>) -> bool {
        let drops = self.is_training() && (epilogue.dropout > 0.0 || epilogue.drop_path > 0.0);
        epilogue.activation.is_none() && epilogue.scale.is_none() && !drops
    }

    /// `residual + x Wᵀ + b`, in one pass: backward needs nothing of what comes between.
    fn recorded_linear_onto(&self, x: &Tensor, linear: Linear, residual: &Tensor) -> Tensor {
        self.checked(x, linear);
        // Dropout and drop path drop nothing here, but have their numbers among the pass's random operations.
        let _ = (self.draw(), self.draw());
        let call = LinearCall { residual: Some(residual), ..self.plain_call(linear, None, None) };
        let output = self.backend().linear(x, &call);
        let (saved, node) = (x.clone(), residual.node);
        let trained = self.depends(x, std::iter::once(linear.weight).chain(linear.bias));
        self.record(output, trained || node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |_| grad.clone());
                if trained {
                    backward(linear, None, &saved, grad, gradients);
                }
            })
        })
    }

    /// Names what a linear map multiplies, after its norm: the weight's name with `input` in place of `weight`. It is only
    /// computed where somebody wants it.
    fn name_input(&self, x: &Tensor, norm: Option<&Norm>, linear: Linear) {
        if !self.is_observed() {
            return;
        }
        let weight = &self.parameters.declarations().spec(linear.weight).name;
        let name = || format!("{}.input", weight.strip_suffix(".weight").unwrap_or(weight));
        if self.wants(&name()) {
            match norm {
                Some(norm) => self.name(&self.norm(x, norm), name),
                None => self.name(x, name),
            }
        }
    }

    fn checked(&self, x: &Tensor, linear: Linear) {
        let spec = self.parameters.declarations().spec(linear.weight);
        let depth = spec.shape[1];
        assert_eq!(x.shape().last(), depth, "`{}` maps width {depth}, not {:?}", spec.name, x.shape());
    }

    fn plain_call(&self, linear: Linear, norm: Option<&Norm>, queries: Option<usize>) -> LinearCall<'_> {
        LinearCall {
            weight: self.view(linear.weight),
            bias: linear.bias.map(|bias| self.view(bias)),
            norm: norm.map(|norm| norm.call(|id| self.view(id))),
            activation: None,
            scale: None,
            residual: None,
            queries,
        }
    }

    fn recorded_linear(&self, x: &Tensor, linear: Linear, queries: Option<usize>) -> Tensor {
        self.checked(x, linear);
        let output = self.backend().linear(x, &self.plain_call(linear, None, queries));
        let saved = x.clone();
        let needed = self.depends(x, std::iter::once(linear.weight).chain(linear.bias));
        let output = self.record(output, needed, || {
            Box::new(move |grad, gradients| backward(linear, queries, &saved, grad, gradients))
        });
        match self.parameters.adapter(linear.weight) {
            Some(adapter) => self.adapted(x, &output, adapter),
            None => output,
        }
    }

    /// A low-rank update beside a frozen linear map (LoRA, arXiv:2106.09685): `output + scale · (dropout(x) downᵀ)
    /// upᵀ`, where `output` is what the map itself makes of `x`. The factor acts on the narrow middle, where it is
    /// cheapest.
    pub(crate) fn adapted(&self, x: &Tensor, output: &Tensor, adapter: Adapter) -> Tensor {
        let map = |weight| Linear { weight, bias: None };
        let narrow = self.linear(&self.dropout(x, adapter.dropout), map(adapter.down));
        let update = self.linear(&self.scale(&narrow, adapter.scale), map(adapter.up));
        self.add(output, &update)
    }
}

fn backward(linear: Linear, queries: Option<usize>, x: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let (backend, weight) = (gradients.backend(), gradients.view(linear.weight));
    let weight_range = gradients.range(linear.weight);
    let bias_range = linear.bias.and_then(|bias| gradients.range(bias));
    let input = gradients.wants(x.node);
    let flat = gradients.flat();
    let call = LinearBackward { weight, queries, gradients: flat, weight_range, bias_range, input };
    let gradient = backend.linear_backward(x, grad, call);
    gradients.add_made(x.node, gradient);
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
                    Epilogue { activation, scale, residual: inputs.get(1), ..Epilogue::default() },
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
                let after = Epilogue {
                    activation: Some(Activation::GeluTanh),
                    scale,
                    residual: Some(&inputs[1]),
                    ..Epilogue::default()
                };
                cx.linear_with(&inputs[0], Some(&norm), linear, after)
            };
            check.differences(&inputs, forward);
            check.fused_equals_recorded(&inputs, forward);
        }
    }

    /// A width of heads that any instruction set splits, and one that none does.
    const INNER: [usize; 2] = [32, 5];

    #[test]
    fn what_is_computed_has_the_bits_of_the_whole_map() {
        for (inner, queries) in [(INNER[0], 1), (INNER[0], 2), (INNER[0], 9), (INNER[1], 1)] {
            let (batch, tokens, depth) = (3, 9, 19);
            let mut check = Check::new();
            let linear = Linear { weight: check.matrix(3 * inner, depth), bias: Some(check.vector(3 * inner)) };
            let norm = Norm {
                weight: check.vector(depth),
                bias: Some(check.vector(depth)),
                epsilon: 1e-5,
                kind: NormKind::Layer,
            };
            let x = [check.input(&[batch, tokens, depth])];
            let some = |cx: &Context<'_>, x: &[Tensor]| cx.qkv(&x[0], Some(&norm), linear, Some(queries));
            check.fused_equals_recorded(&x, some);
            let some = check.run_on_cpu(&x, some);
            let all = check.run(&x, |cx, x| cx.qkv(&x[0], Some(&norm), linear, None));
            let (some, all) = (some.values(), all.values());
            let pairs = some.chunks_exact(3 * inner).zip(all.chunks_exact(3 * inner));
            for (row, (some, all)) in pairs.enumerate() {
                assert_eq!(some[inner..], all[inner..], "keys and values of row {row}");
                if row % tokens < queries {
                    assert_eq!(some[..inner], all[..inner], "queries of row {row}");
                } else if inner == INNER[0] {
                    assert!(some[..inner].iter().all(|&value| value == 0.0), "row {row} does not ask");
                }
            }
        }
    }

    #[test]
    fn nothing_of_an_empty_batch() {
        let mut check = Check::new();
        let linear = Linear { weight: check.matrix(96, 4), bias: Some(check.vector(96)) };
        let y = check.run(&[check.tensor(&[0, 3, 4], &[])], |cx, x| cx.qkv(&x[0], None, linear, Some(1)));
        assert_eq!(y.shape()[..], [0, 3, 96]);
    }

    #[test]
    fn gradients_with_few_queries_are_those_of_differences() {
        for (inner, queries) in [(INNER[0], 1), (INNER[0], 2)] {
            let (batch, tokens, depth) = (2, 3, 4);
            let mut check = Check::new();
            let linear = Linear { weight: check.matrix(3 * inner, depth), bias: Some(check.vector(3 * inner)) };
            let x = check.input(&[batch, tokens, depth]);
            // Only through the queries that are used.
            check.differences(&[x], |cx, x| {
                let qkv = cx.qkv(&x[0], None, linear, Some(queries));
                let call = super::super::Attention {
                    heads: 4,
                    scale: 0.4,
                    key_mask: None,
                    bias: None,
                    dropout: 0.0,
                    queries: Some(queries),
                    capture: false,
                };
                cx.attention(&qkv, call).output
            });
        }
    }

    #[test]
    fn a_low_rank_update_is_the_product_and_its_gradients_are_those_of_differences() {
        for (rows, depth, columns, rank, dropout) in [(5, 7, 6, 2, 0.0), (3, 20, 17, 5, 0.0), (4, 9, 8, 3, 0.4)] {
            let mut check = Check::new();
            let linear = Linear { weight: check.matrix(columns, depth), bias: Some(check.vector(columns)) };
            let (down, up) = (check.matrix(rank, depth), check.matrix(columns, rank));
            check.adapt(linear.weight, Adapter { down, up, scale: 0.5, dropout });
            let input = check.input(&[rows, depth]);
            let forward = |cx: &Context<'_>, inputs: &[Tensor]| cx.linear(&inputs[0], linear);
            check.differences_in_training(std::slice::from_ref(&input), forward);
            check.fused_equals_recorded(std::slice::from_ref(&input), forward);

            let found = check.run(std::slice::from_ref(&input), forward);
            let [weight, bias, down, up] =
                [linear.weight, linear.bias.expect("given"), down, up].map(|id| check.values(id));
            for (row, x) in input.values().chunks_exact(depth).enumerate() {
                for out in 0..columns {
                    let merged = |i: usize| {
                        let update: f32 = (0..rank).map(|r| up[out * rank + r] * down[r * depth + i]).sum();
                        weight[out * depth + i] + 0.5 * update
                    };
                    let expected = bias[out] + (0..depth).map(|i| merged(i) * x[i]).sum::<f32>();
                    let found = found.values()[row * columns + out];
                    assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} for {expected}");
                }
            }
        }
    }
}
