//! Gradients summed, clipped, and followed.

use std::ops::Range;

use super::{Reference, stored};
use crate::device::backend::{ClipCall, UpdateBuffers, UpdateCall, UpdateGroup, UpdateRule, Updates};
use crate::device::cpu::updates::muon_scale;
use crate::device::storage::FlatBuffer;
use crate::tensor::Tensor;

fn length(numbers: &[f64]) -> f64 {
    numbers.iter().map(|x| x * x).sum::<f64>().sqrt()
}

impl Updates for Reference {
    fn clear(&self, buffer: &mut FlatBuffer) {
        self.change(buffer, [], |[], out| out.fill(0.0));
    }

    fn accumulate(&self, sums: &mut FlatBuffer, numbers: &FlatBuffer) {
        self.change(sums, [numbers.reference()], |[numbers], out| {
            out.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        });
    }

    fn scale_buffer(&self, buffer: &mut FlatBuffer, factor: f32) {
        self.change(buffer, [], move |[], out| out.iter_mut().for_each(|x| *x *= f64::from(factor)));
    }

    fn clip(&self, gradients: &mut FlatBuffer, clip: Option<&ClipCall>, parameters: &FlatBuffer) -> Tensor {
        let norm = self.compute([1], [gradients.reference()], |[gradients], out| out[0] = length(gradients));
        let Some(clip) = clip.cloned() else { return norm };
        let reads = [stored(&norm), parameters.reference()];
        self.change(gradients, reads, move |[norm, parameters], out| match clip {
            _ if !norm[0].is_finite() => {}
            ClipCall::Norm(limit) => {
                let factor = (f64::from(limit) / (norm[0] + 1e-6)).min(1.0);
                out.iter_mut().for_each(|g| *g *= factor);
            }
            ClipCall::Value(limit) => {
                out.iter_mut().for_each(|g| *g = g.clamp(-f64::from(limit), f64::from(limit)));
            }
            ClipCall::Adaptive { share, units } => {
                for (range, unit) in units {
                    for start in range.clone().step_by(unit.max(1)) {
                        let at = start..(start + unit).min(range.end);
                        let most = length(&parameters[at.clone()]).max(1e-3) * f64::from(share);
                        let factor = (most / length(&out[at.clone()]).max(1e-6)).min(1.0);
                        out[at].iter_mut().for_each(|g| *g *= factor);
                    }
                }
            }
        });
        norm
    }

    fn all_finite(&self, values: &[&Tensor]) -> Tensor {
        let flag = self.compute([1], [], |[], out| out[0] = 1.0);
        for tensor in values {
            self.0.launch([stored(tensor)], [stored(&flag)], |[x], [out]| {
                // In the precision of other devices.
                if !x.iter().all(|&x| (x as f32).is_finite()) {
                    out[0] = 0.0;
                }
            });
        }
        flag
    }

    fn update(&self, call: &UpdateCall<'_>, buffers: UpdateBuffers<'_>, gate: &Tensor) {
        let UpdateBuffers { parameters, gradients, first, second, moments_from } = buffers;
        assert_eq!(moments_from, 0, "moments of a share are kept on the CPU");
        let step = Step { rule: call.rule, rate: f64::from(call.learning_rate), number: call.step };
        let groups = call.groups.to_vec();
        let reads = [stored(gate), gradients.reference()];
        let writes = [parameters.reference(), first.reference(), second.reference()];
        self.0.launch(reads, writes, move |[gate, gradients], [parameters, first, second]| {
            if gate[0] != 0.0 {
                for group in &groups {
                    step.apply(group, gradients, parameters, first, second);
                }
            }
        });
    }

    fn ema_update(&self, average: &mut FlatBuffer, parameters: &FlatBuffer, decay: f32, gate: &Tensor) {
        let share = 1.0 - f64::from(decay);
        self.change(average, [stored(gate), parameters.reference()], move |[gate, parameters], out| {
            if gate[0] != 0.0 {
                out.iter_mut().zip(parameters).for_each(|(average, p)| *average += share * (p - *average));
            }
        });
    }
}

/// One optimizer step.
#[derive(Clone, Copy)]
struct Step {
    rule: UpdateRule,
    rate: f64,
    number: u64,
}

impl Step {
    fn apply(&self, group: &UpdateGroup, gradients: &[f64], p: &mut [f64], m: &mut [f64], v: &mut [f64]) {
        let range: Range<usize> = group.range.clone();
        let rate = self.rate * f64::from(group.learning_rate_scale);
        let decay = f64::from(group.weight_decay);
        let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powi(self.number.min(i32::MAX as u64) as i32));
        match group.rule.unwrap_or(self.rule) {
            UpdateRule::Adamw { beta1, beta2, epsilon } => {
                let [beta1, beta2, epsilon] = [beta1, beta2, epsilon].map(f64::from);
                for i in range {
                    let g = gradients[i];
                    m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                    v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                    p[i] *= 1.0 - rate * decay;
                    p[i] -= rate * corrected(m[i], beta1) / (corrected(v[i], beta2).sqrt() + epsilon);
                }
            }
            UpdateRule::Sgd { momentum, nesterov } => {
                let momentum = f64::from(momentum);
                for i in range {
                    let g = gradients[i] + decay * p[i];
                    m[i] = if self.number > 1 { momentum * m[i] + g } else { g };
                    p[i] -= rate * if nesterov { g + momentum * m[i] } else { m[i] };
                }
            }
            UpdateRule::Lion { beta1, beta2 } => {
                let [beta1, beta2] = [beta1, beta2].map(f64::from);
                for i in range {
                    let along = beta1 * m[i] + (1.0 - beta1) * gradients[i];
                    p[i] = (1.0 - rate * decay) * p[i] - rate * if along == 0.0 { 0.0 } else { along.signum() };
                    m[i] = beta2 * m[i] + (1.0 - beta2) * gradients[i];
                }
            }
            UpdateRule::Lamb { beta1, beta2, epsilon } => {
                let [beta1, beta2, epsilon] = [beta1, beta2, epsilon].map(f64::from);
                let mut update = Vec::with_capacity(range.len());
                for i in range.clone() {
                    let g = gradients[i];
                    m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                    v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                    let adam = corrected(m[i], beta1) / (corrected(v[i], beta2).sqrt() + epsilon);
                    update.push(adam + decay * p[i]);
                }
                let (own, step) = (length(&p[range.clone()]), length(&update));
                let trust = if decay > 0.0 && own > 0.0 && step > 0.0 { own / step } else { 1.0 };
                p[range].iter_mut().zip(update).for_each(|(p, u)| *p -= rate * trust * u);
            }
            UpdateRule::Muon { momentum, nesterov, match_adamw } => {
                let shape = group.matrix.expect("what is not a hidden matrix has a rule of its own");
                let momentum = f64::from(momentum);
                // The padding after a matrix is not part of it.
                let range = range.start..range.start + shape[0] * shape[1];
                let along: Vec<f64> = range
                    .clone()
                    .map(|i| {
                        let g = gradients[i];
                        m[i] += (1.0 - momentum) * (g - m[i]);
                        if nesterov { g + momentum * (m[i] - g) } else { m[i] }
                    })
                    .collect();
                let size = rate * f64::from(muon_scale(shape, match_adamw));
                let update = orthogonalized(&along, shape);
                p[range].iter_mut().zip(update).for_each(|(p, u)| *p = (1.0 - rate * decay) * *p - size * u);
            }
        }
    }
}

/// `a · bᵀ` of rows.
fn product(a: &[f64], b: &[f64], depth: usize) -> Vec<f64> {
    let row = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    a.chunks_exact(depth).flat_map(|a| b.chunks_exact(depth).map(move |b| row(a, b))).collect()
}

fn transposed(x: &[f64], columns: usize) -> Vec<f64> {
    let rows = x.len() / columns;
    (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect()
}

/// Five quintic iterations of Newton and Schulz (Jordan et al. 2024).
fn orthogonalized(matrix: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
    let turned = rows > columns;
    let (small, large) = if turned { (columns, rows) } else { (rows, columns) };
    let norm = length(matrix).max(1e-7);
    let mut x = if turned { transposed(matrix, columns) } else { matrix.to_vec() };
    x.iter_mut().for_each(|x| *x /= norm);
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..5 {
        let gram = product(&x, &x, large);
        let square = product(&gram, &transposed(&gram, small), small);
        let mixed: Vec<f64> = gram.iter().zip(&square).map(|(gram, square)| b * gram + c * square).collect();
        let next = product(&mixed, &transposed(&x, large), small);
        x.iter_mut().zip(next).for_each(|(x, next)| *x = a * *x + next);
    }
    if turned { transposed(&x, rows) } else { x }
}
