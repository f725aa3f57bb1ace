//! Gradients summed, clipped, and followed: one pass over the flat buffers, whatever the number of tensors.

use std::ops::Range;

use super::muon::orthogonalized;
use super::processor::Processor;
use super::{Cpu, values};
use crate::device::backend::{ClipCall, UpdateBuffers, UpdateCall, UpdateGroup, UpdateRule, Updates};
use crate::device::storage::FlatBuffer;
use crate::tensor::Tensor;

/// Elements below which a second thread costs more than it brings.
const CHUNK: usize = 1 << 14;

impl Processor {
    /// Euclidean norm, summed in a fixed order.
    pub(super) fn norm(&self, numbers: &[f32]) -> f64 {
        let squares = self.parallel_map(numbers.len().div_ceil(CHUNK), |chunk| {
            let numbers = &numbers[chunk * CHUNK..numbers.len().min((chunk + 1) * CHUNK)];
            numbers.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
        });
        squares.iter().sum::<f64>().sqrt()
    }

    /// Calls `f` on every parameter with its gradient and a moment.
    fn each(
        &self,
        parameters: &mut [f32],
        gradients: &[f32],
        moment: &mut [f32],
        f: impl Fn(&mut f32, f32, &mut f32) + Sync + Send,
    ) {
        let outputs = [(&mut *parameters, 1), (&mut *moment, 1)];
        self.parallel_rows_of(gradients.len(), CHUNK, outputs, |range, [p, m]| {
            p.iter_mut().zip(&gradients[range]).zip(m).for_each(|((p, g), m)| f(p, *g, m));
        });
    }
}

fn is_open(gate: &Tensor) -> bool {
    values(gate)[0] != 0.0
}

impl Updates for Cpu {
    fn clear(&self, buffer: &mut FlatBuffer) {
        self.processor.parallel_rows(buffer.cpu_mut(), 1, CHUNK, |_, out| out.fill(0.0));
    }

    fn accumulate(&self, sums: &mut FlatBuffer, numbers: &FlatBuffer) {
        let numbers = numbers.cpu();
        self.processor.parallel_rows(sums.cpu_mut(), 1, CHUNK, |first, sums| {
            for (sum, number) in sums.iter_mut().zip(&numbers[first..]) {
                *sum += number;
            }
        });
    }

    fn scale_buffer(&self, buffer: &mut FlatBuffer, factor: f32) {
        self.processor.parallel_rows(buffer.cpu_mut(), 1, CHUNK, |_, out| out.iter_mut().for_each(|x| *x *= factor));
    }

    fn clip(&self, gradients: &mut FlatBuffer, clip: Option<&ClipCall>, parameters: &FlatBuffer) -> Tensor {
        let norm = self.processor.norm(gradients.cpu());
        // Gradients that are not finite are not followed anyway.
        match clip.filter(|_| norm.is_finite()) {
            None => {}
            Some(ClipCall::Norm(limit)) => {
                let factor = (f64::from(*limit) / (norm + 1e-6)).min(1.0) as f32;
                if factor < 1.0 {
                    self.scale_buffer(gradients, factor);
                }
            }
            Some(ClipCall::Value(limit)) => {
                self.processor.parallel_rows(gradients.cpu_mut(), 1, CHUNK, |_, out| {
                    out.iter_mut().for_each(|g| *g = g.clamp(-limit, *limit));
                });
            }
            Some(ClipCall::Adaptive { share, units }) => {
                for (range, unit) in units {
                    let own = &parameters.cpu()[range.clone()];
                    let unit = (*unit).max(1);
                    self.processor.parallel_chunks(&mut gradients.cpu_mut()[range.clone()], unit, |i, gradients| {
                        let own = &own[i * unit..][..gradients.len()];
                        let length = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                        let most = length(own).max(1e-3) * f64::from(*share);
                        let factor = (most / length(gradients).max(1e-6)).min(1.0) as f32;
                        if factor < 1.0 {
                            gradients.iter_mut().for_each(|gradient| *gradient *= factor);
                        }
                    });
                }
            }
        }
        self.tensor([1], |out| out[0] = norm as f32)
    }

    fn all_finite(&self, tensors: &[&Tensor]) -> Tensor {
        let finite = tensors.iter().all(|tensor| values(tensor).iter().all(|x| x.is_finite()));
        self.tensor([1], |out| out[0] = f32::from(u8::from(finite)))
    }

    fn update(&self, call: &UpdateCall<'_>, buffers: UpdateBuffers<'_>, gate: &Tensor) {
        if !is_open(gate) {
            return;
        }
        let UpdateBuffers { parameters, gradients, first, second, moments_from } = buffers;
        let (parameters, gradients) = (parameters.cpu_mut(), gradients.cpu());
        assert_eq!(parameters.len(), gradients.len(), "gradients are laid out like the parameters");
        let (first, second) = (first.cpu_mut(), second.cpu_mut());
        for group in call.groups {
            let Range { start, end } = group.range.clone();
            let moments = start - moments_from..end - moments_from;
            let slices = Slices {
                parameters: &mut parameters[start..end],
                gradients: &gradients[start..end],
                first: &mut first[moments.clone()],
                second: second.get_mut(moments).unwrap_or_default(),
            };
            slices.step(&self.processor, call, group);
        }
    }

    fn ema_update(&self, average: &mut FlatBuffer, parameters: &FlatBuffer, decay: f32, gate: &Tensor) {
        if !is_open(gate) {
            return;
        }
        let parameters = parameters.cpu();
        self.processor.parallel_rows(average.cpu_mut(), 1, CHUNK, |first, average| {
            for (average, parameter) in average.iter_mut().zip(&parameters[first..]) {
                *average += (1.0 - decay) * (parameter - *average);
            }
        });
    }
}

/// One group's part of the buffers.
struct Slices<'a> {
    parameters: &'a mut [f32],
    gradients: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Slices<'_> {
    fn step(self, cpu: &Processor, call: &UpdateCall<'_>, group: &UpdateGroup) {
        let Slices { parameters, gradients, first, second } = self;
        let rate = call.learning_rate * group.learning_rate_scale;
        let steps = call.step.min(i32::MAX as u64) as i32;
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(steps);
        let decay = group.weight_decay;
        match group.rule.unwrap_or(call.rule) {
            UpdateRule::Adamw { beta1, beta2, epsilon } => {
                let size = (f64::from(rate) / correction(beta1)) as f32;
                let root = correction(beta2).sqrt() as f32;
                let keep = 1.0 - rate * decay;
                let outputs = [(parameters, 1), (first, 1), (second, 1)];
                cpu.parallel_rows_of(gradients.len(), CHUNK, outputs, |range, [p, m, v]| {
                    for (((p, g), m), v) in p.iter_mut().zip(&gradients[range]).zip(m).zip(v) {
                        *m += (1.0 - beta1) * (g - *m);
                        *v = beta2 * *v + (1.0 - beta2) * g * g;
                        *p = keep * *p - size * *m / (v.sqrt() / root + epsilon);
                    }
                });
            }
            UpdateRule::Lamb { beta1, beta2, epsilon } => {
                let (shrunk, root) = (correction(beta1) as f32, correction(beta2).sqrt() as f32);
                cpu.each(parameters, gradients, first, |_, g, m| *m += (1.0 - beta1) * (g - *m));
                cpu.each(parameters, gradients, second, |_, g, v| *v = beta2 * *v + (1.0 - beta2) * g * g);
                let mut update = vec![0.0; parameters.len()];
                let (p, m, v) = (&*parameters, &*first, &*second);
                cpu.parallel_rows(&mut update, 1, CHUNK, |start, update| {
                    for (i, update) in (start..).zip(update) {
                        *update = m[i] / shrunk / (v[i].sqrt() / root + epsilon) + decay * p[i];
                    }
                });
                // What does not decay keeps Adam's own step.
                let trust = match (cpu.norm(parameters), cpu.norm(&update)) {
                    (own, step) if decay > 0.0 && own > 0.0 && step > 0.0 => (own / step) as f32,
                    _ => 1.0,
                };
                let size = rate * trust;
                cpu.parallel_rows(parameters, 1, CHUNK, |start, p| {
                    p.iter_mut().zip(&update[start..]).for_each(|(p, u)| *p -= size * u);
                });
            }
            UpdateRule::Sgd { momentum, nesterov } => {
                let begun = call.step > 1;
                cpu.each(parameters, gradients, first, |p, g, v| {
                    let g = g + decay * *p;
                    *v = if begun { momentum * *v + g } else { g };
                    *p -= rate * if nesterov { g + momentum * *v } else { *v };
                });
            }
            UpdateRule::Muon { momentum, nesterov, match_adamw } => {
                let shape = group.matrix.expect("what is not a hidden matrix has a rule of its own");
                // The padding after a matrix is not part of it.
                let count = shape[0] * shape[1];
                let ahead = if nesterov { momentum } else { 1.0 };
                cpu.each(&mut parameters[..count], &gradients[..count], &mut first[..count], |_, g, m| {
                    *m += (1.0 - momentum) * (g - *m);
                });
                let along: Vec<f32> =
                    gradients[..count].iter().zip(&*first).map(|(g, m)| g + ahead * (m - g)).collect();
                let update = orthogonalized(cpu, &along, shape);
                let (keep, size) = (1.0 - rate * decay, rate * muon_scale(shape, match_adamw));
                parameters.iter_mut().zip(&update).for_each(|(p, u)| *p = keep * *p - size * u);
            }
            UpdateRule::Lion { beta1, beta2 } => {
                let keep = 1.0 - rate * decay;
                cpu.each(parameters, gradients, first, |p, g, m| {
                    let along = beta1 * *m + (1.0 - beta1) * g;
                    let sign = if along == 0.0 { 0.0 } else { along.signum() };
                    *p = keep * *p - rate * sign;
                    *m = beta2 * *m + (1.0 - beta2) * g;
                });
            }
        }
    }
}

/// What Muon's learning rate is multiplied by for a matrix `[out, in]`.
pub(in crate::device) fn muon_scale([out, width]: [usize; 2], match_adamw: bool) -> f32 {
    let (out, width) = (out as f64, width as f64);
    (if match_adamw { 0.2 * out.max(width).sqrt() } else { (out / width).max(1.0).sqrt() }) as f32
}
