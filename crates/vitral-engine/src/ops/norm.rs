//! LayerNorm, RMSNorm, batch norm, and the norm of queries and keys.

use crate::arena::ParameterId;
use crate::device::backend::{ChannelNormCall, NormCall, Segments};
use crate::device::storage::ParameterView;
use crate::tape::{Context, Gradients};
use crate::tensor::Tensor;

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance (arXiv:1607.06450).
    Layer,
    /// Root mean square (arXiv:1910.07467).
    Rms,
}

/// A norm over the innermost extent.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// `[width]`.
    pub weight: ParameterId,
    /// `[width]`.
    pub bias: Option<ParameterId>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Layer or RMS.
    pub kind: NormKind,
}

impl Norm {
    pub(super) fn call<'a>(&self, view: impl Fn(ParameterId) -> ParameterView<'a>) -> NormCall<'a> {
        NormCall {
            weight: view(self.weight),
            bias: self.bias.map(&view),
            epsilon: self.epsilon,
            rms: self.kind == NormKind::Rms,
        }
    }
}

/// A norm of channels whose statistics are given: batch norm in inference.
#[derive(Clone, Copy, Debug)]
pub struct ChannelNorm {
    /// `[channels]`.
    pub weight: ParameterId,
    /// `[channels]`.
    pub bias: ParameterId,
    /// Running mean, `[channels]`.
    pub mean: ParameterId,
    /// Running variance, `[channels]`.
    pub variance: ParameterId,
    /// Added to the variance.
    pub epsilon: f32,
}

impl ChannelNorm {
    fn call<'a>(&self, view: impl Fn(ParameterId) -> ParameterView<'a>) -> ChannelNormCall<'a> {
        ChannelNormCall {
            weight: view(self.weight),
            bias: view(self.bias),
            mean: view(self.mean),
            variance: view(self.variance),
            epsilon: self.epsilon,
        }
    }
}

impl Context<'_> {
    /// A norm over the innermost extent of `x`, `[…, width]`.
    ///
    /// # Panics
    /// If the norm is of another width.
    pub fn norm(&self, x: &Tensor, norm: &Norm) -> Tensor {
        let width = self.view(norm.weight).count();
        assert_eq!(x.shape().last(), width, "a norm of width {width} over {:?}", x.shape());
        self.norm_segments(x, vec![(*norm, Segments::whole(width))])
    }

    /// Normalizes queries and keys per head, in packed `qkv`, `[…, 3 · heads · head width]`; values pass through.
    ///
    /// # Panics
    /// If the norms are not as wide as a head.
    pub fn norm_queries_and_keys(&self, qkv: &Tensor, heads: usize, query: &Norm, key: &Norm) -> Tensor {
        let width = self.view(query.weight).count();
        assert_eq!(qkv.shape().last(), 3 * heads * width, "{heads} heads of width {width} in {:?}", qkv.shape());
        let segments = |first| Segments { width, per_group: 3 * heads, first, count: heads };
        self.norm_segments(qkv, vec![(*query, segments(0)), (*key, segments(heads))])
    }

    fn norm_segments(&self, x: &Tensor, norms: Vec<(Norm, Segments)>) -> Tensor {
        let calls: Vec<_> = norms.iter().map(|(norm, which)| (norm.call(|id| self.view(id)), *which)).collect();
        let output = self.backend().norm(x, &calls);
        let saved = x.clone();
        let parameters = norms.iter().flat_map(|(norm, _)| std::iter::once(norm.weight).chain(norm.bias));
        let needed = self.depends(x, parameters);
        self.record(output, needed, || Box::new(move |grad, gradients| backward(&norms, &saved, grad, gradients)))
    }

    /// Batch norm with its running statistics, over the innermost extent (channels last). Its statistics get no
    /// gradient.
    ///
    /// # Panics
    /// If the number of channels differs.
    pub fn batch_norm(&self, x: &Tensor, norm: &ChannelNorm) -> Tensor {
        let width = self.view(norm.weight).count();
        assert_eq!(x.shape().last(), width, "a batch norm of {width} channels over {:?}", x.shape());
        let output = self.backend().batch_norm(x, &norm.call(|id| self.view(id)));
        let (norm, saved) = (*norm, x.clone());
        self.record(output, self.depends(x, [norm.weight, norm.bias]), || {
            Box::new(move |grad, gradients| {
                let (backend, call) = (gradients.backend(), norm.call(|id| gradients.view(id)));
                let ranges = [norm.weight, norm.bias].map(|id| gradients.range(id));
                let gradient = backend.batch_norm_backward(&saved, grad, &call, gradients.flat(), ranges);
                gradients.add_made(saved.node, Some(gradient));
            })
        })
    }
}

fn backward(norms: &[(Norm, Segments)], x: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let backend = gradients.backend();
    let calls: Vec<_> = norms.iter().map(|(norm, which)| (norm.call(|id| gradients.view(id)), *which)).collect();
    let ranges: Vec<_> = norms
        .iter()
        .map(|(norm, _)| [gradients.range(norm.weight), norm.bias.and_then(|bias| gradients.range(bias))])
        .collect();
    let gradient = match gradients.take(x.node) {
        Some(sum) => backend.norm_backward_onto(x, grad, &calls, gradients.flat(), &ranges, &sum.reshape(x.shape())),
        None => backend.norm_backward(x, grad, &calls, gradients.flat(), &ranges),
    };
    gradients.add_made(x.node, Some(gradient));
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equal_pytorch() {
        for (case, kind, epsilon) in [
            ("layer_norm_40", NormKind::Layer, 1e-6),
            ("layer_norm_37", NormKind::Layer, 1e-6),
            ("layer_norm_1e_12", NormKind::Layer, 1e-12),
            ("rms_norm_37", NormKind::Rms, 1e-6),
            ("rms_norm_40", NormKind::Rms, 1e-6),
        ] {
            let golden = Golden::load(case);
            let mut check = Check::new();
            let weight = check.golden(&golden, "weight");
            let bias = (kind == NormKind::Layer).then(|| check.golden(&golden, "bias"));
            let norm = Norm { weight, bias, epsilon, kind };
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.norm(&x[0], &norm));
        }
    }

    #[test]
    fn batch_norm_equals_pytorch() {
        let golden = Golden::load("batch_norm").channels_last();
        let mut check = Check::new();
        let [weight, bias, mean, variance] =
            ["weight", "bias", "mean", "variance"].map(|name| check.golden(&golden, name));
        let norm = ChannelNorm { weight, bias, mean, variance, epsilon: 1e-5 };
        check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.batch_norm(&x[0], &norm));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for (rows, width) in [(1, 2), (5, 19), (3, 64)] {
            for kind in [NormKind::Layer, NormKind::Rms] {
                let mut check = Check::new();
                let weight = check.vector(width);
                let bias = (kind == NormKind::Layer).then(|| check.vector(width));
                let norm = Norm { weight, bias, epsilon: 1e-3, kind };
                check.differences(&[check.input(&[rows, width])], |cx, x| cx.norm(&x[0], &norm));
            }
        }
    }

    #[test]
    fn queries_and_keys_are_normed_and_values_are_not() {
        let mut check = Check::new();
        let norm = |check: &mut Check| Norm {
            weight: check.vector(6),
            bias: Some(check.vector(6)),
            epsilon: 1e-3,
            kind: NormKind::Layer,
        };
        let (query, key) = (norm(&mut check), norm(&mut check));
        let x = check.input(&[4, 36]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.norm_queries_and_keys(&x[0], 2, &query, &key));
        let y = check.run(std::slice::from_ref(&x), |cx, x| cx.norm_queries_and_keys(&x[0], 2, &query, &key));
        for (x, y) in x.values().chunks(36).zip(y.values().chunks(36)) {
            assert_eq!(x[24..], y[24..]);
            assert_ne!(x[..24], y[..24]);
        }
    }
}
