//! LayerNorm, RMSNorm, batch norm and group norm, as their papers define them.

use super::{Parameter, Reference, stored};
use crate::device::backend::{ChannelNormCall, GradientRange, GroupNormCall, NormCall, Norms, Segments};
use crate::device::storage::FlatBuffer;
use crate::tensor::Tensor;

/// Mean and reciprocal deviation of values; a mean of 0 for a root mean square.
fn statistics(numbers: impl Iterator<Item = f64> + Clone, epsilon: f64, rms: bool) -> (f64, f64) {
    let count = numbers.clone().count() as f64;
    let mean = if rms { 0.0 } else { numbers.clone().sum::<f64>() / count };
    let variance = numbers.map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// A norm of whole rows.
pub(super) fn normalized(device: &Reference, x: &Tensor, norm: &NormCall<'_>) -> Tensor {
    let width = norm.weight.count();
    norm_of(device, x, norm, Segments::whole(width), x)
}

/// `base` with some segments of `x` normalized.
fn norm_of(device: &Reference, x: &Tensor, norm: &NormCall<'_>, which: Segments, base: &Tensor) -> Tensor {
    let (weight, bias) = (Parameter::of(norm.weight), Parameter::maybe(device, norm.bias));
    let (epsilon, rms, ranges) = (f64::from(norm.epsilon), norm.rms, [weight.range(), bias.range()]);
    let reads = [stored(x), stored(base), &weight.memory, &bias.memory];
    device.compute(x.shape(), reads, move |[x, base, weight, bias], out| {
        let [at_weight, at_bias] = ranges;
        let (weight, bias, width) = (&weight[at_weight], &bias[at_bias], which.width);
        out.copy_from_slice(base);
        for segment in (0..x.len() / width).filter(|&segment| which.holds(segment)) {
            let at = segment * width;
            let (mean, reciprocal) = statistics(x[at..at + width].iter().copied(), epsilon, rms);
            for i in 0..width {
                out[at + i] = (x[at + i] - mean) * reciprocal * weight[i] + bias.get(i).copied().unwrap_or(0.0);
            }
        }
    })
}

impl Norms for Reference {
    fn norm(&self, x: &Tensor, norms: &[(NormCall<'_>, Segments)]) -> Tensor {
        let mut out = x.clone();
        for (norm, which) in norms {
            out = norm_of(self, x, norm, *which, &out);
        }
        out
    }

    fn norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        mut gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
    ) -> Tensor {
        let mut input = grad.clone();
        for ((norm, which), [weight_range, bias_range]) in norms.iter().zip(ranges) {
            let (which, epsilon, rms) = (*which, f64::from(norm.epsilon), norm.rms);
            let width = which.width;
            let weight = Parameter::of(norm.weight);
            if let Some((flat, range)) = gradients.as_deref_mut().zip(weight_range.clone()) {
                self.change(flat, [stored(x), stored(grad)], move |[x, grad], out| {
                    for segment in (0..x.len() / width).filter(|&segment| which.holds(segment)) {
                        let at = segment * width;
                        let (mean, reciprocal) = statistics(x[at..at + width].iter().copied(), epsilon, rms);
                        for i in 0..width {
                            out[range.start + i] += grad[at + i] * (x[at + i] - mean) * reciprocal;
                        }
                    }
                });
            }
            if let Some((flat, range)) = gradients.as_deref_mut().zip(bias_range.clone()) {
                self.change(flat, [stored(grad)], move |[grad], out| {
                    for segment in (0..grad.len() / width).filter(|&segment| which.holds(segment)) {
                        for i in 0..width {
                            out[range.start + i] += grad[segment * width + i];
                        }
                    }
                });
            }
            let at_weight = weight.range();
            let reads = [stored(x), stored(grad), stored(&input), &weight.memory];
            let next = self.compute(x.shape(), reads, move |[x, grad, before, weight], out| {
                let weight = &weight[at_weight];
                out.copy_from_slice(before);
                for segment in (0..x.len() / width).filter(|&segment| which.holds(segment)) {
                    let at = segment * width;
                    let (mean, reciprocal) = statistics(x[at..at + width].iter().copied(), epsilon, rms);
                    let normed = |i: usize| (x[at + i] - mean) * reciprocal;
                    let weighted = |i: usize| grad[at + i] * weight[i];
                    let average = if rms { 0.0 } else { (0..width).map(weighted).sum::<f64>() / width as f64 };
                    let along = (0..width).map(|i| weighted(i) * normed(i)).sum::<f64>() / width as f64;
                    for i in 0..width {
                        out[at + i] = reciprocal * (weighted(i) - average - normed(i) * along);
                    }
                }
            });
            input = next;
        }
        input
    }

    fn batch_norm(&self, x: &Tensor, norm: &ChannelNormCall<'_>) -> Tensor {
        let parameters = [norm.weight, norm.bias, norm.mean, norm.variance].map(Parameter::of);
        let (ranges, epsilon) = (parameters.each_ref().map(Parameter::range), f64::from(norm.epsilon));
        let [weight, bias, mean, variance] = &parameters;
        let reads = [stored(x), &weight.memory, &bias.memory, &mean.memory, &variance.memory];
        self.compute(x.shape(), reads, move |[x, weight, bias, mean, variance], out| {
            let [weight, bias, mean, variance] =
                [(weight, 0), (bias, 1), (mean, 2), (variance, 3)].map(|(values, i)| &values[ranges[i].clone()]);
            for i in 0..out.len() {
                let c = i % weight.len();
                out[i] = (x[i] - mean[c]) / (variance[c] + epsilon).sqrt() * weight[c] + bias[c];
            }
        })
    }

    fn batch_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &ChannelNormCall<'_>,
        mut gradients: Option<&mut FlatBuffer>,
        [weight_range, bias_range]: [GradientRange; 2],
    ) -> Tensor {
        let [weight, mean, variance] = [norm.weight, norm.mean, norm.variance].map(Parameter::of);
        let epsilon = f64::from(norm.epsilon);
        let (at_weight, at_mean, at_variance) = (weight.range(), mean.range(), variance.range());
        if let Some((flat, range)) = gradients.as_deref_mut().zip(weight_range) {
            let (at_mean, at_variance) = (at_mean, at_variance.clone());
            let reads = [stored(x), stored(grad), &mean.memory, &variance.memory];
            self.change(flat, reads, move |[x, grad, mean, variance], out| {
                let (mean, variance) = (&mean[at_mean], &variance[at_variance]);
                for i in 0..x.len() {
                    let c = i % mean.len();
                    out[range.start + c] += grad[i] * (x[i] - mean[c]) / (variance[c] + epsilon).sqrt();
                }
            });
        }
        if let Some((flat, range)) = gradients.zip(bias_range) {
            self.change(flat, [stored(grad)], move |[grad], out| {
                for (i, grad) in grad.iter().enumerate() {
                    out[range.start + i % range.len()] += grad;
                }
            });
        }
        let reads = [stored(grad), &weight.memory, &variance.memory];
        self.compute(x.shape(), reads, move |[grad, weight, variance], out| {
            let (weight, variance) = (&weight[at_weight], &variance[at_variance]);
            for i in 0..out.len() {
                let c = i % weight.len();
                out[i] = grad[i] * weight[c] / (variance[c] + epsilon).sqrt();
            }
        })
    }

    fn group_norm(&self, x: &Tensor, norm: &GroupNormCall<'_>) -> Tensor {
        let groups = Groups::of(x, norm);
        let (weight, bias) = (Parameter::of(norm.weight), Parameter::of(norm.bias));
        let (at_weight, at_bias) = (weight.range(), bias.range());
        self.compute(x.shape(), [stored(x), &weight.memory, &bias.memory], move |[x, weight, bias], out| {
            let (weight, bias) = (&weight[at_weight], &bias[at_bias]);
            groups.each(x, |members, mean, reciprocal| {
                for i in members {
                    let c = i % groups.channels;
                    out[i] = (x[i] - mean) * reciprocal * weight[c] + bias[c];
                }
            });
        })
    }

    fn group_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &GroupNormCall<'_>,
        mut gradients: Option<&mut FlatBuffer>,
        [weight_range, bias_range]: [GradientRange; 2],
    ) -> Tensor {
        let groups = Groups::of(x, norm);
        let weight = Parameter::of(norm.weight);
        if let Some((flat, range)) = gradients.as_deref_mut().zip(weight_range) {
            self.change(flat, [stored(x), stored(grad)], move |[x, grad], out| {
                groups.each(x, |members, mean, reciprocal| {
                    for i in members {
                        out[range.start + i % groups.channels] += grad[i] * (x[i] - mean) * reciprocal;
                    }
                });
            });
        }
        if let Some((flat, range)) = gradients.zip(bias_range) {
            self.change(flat, [stored(grad)], move |[grad], out| {
                for (i, grad) in grad.iter().enumerate() {
                    out[range.start + i % range.len()] += grad;
                }
            });
        }
        let at_weight = weight.range();
        self.compute(x.shape(), [stored(x), stored(grad), &weight.memory], move |[x, grad, weight], out| {
            let weight = &weight[at_weight];
            groups.each(x, |members, mean, reciprocal| {
                let weighted = |i: usize| grad[i] * weight[i % groups.channels];
                let normed = |i: usize| (x[i] - mean) * reciprocal;
                let count = members.len() as f64;
                let average = members.iter().map(|&i| weighted(i)).sum::<f64>() / count;
                let along = members.iter().map(|&i| weighted(i) * normed(i)).sum::<f64>() / count;
                for i in members {
                    out[i] = reciprocal * (weighted(i) - average - normed(i) * along);
                }
            });
        })
    }
}

/// Which values share their statistics.
#[derive(Clone, Copy)]
struct Groups {
    batch: usize,
    sample: usize,
    channels: usize,
    groups: usize,
    epsilon: f64,
}

impl Groups {
    fn of(x: &Tensor, norm: &GroupNormCall<'_>) -> Self {
        Groups {
            batch: x.extent(0),
            sample: x.shape().item(),
            channels: x.shape().last(),
            groups: norm.groups,
            epsilon: f64::from(norm.epsilon),
        }
    }

    /// Calls `visit(members, mean, reciprocal deviation)` for every group of every sample.
    fn each(&self, x: &[f64], mut visit: impl FnMut(Vec<usize>, f64, f64)) {
        let width = self.channels / self.groups;
        for sample in 0..self.batch {
            for group in 0..self.groups {
                let places = (0..self.sample / self.channels).flat_map(|place| {
                    let start = sample * self.sample + place * self.channels + group * width;
                    start..start + width
                });
                let members: Vec<usize> = places.collect();
                let (mean, reciprocal) = statistics(members.iter().map(|&i| x[i]), self.epsilon, false);
                visit(members, mean, reciprocal);
            }
        }
    }
}
