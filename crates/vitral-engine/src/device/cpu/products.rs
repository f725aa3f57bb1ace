//! Linear maps, with the operations fused into them.

use super::kernels::{Gemm, GemmEpilogue, MatrixA, MatrixB, NormOnLoad, PanelKind, ReadyB};
use super::multiply::multiply;
use super::pack_cache::Towards;
use super::parameter::{self, Matrix, matrix, plain};
use super::{Cpu, convolution, values};
use crate::device::backend::{ConvolutionCall, ConvolutionGradients, LinearBackward, LinearCall, NormCall, Products};
use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

impl Products for Cpu {
    fn linear(&self, x: &Tensor, call: &LinearCall<'_>) -> Tensor {
        let (columns, depth) = (call.weight.shape[0], call.weight.shape[1]);
        let fresh;
        let panels = match matrix(call.weight) {
            Matrix::Packed(packed) => packed.panels(),
            Matrix::Flat(weight) => {
                fresh = self.ready(call.weight, weight, Towards::Output);
                fresh.panels()
            }
        };
        let gemm = Gemm {
            rows: x.rows(),
            columns,
            depth,
            a: MatrixA::Rows { data: values(x), stride: depth },
            norm: call.norm.as_ref().map(on_load),
            panels,
            epilogue: GemmEpilogue {
                bias: call.bias.map(plain),
                activation: call.activation,
                scale: call.scale.map(plain),
                residual: call.residual.map(values),
            },
            accumulate: false,
        };
        match self.split_queries(x, call.weight, call.queries) {
            Some(split) => split.forward(self, x, gemm),
            None => self.tensor(x.shape().with_last(columns), |out| gemm.run(&self.processor, out)),
        }
    }

    fn linear_backward(&self, x: &Tensor, grad: &Tensor, call: LinearBackward<'_>) -> Option<Tensor> {
        // A packed weight's transpose is kept whole. What was not asked has no gradient.
        if let (Some(split), Matrix::Flat(weight)) =
            (self.split_queries(x, call.weight, call.queries), matrix(call.weight))
        {
            return split.backward(self, x, grad, weight, call);
        }
        let cpu = &self.processor;
        let (rows, depth, columns) = (x.rows(), x.shape().last(), grad.shape().last());
        let LinearBackward { weight, gradients, weight_range, bias_range, input, .. } = call;
        if let Some(gradients) = gradients {
            let sums = gradients.cpu_mut();
            if let Some(range) = weight_range {
                let a = MatrixA::Columns { data: values(grad), stride: columns };
                let b = MatrixB::Rows { data: values(x), stride: depth };
                let (b, epilogue) = (ReadyB::of(cpu, self.panel_kind(), b, rows, depth), GemmEpilogue::default());
                let product = Gemm {
                    rows: columns,
                    columns: depth,
                    depth: rows,
                    a,
                    norm: None,
                    panels: b.panels(),
                    epilogue,
                    accumulate: true,
                };
                product.run(cpu, &mut sums[range]);
            }
            if let Some(range) = bias_range {
                cpu.add_row_sums(values(grad), &mut sums[range]);
            }
        }
        input.then(|| {
            self.tensor(x.shape(), |out| {
                let a = MatrixA::Rows { data: values(grad), stride: columns };
                let (fresh, kept);
                let panels = match matrix(weight) {
                    Matrix::Flat(data) => {
                        fresh = self.ready(weight, data, Towards::Input);
                        fresh.panels()
                    }
                    Matrix::Packed(_) => {
                        kept = parameter::transposed(self, weight);
                        kept.panels()
                    }
                };
                let epilogue = GemmEpilogue::default();
                Gemm { rows, columns: depth, depth: columns, a, norm: None, panels, epilogue, accumulate: false }
                    .run(cpu, out);
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

/// A norm as rows of `A` are copied.
pub(super) fn on_load<'a>(norm: &NormCall<'a>) -> NormOnLoad<'a> {
    NormOnLoad { weight: plain(norm.weight), bias: norm.bias.map(plain), epsilon: norm.epsilon, rms: norm.rms }
}

impl Cpu {
    /// A trainable matrix as `B` of a product: packed together with the other passes of a step, if there are any.
    fn ready<'a>(&self, parameter: ParameterView<'_>, data: &'a [f32], towards: Towards) -> ReadyB<'a> {
        let (out, width) = (parameter.shape[0], parameter.shape[1]);
        let (b, depth, columns) = match towards {
            Towards::Output => (MatrixB::Columns { data, stride: width }, width, out),
            Towards::Input => (MatrixB::Rows { data, stride: width }, out, width),
        };
        let cpu = &self.processor;
        let kind = self.panel_kind();
        match &self.packs {
            Some(packs) => ReadyB::or_packed(cpu.isa(), kind, b, columns, || {
                packs.packed(cpu, (parameter.index, towards), kind, (b, depth, columns))
            }),
            None => ReadyB::of(cpu, kind, b, depth, columns),
        }
    }

    /// What matrices that may change are packed in.
    fn panel_kind(&self) -> PanelKind {
        if self.rounds_to_bf16() { PanelKind::Bf16 } else { PanelKind::Float }
    }

    /// How a map to queries, keys and values is split if few queries are used; `None` if it is computed whole.
    fn split_queries(&self, x: &Tensor, weight: ParameterView<'_>, queries: Option<usize>) -> Option<SplitQueries> {
        let inner = weight.shape[0] / 3;
        // Keys must begin a panel.
        let queries = queries.filter(|_| x.extent(0) > 0 && inner.is_multiple_of(self.processor.isa().panel()))?;
        let [batch, tokens, depth] = x.shape()[..] else {
            panic!("tokens are [batch, tokens, …], not {:?}", x.shape())
        };
        Some(SplitQueries { batch, tokens, depth, inner, queries })
    }
}

/// Queries of the first tokens alone, keys and values of all.
#[derive(Clone, Copy)]
struct SplitQueries {
    batch: usize,
    tokens: usize,
    depth: usize,
    inner: usize,
    queries: usize,
}

impl SplitQueries {
    fn forward(self, device: &Cpu, x: &Tensor, whole: Gemm<'_>) -> Tensor {
        let SplitQueries { batch, tokens, depth, inner, queries } = self;
        let cpu = &device.processor;
        let of = |columns: std::ops::Range<usize>| Gemm {
            columns: columns.len(),
            panels: whole.panels.columns(cpu.isa(), depth, columns.clone()),
            epilogue: GemmEpilogue { bias: whole.epilogue.bias.map(|bias| &bias[columns]), ..whole.epilogue },
            ..whole
        };
        device.tensor(x.shape().with_last(3 * inner), |out| {
            of(inner..3 * inner).run_strided(cpu, &mut out[inner..], 3 * inner);
            for sample in out.chunks_exact_mut(tokens * 3 * inner) {
                sample.chunks_exact_mut(3 * inner).skip(queries).for_each(|token| token[..inner].fill(0.0));
            }
            for token in 0..queries {
                let a = MatrixA::Rows { data: &values(x)[token * depth..], stride: tokens * depth };
                Gemm { rows: batch, a, ..of(0..inner) }.run_strided(
                    cpu,
                    &mut out[token * 3 * inner..],
                    tokens * 3 * inner,
                );
            }
        })
    }

    fn backward(
        self,
        device: &Cpu,
        x: &Tensor,
        grad: &Tensor,
        weight: &[f32],
        call: LinearBackward<'_>,
    ) -> Option<Tensor> {
        let SplitQueries { batch, tokens, depth, inner, queries } = self;
        let cpu = &device.processor;
        let LinearBackward { gradients, weight_range, bias_range, input, .. } = call;
        let (rows, columns) = (batch * tokens, 3 * inner);
        let (x_values, grad_values) = (values(x), values(grad));
        let of_token = |token: usize| (&x_values[token * depth..], &grad_values[token * columns..]);
        if let Some(gradients) = gradients {
            let sums = gradients.cpu_mut();
            if let Some(range) = weight_range {
                let (of_queries, of_others) = sums[range].split_at_mut(inner * depth);
                let a = MatrixA::Columns { data: &grad_values[inner..], stride: columns };
                let b = MatrixB::Rows { data: x_values, stride: depth };
                multiply(cpu, (2 * inner, rows, depth), a, b, of_others, true);
                for (x, grad) in (0..queries).map(of_token) {
                    let a = MatrixA::Columns { data: grad, stride: tokens * columns };
                    let b = MatrixB::Rows { data: x, stride: tokens * depth };
                    multiply(cpu, (inner, batch, depth), a, b, of_queries, true);
                }
            }
            if let Some(range) = bias_range {
                cpu.add_row_sums(grad_values, &mut sums[range]);
            }
        }
        input.then(|| {
            let (of_queries, of_others) = weight.split_at(inner * depth);
            device.tensor(x.shape(), |out| {
                let a = MatrixA::Rows { data: &grad_values[inner..], stride: columns };
                let b = MatrixB::Rows { data: of_others, stride: depth };
                multiply(cpu, (rows, 2 * inner, depth), a, b, out, false);
                let b = ReadyB::new(cpu, MatrixB::Rows { data: of_queries, stride: depth }, inner, depth);
                for (token, (_, grad)) in (0..queries).map(of_token).enumerate() {
                    let gemm = Gemm {
                        rows: batch,
                        columns: depth,
                        depth: inner,
                        a: MatrixA::Rows { data: grad, stride: tokens * columns },
                        norm: None,
                        panels: b.panels(),
                        epilogue: GemmEpilogue::default(),
                        accumulate: true,
                    };
                    gemm.run_strided(cpu, &mut out[token * depth..], tokens * depth);
                }
            })
        })
    }
}
