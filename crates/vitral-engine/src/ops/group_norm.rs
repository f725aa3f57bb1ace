//! Group norm (arXiv:1803.08494), channels last.

use crate::arena::ParameterId;
use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::{Kernel, Lanes, SharedMut};
use crate::tape::{Context, Gradients};
use crate::tensor::Tensor;

impl Context<'_> {
    /// Group norm of `[batch, …, channels]`: statistics over all places and the channels of a group.
    pub fn group_norm(
        &self,
        x: &Tensor,
        weight: ParameterId,
        bias: ParameterId,
        groups: usize,
        epsilon: f32,
    ) -> Tensor {
        let channels = x.shape().last();
        assert_eq!(channels % groups, 0, "{channels} channels in {groups} groups");
        let norm = GroupNorm { channels, groups, epsilon, sample: x.shape().count() / x.extent(0).max(1) };
        let (gain, shift) = (self.parameters.plain(weight), self.parameters.plain(bias));
        let output = Tensor::filled(self.device, x.shape(), |out| {
            let out = SharedMut::new(out);
            self.device.parallel(x.extent(0), |sample| {
                let x = &x.values()[sample * norm.sample..][..norm.sample];
                norm.forward(self.device, x, [gain, shift], out.part(sample * norm.sample, norm.sample));
            });
        });
        let saved = x.clone();
        self.record(output, self.depends(x, [weight, bias]), || {
            Box::new(move |grad, gradients| norm.backward(weight, bias, &saved, grad, gradients))
        })
    }
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
    fn group(&self) -> usize {
        self.channels / self.groups
    }

    /// Numbers of a channel in one sample.
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
        let mut sums = vec![0.0; self.channels];
        device.isa().run(ChannelSums { rows: [x, x], sums: &mut sums, f: |_, x, _| x });
        let mean = self.share(&sums);
        let square = |c: usize, x: f32, _: f32| (x - mean[c]) * (x - mean[c]);
        device.isa().run(ChannelSums { rows: [x, x], sums: &mut sums, f: square });
        let reciprocal = |variance: f32| (1.0 / (f64::from(variance) + f64::from(self.epsilon)).sqrt()) as f32;
        let reciprocals = self.share(&sums).into_iter().map(reciprocal).collect();
        (mean, reciprocals)
    }

    fn forward(&self, device: &Cpu, x: &[f32], [gain, shift]: [&[f32]; 2], out: &mut [f32]) {
        let (mean, reciprocal) = self.statistics(device, x);
        let f = |c: usize, x: f32, _: f32| (x - mean[c]) * reciprocal[c] * gain[c] + shift[c];
        device.isa().run(EachPlace { rows: [x, x], out, channels: self.channels, f });
    }

    /// Writes one sample's gradient to `out`, and its share of those of weight and bias to `sums`, one after the other.
    fn pull(&self, device: &Cpu, [x, grad]: [&[f32]; 2], gain: &[f32], out: &mut [f32], sums: &mut [f32]) {
        let (mean, reciprocal) = self.statistics(device, x);
        let (weight_sums, bias_sums) = sums.split_at_mut(self.channels);
        let normed = |c: usize, x: f32| (x - mean[c]) * reciprocal[c];
        device.isa().run(ChannelSums { rows: [x, grad], sums: bias_sums, f: |_, _, grad| grad });
        let along = |c: usize, x: f32, grad: f32| grad * normed(c, x);
        device.isa().run(ChannelSums { rows: [x, grad], sums: weight_sums, f: along });
        let gained = |sums: &[f32]| sums.iter().zip(gain).map(|(sum, gain)| sum * gain).collect::<Vec<_>>();
        let (average, along) = (self.share(&gained(bias_sums)), self.share(&gained(weight_sums)));
        let f = |c: usize, x: f32, grad: f32| reciprocal[c] * (grad * gain[c] - average[c] - normed(c, x) * along[c]);
        device.isa().run(EachPlace { rows: [x, grad], out, channels: self.channels, f });
    }

    fn backward(
        &self,
        weight: ParameterId,
        bias: ParameterId,
        x: &Tensor,
        grad: &Tensor,
        gradients: &mut Gradients<'_>,
    ) {
        let gain = gradients.parameters.plain(weight);
        let device = gradients.device;
        let (channels, sample) = (self.channels, self.sample);
        let batch = x.extent(0);
        let mut sums = vec![0.0; batch * 2 * channels];
        let input = Tensor::filled(device, x.shape(), |out| {
            let (out, sums) = (SharedMut::new(out), SharedMut::new(&mut sums));
            device.parallel(batch, |i| {
                let rows = [x, grad].map(|tensor| &tensor.values()[i * sample..][..sample]);
                let sums = sums.part(i * 2 * channels, 2 * channels);
                self.pull(device, rows, gain, out.part(i * sample, sample), sums);
            });
        });
        let total = |first: usize| -> Vec<f32> {
            (first..first + channels).map(|c| sums.iter().skip(c).step_by(2 * channels).sum()).collect()
        };
        gradients.add_parameter(weight, &total(0));
        gradients.add_parameter(bias, &total(channels));
        gradients.add(x.node, |_| input);
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};

    #[test]
    fn group_norm_equals_pytorch() {
        for (name, relu) in [("group_norm", false), ("group_norm_relu", true)] {
            let golden = Golden::load(name).channels_last();
            let mut check = Check::new();
            let (weight, bias) = (check.golden(&golden, "weight"), check.golden(&golden, "bias"));
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| {
                let y = cx.group_norm(&x[0], weight, bias, 32, golden.scalar("epsilon"));
                if relu { cx.activation(&y, super::super::Activation::Relu) } else { y }
            });
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let mut check = Check::new();
        let (weight, bias) = (check.vector(4), check.vector(4));
        check.differences(&[check.input(&[2, 3, 3, 4])], |cx, x| cx.group_norm(&x[0], weight, bias, 2, 1e-3));
    }
}
