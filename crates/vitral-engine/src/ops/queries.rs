//! Queries, keys and values of one packed linear map, where only the first tokens of every sample ask.

use super::linear::{self, Linear};
use super::{After, Norm};
use crate::arena::Matrix;
use crate::device::cpu::kernels::{Epilogue, Gemm, Lhs, Operand, Rhs};
use crate::tape::{Context, Gradients};
use crate::tensor::Tensor;

impl Context<'_> {
    /// Queries, keys and values of `norm(x)`, `[batch, tokens, in]` to `[batch, tokens, 3 · inner]`. Where only the first
    /// `queries` tokens of every sample ask, the queries of the others are not computed: they are 0 (or whatever the whole map
    /// gives), and nobody may ask with them. The rest has the bits of the whole map.
    pub fn queries_keys_values(
        &self,
        x: &Tensor,
        norm: Option<&Norm>,
        linear: Linear,
        queries: Option<usize>,
    ) -> Tensor {
        let spec = self.parameters.declarations().spec(linear.weight);
        let inner = spec.shape[0] / 3;
        let whole = self.parameters.adapter(linear.weight).is_some() || x.extent(0) == 0;
        // Keys must begin a panel.
        let Some(queries) = queries.filter(|_| !whole && inner.is_multiple_of(self.device.isa().panel())) else {
            return self.linear_with(x, norm, linear, After::default());
        };
        let [batch, tokens, depth] = x.shape()[..] else {
            panic!("tokens are [batch, tokens, …], not {:?}", x.shape())
        };
        if self.is_recording() {
            let normed = norm.map_or_else(|| x.clone(), |norm| self.norm(x, norm));
            let output = self.split_product(&normed, None, linear, (inner, queries));
            let needed = self.depends(&normed, std::iter::once(linear.weight).chain(linear.bias));
            let asked = Asked { batch, tokens, depth, inner, queries };
            return self.record(output, needed, || {
                Box::new(move |grad, gradients| asked.backward(linear, &normed, grad, gradients))
            });
        }
        self.split_product(x, norm, linear, (inner, queries))
    }

    fn split_product(
        &self,
        x: &Tensor,
        norm: Option<&Norm>,
        linear: Linear,
        (inner, queries): (usize, usize),
    ) -> Tensor {
        let [batch, tokens, depth] = x.shape()[..] else { unreachable!("checked by the caller") };
        self.with_product(x, norm, linear, Epilogue::default(), |whole| {
            let isa = self.device.isa();
            let of = |columns: std::ops::Range<usize>| Gemm {
                columns: columns.len(),
                panels: whole.panels.columns(isa, depth, columns.clone()),
                epilogue: Epilogue { bias: whole.epilogue.bias.map(|bias| &bias[columns]), ..whole.epilogue },
                ..whole
            };
            Tensor::filled(self.device, x.shape().with_last(3 * inner), |out| {
                of(inner..3 * inner).run_strided(self.device, &mut out[inner..], 3 * inner);
                for sample in out.chunks_exact_mut(tokens * 3 * inner) {
                    sample.chunks_exact_mut(3 * inner).skip(queries).for_each(|token| token[..inner].fill(0.0));
                }
                for token in 0..queries {
                    let lhs = Lhs::Rows { data: &x.values()[token * depth..], stride: tokens * depth };
                    Gemm { rows: batch, lhs, ..of(0..inner) }.run_strided(
                        self.device,
                        &mut out[token * 3 * inner..],
                        tokens * 3 * inner,
                    );
                }
            })
        })
    }
}

/// Extents of one call.
#[derive(Clone, Copy)]
struct Asked {
    batch: usize,
    tokens: usize,
    depth: usize,
    inner: usize,
    queries: usize,
}

impl Asked {
    fn backward(self, linear: Linear, x: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
        let Asked { batch, tokens, depth, inner, queries } = self;
        let device = gradients.device;
        if matches!(gradients.parameters.matrix(linear.weight), Matrix::Packed(_)) {
            // Its transpose is kept whole. What was not asked has no gradient.
            return linear::backward(linear, x, grad, gradients);
        }
        let (rows, columns) = (batch * tokens, 3 * inner);
        let of_token = |token: usize| (&x.values()[token * depth..], &grad.values()[token * columns..]);
        if let Some(sum) = gradients.parameter(linear.weight) {
            let (of_queries, of_others) = sum.split_at_mut(inner * depth);
            let lhs = Lhs::Columns { data: &grad.values()[inner..], stride: columns };
            let rhs = Rhs::Rows { data: x.values(), stride: depth };
            linear::multiply(device, (2 * inner, rows, depth), lhs, rhs, of_others, true);
            for (x, grad) in (0..queries).map(of_token) {
                let lhs = Lhs::Columns { data: grad, stride: tokens * columns };
                let rhs = Rhs::Rows { data: x, stride: tokens * depth };
                linear::multiply(device, (inner, batch, depth), lhs, rhs, of_queries, true);
            }
        }
        if let Some(sum) = linear.bias.and_then(|bias| gradients.parameter(bias)) {
            device.add_row_sums(grad.values(), sum);
        }
        gradients.add(x.node, |g| {
            let Matrix::Flat(weight) = g.parameters.matrix(linear.weight) else { unreachable!("told above") };
            let (of_queries, of_others) = weight.split_at(inner * depth);
            Tensor::filled(device, x.shape(), |out| {
                let lhs = Lhs::Rows { data: &grad.values()[inner..], stride: columns };
                let rhs = Rhs::Rows { data: of_others, stride: depth };
                linear::multiply(device, (rows, 2 * inner, depth), lhs, rhs, out, false);
                let rhs = Operand::new(device, Rhs::Rows { data: of_queries, stride: depth }, inner, depth);
                for (token, (_, grad)) in (0..queries).map(of_token).enumerate() {
                    let gemm = Gemm {
                        rows: batch,
                        columns: depth,
                        depth: inner,
                        lhs: Lhs::Rows { data: grad, stride: tokens * columns },
                        norm: None,
                        panels: rhs.panels(),
                        epilogue: Epilogue::default(),
                        accumulate: true,
                    };
                    gemm.run_strided(device, &mut out[token * depth..], tokens * depth);
                }
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::NormKind;
    use super::super::check::Check;
    use super::*;

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
            let some =
                |cx: &Context<'_>, x: &[Tensor]| cx.queries_keys_values(&x[0], Some(&norm), linear, Some(queries));
            check.fused_equals_recorded(&x, some);
            let some = check.run(&x, some);
            let all = check.run(&x, |cx, x| cx.queries_keys_values(&x[0], Some(&norm), linear, None));
            let pairs = some.values().chunks_exact(3 * inner).zip(all.values().chunks_exact(3 * inner));
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
        let y =
            check.run(&[check.tensor(&[0, 3, 4], &[])], |cx, x| cx.queries_keys_values(&x[0], None, linear, Some(1)));
        assert_eq!(y.shape()[..], [0, 3, 96]);
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for (inner, queries) in [(INNER[0], 1), (INNER[0], 2)] {
            let (batch, tokens, depth) = (2, 3, 4);
            let mut check = Check::new();
            let linear = Linear { weight: check.matrix(3 * inner, depth), bias: Some(check.vector(3 * inner)) };
            let x = check.input(&[batch, tokens, depth]);
            // Through the queries that ask alone: nobody may ask with the others.
            check.differences(&[x], |cx, x| {
                let qkv = cx.queries_keys_values(&x[0], None, linear, Some(queries));
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
}
