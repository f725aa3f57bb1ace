//! LayerNorm, RMSNorm, and the norm of queries and keys.

use crate::arena::{ParameterId, Parameters};
use crate::device::cpu::kernels::{Kernel, Lanes, NormOnLoad, SharedMut};
use crate::device::cpu::{Cpu, math};
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

impl Norm {
    pub(crate) fn on_load<'a>(&self, parameters: &'a Parameters) -> NormOnLoad<'a> {
        NormOnLoad {
            weight: parameters.plain(self.weight),
            bias: self.bias.map(|bias| parameters.plain(bias)),
            epsilon: self.epsilon,
            rms: self.kind == NormKind::Rms,
        }
    }
}

/// Segments of width `width`: `first, first + 1, … first + count − 1` of every group of `per_group`.
#[derive(Clone, Copy)]
struct Segments {
    width: usize,
    per_group: usize,
    first: usize,
    count: usize,
}

impl Segments {
    fn whole(width: usize) -> Self {
        Segments { width, per_group: 1, first: 0, count: 1 }
    }

    fn holds(&self, segment: usize) -> bool {
        (self.first..self.first + self.count).contains(&(segment % self.per_group))
    }
}

struct Forward<'a> {
    norm: NormOnLoad<'a>,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.norm.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let statistics = math::row_statistics(l, x, self.norm.epsilon, self.norm.rms);
            math::normalise_row(l, x, statistics, self.norm.weight, self.norm.bias, out);
        }
    }
}

/// `dx = r (w∘g − mean(w∘g) − x̂ mean(w∘g∘x̂))`, and `x̂ ∘ g` for the weight; RMS norm lacks the mean.
struct Pull<'a> {
    norm: NormOnLoad<'a>,
    x: &'a [f32],
    grad: &'a [f32],
    out: &'a mut [f32],
    /// `x̂ ∘ g`, to be summed over rows.
    weight: &'a mut [f32],
}

impl Kernel for Pull<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (mean, reciprocal) = math::row_statistics(l, self.x, self.norm.epsilon, self.norm.rms);
        let (shift, factor) = (l.splat(mean), l.splat(reciprocal));
        let count = self.x.len() as f32;
        let (mut sum, mut projection) = (l.splat(0.0), l.splat(0.0));
        for start in (0..self.x.len()).step_by(L::N) {
            let normed = l.mul(l.sub(l.load_part(&self.x[start..]), shift), factor);
            let grad = l.load_part(&self.grad[start..]);
            let pulled = l.mul(grad, l.load_part(&self.norm.weight[start..]));
            sum = l.add(sum, pulled);
            projection = l.fma(pulled, normed, projection);
            l.store_part(&mut self.weight[start..], l.mul(normed, grad));
        }
        let mean = l.splat(if self.norm.rms { 0.0 } else { l.sum(sum) / count });
        let along = l.splat(l.sum(projection) / count);
        for start in (0..self.x.len()).step_by(L::N) {
            let normed = l.mul(l.sub(l.load_part(&self.x[start..]), shift), factor);
            let pulled = l.mul(l.load_part(&self.grad[start..]), l.load_part(&self.norm.weight[start..]));
            let dx = l.sub(l.sub(pulled, mean), l.mul(normed, along));
            l.store_part(&mut self.out[start..], l.mul(dx, factor));
        }
    }
}

fn forward(device: &Cpu, parameters: &Parameters, x: &Tensor, norms: &[(Norm, Segments)]) -> Tensor {
    let width = norms[0].1.width;
    Tensor::filled(device, x.shape(), |out| {
        let shared = SharedMut::new(out);
        device.parallel_ranges(x.values().len() / width, 8192usize.div_ceil(width), |segments| {
            for segment in segments {
                let x = &x.values()[segment * width..][..width];
                let out = shared.part(segment * width, width);
                match norms.iter().find(|(_, which)| which.holds(segment)) {
                    Some((norm, _)) => device.isa().run(Forward { norm: norm.on_load(parameters), x, out }),
                    None => out.copy_from_slice(x),
                }
            }
        });
    })
}

fn backward(norms: &[(Norm, Segments)], x: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let device = gradients.device;
    let width = norms[0].1.width;
    let mut input = None;
    // x̂ ∘ g of every segment, to be summed for the weight.
    let weights = device.filled(x.values().len(), |weights| {
        let weights = SharedMut::new(weights);
        input = Some(Tensor::filled(device, x.shape(), |out| {
            let out = SharedMut::new(out);
            device.parallel_ranges(x.values().len() / width, 8192usize.div_ceil(width), |segments| {
                for segment in segments {
                    let at = segment * width;
                    let (x, grad) = (&x.values()[at..at + width], &grad.values()[at..at + width]);
                    let (out, weight) = (out.part(at, width), weights.part(at, width));
                    match norms.iter().find(|(_, which)| which.holds(segment)) {
                        Some((norm, _)) => {
                            let norm = norm.on_load(gradients.parameters);
                            device.isa().run(Pull { norm, x, grad, out, weight });
                        }
                        None => out.copy_from_slice(grad),
                    }
                }
            });
        }));
    });
    for (norm, which) in norms {
        for (parameter, source) in [(Some(norm.weight), weights.as_slice()), (norm.bias, grad.values())] {
            let Some(sums) = parameter.and_then(|parameter| gradients.parameter(parameter)) else { continue };
            if which.per_group == 1 {
                device.add_row_sums(source, sums);
                continue;
            }
            for (_, row) in source.chunks_exact(width).enumerate().filter(|(segment, _)| which.holds(*segment)) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        }
    }
    gradients.add(x.node, |_| input.expect("filled above"));
}

impl Context<'_> {
    /// A norm over the innermost extent of `x`, `[…, width]`.
    pub fn norm(&self, x: &Tensor, norm: &Norm) -> Tensor {
        let width = self.parameters.plain(norm.weight).len();
        assert_eq!(x.shape().last(), width, "a norm of width {width} over {:?}", x.shape());
        self.norm_segments(x, vec![(*norm, Segments::whole(width))])
    }

    /// Normalises queries and keys per head, in packed `qkv`, `[…, 3 · heads · head width]`; values pass through.
    pub fn norm_queries_and_keys(&self, qkv: &Tensor, heads: usize, query: &Norm, key: &Norm) -> Tensor {
        let width = self.parameters.plain(query.weight).len();
        assert_eq!(qkv.shape().last(), 3 * heads * width, "{heads} heads of width {width} in {:?}", qkv.shape());
        let segments = |first| Segments { width, per_group: 3 * heads, first, count: heads };
        self.norm_segments(qkv, vec![(*query, segments(0)), (*key, segments(heads))])
    }

    fn norm_segments(&self, x: &Tensor, norms: Vec<(Norm, Segments)>) -> Tensor {
        let output = forward(self.device, self.parameters, x, &norms);
        let saved = x.clone();
        let learned = norms.iter().flat_map(|(norm, _)| std::iter::once(norm.weight).chain(norm.bias));
        let needed = self.depends(x, learned);
        self.record(output, needed, || Box::new(move |grad, gradients| backward(&norms, &saved, grad, gradients)))
    }

    /// Batch norm with its running statistics, over the innermost extent (channels last). Its statistics get no
    /// gradient.
    pub fn batch_norm(&self, x: &Tensor, norm: &ChannelNorm) -> Tensor {
        let p = self.parameters;
        let factor: Vec<f32> = (p.plain(norm.weight).iter().zip(p.plain(norm.variance)))
            .map(|(weight, variance)| weight / (variance + norm.epsilon).sqrt())
            .collect();
        let (mean, bias) = (p.plain(norm.mean), p.plain(norm.bias));
        let width = factor.len();
        assert_eq!(x.shape().last(), width, "a batch norm of {width} channels over {:?}", x.shape());
        let output = Tensor::filled(self.device, x.shape(), |out| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.values().chunks_exact(width)) {
                for c in 0..width {
                    out[c] = (x[c] - mean[c]) * factor[c] + bias[c];
                }
            }
        });
        let (norm, saved) = (*norm, x.clone());
        self.record(output, self.depends(x, [norm.weight, norm.bias]), || {
            Box::new(move |grad, gradients| {
                let p = gradients.parameters;
                let (mean, variance) = (p.plain(norm.mean), p.plain(norm.variance));
                if let Some(sums) = gradients.parameter(norm.weight) {
                    for (grad, x) in grad.values().chunks_exact(width).zip(saved.values().chunks_exact(width)) {
                        for c in 0..width {
                            sums[c] += grad[c] * (x[c] - mean[c]) / (variance[c] + norm.epsilon).sqrt();
                        }
                    }
                }
                let device = gradients.device;
                if let Some(sums) = gradients.parameter(norm.bias) {
                    device.add_row_sums(grad.values(), sums);
                }
                gradients.add(saved.node, |g| super::elementwise::rows_times(g.device, grad, &factor));
            })
        })
    }
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
