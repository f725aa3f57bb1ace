//! LayerNorm, RMSNorm, batch norm and group norm.

use super::kernels::{Kernel, Lanes, NormOnLoad};
use super::parameter::plain;
use super::products::on_load;
use super::{Cpu, math, values};
use crate::device::backend::{ChannelNormCall, Elements, GradientRange, GroupNormCall, NormCall, Norms, Segments};
use crate::device::storage::FlatBuffer;
use crate::tensor::Tensor;

/// Numbers below which a second thread costs more than it brings.
const GRAIN: usize = 8192;

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
            math::normalize_row(l, x, statistics, self.norm.weight, self.norm.bias, out);
        }
    }
}

/// `dx = r (w∘g − mean(w∘g) − x̂ mean(w∘g∘x̂))`, and `x̂ ∘ g` for the weight; RMS norm lacks the mean.
struct Backward<'a> {
    norm: NormOnLoad<'a>,
    x: &'a [f32],
    grad: &'a [f32],
    out: &'a mut [f32],
    /// `x̂ ∘ g`, to be summed over rows.
    weight: &'a mut [f32],
}

impl Kernel for Backward<'_> {
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
            let weighted = l.mul(grad, l.load_part(&self.norm.weight[start..]));
            sum = l.add(sum, weighted);
            projection = l.fma(weighted, normed, projection);
            l.store_part(&mut self.weight[start..], l.mul(normed, grad));
        }
        let mean = l.splat(if self.norm.rms { 0.0 } else { l.sum(sum) / count });
        let along = l.splat(l.sum(projection) / count);
        for start in (0..self.x.len()).step_by(L::N) {
            let normed = l.mul(l.sub(l.load_part(&self.x[start..]), shift), factor);
            let weighted = l.mul(l.load_part(&self.grad[start..]), l.load_part(&self.norm.weight[start..]));
            let dx = l.sub(l.sub(weighted, mean), l.mul(normed, along));
            l.store_part(&mut self.out[start..], l.mul(dx, factor));
        }
    }
}

impl Norms for Cpu {
    fn norm(&self, x: &Tensor, norms: &[(NormCall<'_>, Segments)]) -> Tensor {
        let width = norms[0].1.width;
        let norms: Vec<_> = norms.iter().map(|(norm, which)| (on_load(norm), *which)).collect();
        let (cpu, source) = (&self.processor, values(x));
        self.tensor(x.shape(), |out| {
            cpu.parallel_rows(out, width, GRAIN.div_ceil(width), |first, out| {
                for (segment, out) in out.chunks_exact_mut(width).enumerate() {
                    let segment = first + segment;
                    let x = &source[segment * width..][..width];
                    match norms.iter().find(|(_, which)| which.holds(segment)) {
                        Some(&(norm, _)) => cpu.isa().run(Forward { norm, x, out }),
                        None => out.copy_from_slice(x),
                    }
                }
            });
        })
    }

    fn norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
    ) -> Tensor {
        let width = norms[0].1.width;
        let loaded: Vec<_> = norms.iter().map(|(norm, which)| (on_load(norm), *which)).collect();
        let (cpu, source, upstream) = (&self.processor, values(x), values(grad));
        let mut input = None;
        // x̂ ∘ g of every segment, to be summed for the weight.
        let weights = cpu.filled(source.len(), |weights| {
            input = Some(self.tensor(x.shape(), |out| {
                let (segments, grain) = (source.len() / width, GRAIN.div_ceil(width));
                let outputs = [(out, width), (weights, width)];
                cpu.parallel_rows_of(segments, grain, outputs, |segments, [out, weights]| {
                    let parts = out.chunks_exact_mut(width).zip(weights.chunks_exact_mut(width));
                    for (segment, (out, weight)) in segments.zip(parts) {
                        let at = segment * width;
                        let (x, grad) = (&source[at..at + width], &upstream[at..at + width]);
                        match loaded.iter().find(|(_, which)| which.holds(segment)) {
                            Some(&(norm, _)) => cpu.isa().run(Backward { norm, x, grad, out, weight }),
                            None => out.copy_from_slice(grad),
                        }
                    }
                });
            }));
        });
        if let Some(gradients) = gradients {
            let flat = gradients.cpu_mut();
            for ((_, which), [weight, bias]) in norms.iter().zip(ranges) {
                for (range, source) in [(weight, weights.as_slice()), (bias, upstream)] {
                    let Some(range) = range.clone() else { continue };
                    let sums = &mut flat[range];
                    if which.per_group == 1 {
                        cpu.add_row_sums(source, sums);
                        continue;
                    }
                    for (_, row) in source.chunks_exact(width).enumerate().filter(|(i, _)| which.holds(*i)) {
                        for (sum, value) in sums.iter_mut().zip(row) {
                            *sum += value;
                        }
                    }
                }
            }
        }
        input.expect("filled with the weights")
    }

    fn batch_norm(&self, x: &Tensor, norm: &ChannelNormCall<'_>) -> Tensor {
        let factor = factors(norm);
        let (mean, bias, width) = (plain(norm.mean), plain(norm.bias), factor.len());
        self.tensor(x.shape(), |out| {
            for (out, x) in out.chunks_exact_mut(width).zip(values(x).chunks_exact(width)) {
                for c in 0..width {
                    out[c] = (x[c] - mean[c]) * factor[c] + bias[c];
                }
            }
        })
    }

    fn batch_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &ChannelNormCall<'_>,
        mut gradients: Option<&mut FlatBuffer>,
        [weight, bias]: [GradientRange; 2],
    ) -> Tensor {
        let (mean, variance) = (plain(norm.mean), plain(norm.variance));
        let width = mean.len();
        if let Some((flat, range)) = gradients.as_deref_mut().zip(weight) {
            let sums = &mut flat.cpu_mut()[range];
            for (grad, x) in values(grad).chunks_exact(width).zip(values(x).chunks_exact(width)) {
                for c in 0..width {
                    sums[c] += grad[c] * (x[c] - mean[c]) / (variance[c] + norm.epsilon).sqrt();
                }
            }
        }
        if let Some((flat, range)) = gradients.zip(bias) {
            self.add_row_sums(grad, flat, range);
        }
        self.rows_times(grad, &factors(norm))
    }

    fn group_norm(&self, x: &Tensor, norm: &GroupNormCall<'_>) -> Tensor {
        let group = GroupNorm::new(x, norm);
        let (gain, shift) = (plain(norm.weight), plain(norm.bias));
        self.tensor(x.shape(), |out| {
            self.processor.parallel_chunks(out, group.sample, |sample, out| {
                group.forward(self, &values(x)[sample * group.sample..][..group.sample], [gain, shift], out);
            });
        })
    }

    fn group_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &GroupNormCall<'_>,
        mut gradients: Option<&mut FlatBuffer>,
        [weight, bias]: [GradientRange; 2],
    ) -> Tensor {
        let group = GroupNorm::new(x, norm);
        let gain = plain(norm.weight);
        let (channels, sample, batch) = (group.channels, group.sample, x.extent(0));
        let mut sums = vec![0.0; batch * 2 * channels];
        let input = self.tensor(x.shape(), |out| {
            let outputs = [(out, sample), (&mut sums[..], 2 * channels)];
            self.processor.parallel_rows_of(batch, 1, outputs, |images, [out, sums]| {
                let parts = out.chunks_mut(sample.max(1)).zip(sums.chunks_exact_mut(2 * channels));
                for (i, (out, sums)) in images.zip(parts) {
                    let rows = [x, grad].map(|tensor| &values(tensor)[i * sample..][..sample]);
                    group.backward(self, rows, gain, out, sums);
                }
            });
        });
        for (range, first) in [(weight, 0), (bias, channels)] {
            let Some((flat, range)) = gradients.as_deref_mut().zip(range) else { continue };
            for (c, total) in flat.cpu_mut()[range].iter_mut().enumerate() {
                *total += sums.iter().skip(first + c).step_by(2 * channels).sum::<f32>();
            }
        }
        input
    }
}

/// What batch norm multiplies each channel by.
fn factors(norm: &ChannelNormCall<'_>) -> Vec<f32> {
    (plain(norm.weight).iter().zip(plain(norm.variance)))
        .map(|(weight, variance)| weight / (variance + norm.epsilon).sqrt())
        .collect()
}

#[derive(Clone, Copy)]
struct GroupNorm {
    channels: usize,
    groups: usize,
    epsilon: f32,
    /// Numbers in a sample.
    sample: usize,
}

/// Sums over all places of a sample, one for each channel, of `f(channel, first number, second number)`.
struct ChannelSums<'a, F> {
    rows: [&'a [f32]; 2],
    sums: &'a mut [f32],
    f: F,
}

impl<F: Fn(usize, f32, f32) -> f32> Kernel for ChannelSums<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let ChannelSums { rows: [x, y], sums, f } = self;
        let channels = sums.len();
        // Places in short runs, so that a long sum of single precision loses nothing that shows.
        let mut partial = vec![0.0f32; channels];
        let mut totals = vec![0.0f64; channels];
        for (x, y) in x.chunks(64 * channels).zip(y.chunks(64 * channels)) {
            partial.fill(0.0);
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact(channels)) {
                for c in 0..channels {
                    partial[c] += f(c, x[c], y[c]);
                }
            }
            for (total, partial) in totals.iter_mut().zip(&partial) {
                *total += f64::from(*partial);
            }
        }
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum = total as f32;
        }
    }
}

/// `out = f(channel, x, y)` over all places of a sample.
struct EachPlace<'a, F> {
    rows: [&'a [f32]; 2],
    out: &'a mut [f32],
    channels: usize,
    f: F,
}

impl<F: Fn(usize, f32, f32) -> f32> Kernel for EachPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let EachPlace { rows: [x, y], out, channels, f } = self;
        let rows = x.chunks_exact(channels).zip(y.chunks_exact(channels));
        for (out, (x, y)) in out.chunks_exact_mut(channels).zip(rows) {
            for c in 0..channels {
                out[c] = f(c, x[c], y[c]);
            }
        }
    }
}

impl GroupNorm {
    fn new(x: &Tensor, norm: &GroupNormCall<'_>) -> Self {
        let sample = x.shape().item();
        GroupNorm { channels: x.shape().last(), groups: norm.groups, epsilon: norm.epsilon, sample }
    }

    fn group(&self) -> usize {
        self.channels / self.groups
    }

    /// Values of a channel in one sample.
    fn places(&self) -> usize {
        self.sample / self.channels
    }

    /// `sums` of channels, averaged over each group and given back to each of its channels.
    fn share(&self, sums: &[f32]) -> Vec<f32> {
        let count = (self.group() * self.places()) as f64;
        let average = |group: &[f32]| (group.iter().map(|&sum| f64::from(sum)).sum::<f64>() / count) as f32;
        let groups = sums.chunks_exact(self.group()).map(average);
        groups.flat_map(|average| std::iter::repeat_n(average, self.group())).collect()
    }

    /// Mean and reciprocal deviation that one sample has for every channel.
    fn statistics(&self, device: &Cpu, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let isa = device.processor.isa();
        let mut sums = vec![0.0; self.channels];
        isa.run(ChannelSums { rows: [x, x], sums: &mut sums, f: |_, x, _| x });
        let mean = self.share(&sums);
        let square = |c: usize, x: f32, _: f32| (x - mean[c]) * (x - mean[c]);
        isa.run(ChannelSums { rows: [x, x], sums: &mut sums, f: square });
        let reciprocal = |variance: f32| (1.0 / (f64::from(variance) + f64::from(self.epsilon)).sqrt()) as f32;
        let reciprocals = self.share(&sums).into_iter().map(reciprocal).collect();
        (mean, reciprocals)
    }

    fn forward(&self, device: &Cpu, x: &[f32], [gain, shift]: [&[f32]; 2], out: &mut [f32]) {
        let (mean, reciprocal) = self.statistics(device, x);
        let f = |c: usize, x: f32, _: f32| (x - mean[c]) * reciprocal[c] * gain[c] + shift[c];
        device.processor.isa().run(EachPlace { rows: [x, x], out, channels: self.channels, f });
    }

    /// Writes one sample's gradient to `out`, and its part of the gradients of weight and bias to `sums`, one after the
    /// other.
    fn backward(&self, device: &Cpu, [x, grad]: [&[f32]; 2], gain: &[f32], out: &mut [f32], sums: &mut [f32]) {
        let isa = device.processor.isa();
        let (mean, reciprocal) = self.statistics(device, x);
        let (weight_sums, bias_sums) = sums.split_at_mut(self.channels);
        let normed = |c: usize, x: f32| (x - mean[c]) * reciprocal[c];
        isa.run(ChannelSums { rows: [x, grad], sums: bias_sums, f: |_, _, grad| grad });
        let along = |c: usize, x: f32, grad: f32| grad * normed(c, x);
        isa.run(ChannelSums { rows: [x, grad], sums: weight_sums, f: along });
        let gained = |sums: &[f32]| sums.iter().zip(gain).map(|(sum, gain)| sum * gain).collect::<Vec<_>>();
        let (average, along) = (self.share(&gained(bias_sums)), self.share(&gained(weight_sums)));
        let f = |c: usize, x: f32, grad: f32| reciprocal[c] * (grad * gain[c] - average[c] - normed(c, x) * along[c]);
        isa.run(EachPlace { rows: [x, grad], out, channels: self.channels, f });
    }
}
