//! Optimisers over the flat buffer of parameters: one pass a step, whatever the number of tensors.

mod groups;
mod muon;
mod schedule;

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vitral_engine::{Cpu, Parameters};

pub use groups::{Group, GroupOptions, groups};
pub use muon::MatrixRate;
pub use schedule::{Schedule, Shape};

/// Which optimiser, with its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Optimiser {
    /// AdamW (arXiv:1711.05101), as PyTorch computes it: decay first, bias-corrected moments.
    Adamw {
        /// Decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root of the second moment.
        #[serde(default = "epsilon")]
        epsilon: f32,
    },
    /// Stochastic gradient descent with momentum, as PyTorch computes it: decay is added to the gradient.
    Sgd {
        /// Of the velocity.
        #[serde(default)]
        momentum: f32,
        /// Looks one step ahead (Nesterov).
        #[serde(default)]
        nesterov: bool,
    },
    /// Lion (arXiv:2302.06675): the sign of an interpolated momentum.
    Lion {
        /// Interpolation for the update.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the momentum.
        #[serde(default = "lion_beta2")]
        beta2: f32,
    },
    /// LAMB (arXiv:1904.00962), as timm computes it: Adam's step of each decayed tensor, scaled to the tensor's own norm.
    Lamb {
        /// Decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root of the second moment.
        #[serde(default = "lamb_epsilon")]
        epsilon: f32,
    },
    /// Muon (arXiv:2502.16982), as PyTorch computes it but in 32 bits: the momentum of every matrix of the blocks, with its
    /// singular values levelled. All else is stepped by AdamW.
    Muon {
        /// Decay of a matrix's momentum.
        #[serde(default = "muon_momentum")]
        momentum: f32,
        /// Looks one step ahead (Nesterov).
        #[serde(default = "yes")]
        nesterov: bool,
        /// How a matrix's rate follows its shape.
        #[serde(default)]
        matrix_rate: MatrixRate,
        /// AdamW's decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f32,
        /// AdamW's decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root of AdamW's second moment.
        #[serde(default = "epsilon")]
        epsilon: f32,
    },
}

impl Optimiser {
    /// Whether every tensor has to be a group of its own.
    pub fn needs_single_tensors(&self) -> bool {
        matches!(self, Optimiser::Lamb { .. } | Optimiser::Muon { .. })
    }

    /// What steps a group: Muon leaves to AdamW what is no hidden matrix.
    fn of(self, group: &Group) -> Self {
        match self {
            Optimiser::Muon { beta1, beta2, epsilon, .. } if group.hidden.is_none() => {
                Optimiser::Adamw { beta1, beta2, epsilon }
            }
            other => other,
        }
    }
}

fn muon_momentum() -> f32 {
    0.95
}

fn yes() -> bool {
    true
}

fn beta1() -> f32 {
    0.9
}

fn beta2() -> f32 {
    0.999
}

fn lion_beta2() -> f32 {
    0.99
}

fn epsilon() -> f32 {
    1e-8
}

fn lamb_epsilon() -> f32 {
    1e-6
}

/// What an optimiser remembers between steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// First moment, or velocity; laid out like the parameters.
    pub first: Vec<f32>,
    /// Second moment; empty where none is kept.
    pub second: Vec<f32>,
    /// Steps taken.
    pub steps: u64,
}

/// Elements below which a second thread costs more than it brings.
const CHUNK: usize = 1 << 14;

impl Optimiser {
    /// Fresh memory for so many parameters.
    pub fn moments(&self, count: usize) -> Moments {
        let second = if matches!(self, Optimiser::Adamw { .. } | Optimiser::Lamb { .. } | Optimiser::Muon { .. }) {
            count
        } else {
            0
        };
        Moments { first: vec![0.0; count], second: vec![0.0; second], steps: 0 }
    }

    /// One step at learning rate `rate`: changes the parameters along their gradients, group by group. Elements of no
    /// group stay.
    pub fn step(
        &self,
        device: &Cpu,
        groups: &[Group],
        rate: f32,
        parameters: &mut [f32],
        gradients: &[f32],
        moments: &mut Moments,
    ) {
        assert_eq!(parameters.len(), gradients.len(), "gradients are laid out like the parameters");
        moments.steps += 1;
        for group in groups {
            let Range { start, end } = group.range.clone();
            let rate = rate * group.rate_scale;
            let parameters = &mut parameters[start..end];
            let gradients = &gradients[start..end];
            let first = &mut moments.first[start..end];
            let steps = moments.steps.min(i32::MAX as u64) as i32;
            let correction = |beta: f32| 1.0 - f64::from(beta).powi(steps);
            match self.of(group) {
                Optimiser::Adamw { beta1, beta2, epsilon } => {
                    let second = &mut moments.second[start..end];
                    let size = (f64::from(rate) / correction(beta1)) as f32;
                    let root = correction(beta2).sqrt() as f32;
                    let keep = 1.0 - rate * group.decay;
                    (parameters.par_chunks_mut(CHUNK), gradients.par_chunks(CHUNK))
                        .into_par_iter()
                        .zip((first.par_chunks_mut(CHUNK), second.par_chunks_mut(CHUNK)))
                        .for_each(|((p, g), (m, v))| {
                            for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                                *m += (1.0 - beta1) * (g - *m);
                                *v = beta2 * *v + (1.0 - beta2) * g * g;
                                *p = keep * *p - size * *m / (v.sqrt() / root + epsilon);
                            }
                        });
                }
                Optimiser::Lamb { beta1, beta2, epsilon } => {
                    let second = &mut moments.second[start..end];
                    let (shrunk, root) = (correction(beta1) as f32, correction(beta2).sqrt() as f32);
                    each(parameters, gradients, first, |_, g, m| *m += (1.0 - beta1) * (g - *m));
                    each(parameters, gradients, second, |_, g, v| *v = beta2 * *v + (1.0 - beta2) * g * g);
                    let update: Vec<f32> = (parameters.par_iter().with_min_len(CHUNK), first.par_iter())
                        .into_par_iter()
                        .zip(second.par_iter())
                        .map(|((p, m), v)| m / shrunk / (v.sqrt() / root + epsilon) + group.decay * p)
                        .collect();
                    // What does not decay keeps Adam's own step.
                    let trust = match (norm(parameters), norm(&update)) {
                        (own, step) if group.decay > 0.0 && own > 0.0 && step > 0.0 => (own / step) as f32,
                        _ => 1.0,
                    };
                    let size = rate * trust;
                    (parameters.par_chunks_mut(CHUNK), update.par_chunks(CHUNK)).into_par_iter().for_each(|(p, u)| {
                        p.iter_mut().zip(u).for_each(|(p, u)| *p -= size * u);
                    });
                }
                Optimiser::Sgd { momentum, nesterov } => {
                    let begun = moments.steps > 1;
                    each(parameters, gradients, first, |p, g, v| {
                        let g = g + group.decay * *p;
                        *v = if begun { momentum * *v + g } else { g };
                        *p -= rate * if nesterov { g + momentum * *v } else { *v };
                    });
                }
                Optimiser::Muon { momentum, nesterov, matrix_rate, .. } => {
                    let shape = group.hidden.expect("what is no hidden matrix is AdamW's");
                    // The padding after a matrix is no part of it.
                    let count = shape[0] * shape[1];
                    let ahead = if nesterov { momentum } else { 1.0 };
                    each(&mut parameters[..count], &gradients[..count], &mut first[..count], |_, g, m| {
                        *m += (1.0 - momentum) * (g - *m);
                    });
                    let along: Vec<f32> =
                        gradients[..count].iter().zip(&*first).map(|(g, m)| g + ahead * (m - g)).collect();
                    let update = muon::levelled(device, &along, shape);
                    let (keep, size) = (1.0 - rate * group.decay, rate * matrix_rate.factor(shape));
                    parameters.iter_mut().zip(&update).for_each(|(p, u)| *p = keep * *p - size * u);
                }
                Optimiser::Lion { beta1, beta2 } => {
                    let keep = 1.0 - rate * group.decay;
                    each(parameters, gradients, first, |p, g, m| {
                        let along = beta1 * *m + (1.0 - beta1) * g;
                        let sign = if along == 0.0 { 0.0 } else { along.signum() };
                        *p = keep * *p - rate * sign;
                        *m = beta2 * *m + (1.0 - beta2) * g;
                    });
                }
            }
        }
    }
}

fn each(parameters: &mut [f32], gradients: &[f32], moment: &mut [f32], f: impl Fn(&mut f32, f32, &mut f32) + Sync) {
    (parameters.par_chunks_mut(CHUNK), gradients.par_chunks(CHUNK), moment.par_chunks_mut(CHUNK))
        .into_par_iter()
        .for_each(|(p, g, m)| p.iter_mut().zip(g).zip(m).for_each(|((p, g), m)| f(p, *g, m)));
}

/// How gradients are kept from exploding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clip {
    /// All gradients together get at most this Euclidean norm (PyTorch's `clip_grad_norm_`).
    Norm(f32),
    /// Every number is kept within ± this.
    Value(f32),
    /// The gradient of each output of a map, or of each vector, gets at most this share of the parameters' own norm (adaptive
    /// gradient clipping, arXiv:2102.06171, as timm computes it).
    Adaptive(f32),
}

/// Euclidean norm of all gradients, summed in a fixed order.
pub fn norm(gradients: &[f32]) -> f64 {
    let squares: Vec<f64> =
        gradients.par_chunks(CHUNK).map(|chunk| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum()).collect();
    squares.iter().sum::<f64>().sqrt()
}

impl Clip {
    /// Clips; `norm` is that of the gradients, laid out like the parameters.
    pub fn apply(self, gradients: &mut [f32], norm: f64, parameters: &Parameters) {
        match self {
            Clip::Norm(limit) => {
                let factor = (f64::from(limit) / (norm + 1e-6)).min(1.0) as f32;
                if factor < 1.0 {
                    scale(gradients, factor);
                }
            }
            Clip::Value(limit) => {
                gradients.par_iter_mut().with_min_len(CHUNK).for_each(|g| *g = g.clamp(-limit, limit));
            }
            Clip::Adaptive(share) => {
                for id in parameters.declarations().ids().filter(|&id| parameters.is_flat(id)) {
                    let spec = parameters.declarations().spec(id);
                    // Positions and tokens are vectors to timm, however they are laid out, and entries of a table are not.
                    let mapped = spec.name.ends_with(".weight") || spec.name.ends_with("relative_positions");
                    let rows = mapped && spec.shape.len() > 1;
                    let unit = if rows { spec.count() / spec.shape[0].max(1) } else { spec.count() };
                    let range = parameters.range(id);
                    let own = parameters.flat()[range.clone()].par_chunks(unit.max(1));
                    gradients[range].par_chunks_mut(unit.max(1)).zip(own).for_each(|(gradients, own)| {
                        let length = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                        let most = length(own).max(1e-3) * f64::from(share);
                        let factor = (most / length(gradients).max(1e-6)).min(1.0) as f32;
                        if factor < 1.0 {
                            gradients.iter_mut().for_each(|gradient| *gradient *= factor);
                        }
                    });
                }
            }
        }
    }
}

/// Every number times a factor.
pub fn scale(numbers: &mut [f32], factor: f32) {
    numbers.par_iter_mut().with_min_len(CHUNK).for_each(|x| *x *= factor);
}

/// Adds numbers to others.
pub fn add(sums: &mut [f32], numbers: &[f32]) {
    (sums.par_chunks_mut(CHUNK), numbers.par_chunks(CHUNK)).into_par_iter().for_each(|(sums, numbers)| {
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += number;
        }
    });
}

/// Moves an exponential average towards the parameters: `average = decay · average + (1 − decay) · parameters`.
pub fn follow(average: &mut [f32], parameters: &[f32], decay: f32) {
    (average.par_chunks_mut(CHUNK), parameters.par_chunks(CHUNK)).into_par_iter().for_each(|(average, parameters)| {
        for (average, parameter) in average.iter_mut().zip(parameters) {
            *average += (1.0 - decay) * (parameter - *average);
        }
    });
}
