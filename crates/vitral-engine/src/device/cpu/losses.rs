//! Losses, and counts of correct answers.

use std::borrow::Cow;

use super::{Cpu, values};
use crate::device::backend::{Elements, LossCall, LossKind, Losses};
use crate::tensor::Tensor;

/// Log-softmax of rows, with the sum in double precision.
fn log_softmax(row: &[f32]) -> impl Iterator<Item = f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
    let shift = f64::from(top) + total.ln();
    row.iter().map(move |&x| f64::from(x) - shift)
}

fn cooled(x: &[f32], temperature: f32) -> Vec<f32> {
    x.iter().map(|x| x / temperature).collect()
}

/// The logarithms of the sigmoid of a number, and of one less it.
fn log_sigmoids(x: f64) -> [f64; 2] {
    let rest = (-x.abs()).exp().ln_1p();
    [x.min(0.0) - rest, -x.max(0.0) - rest]
}

/// `−(1 − p)^gamma · log p`, of `log p`. Rounding may leave a logarithm above 0.
fn focal(log: f64, gamma: f64) -> f64 {
    let log = if log > 0.0 { 0.0 } else { log };
    (-log.exp_m1()).powf(gamma) * -log
}

/// The derivative of [`focal`].
fn focal_slope(log: f64, gamma: f64) -> f64 {
    let log = if log > 0.0 { 0.0 } else { log };
    let (p, rest) = (log.exp(), -log.exp_m1());
    // The limit of log p over 1 − p, where p is 1; and p · log p is 0, where p is.
    let ratio = if rest == 0.0 { -1.0 } else { log / rest };
    rest.powf(gamma) * (if p == 0.0 { 0.0 } else { gamma * p * ratio } - 1.0)
}

/// The targets, times the weights of their classes.
fn weighted(loss: &LossCall) -> Cow<'_, [f32]> {
    let targets = values(&loss.targets);
    match loss.weights.as_ref().map(values) {
        None => Cow::Borrowed(targets),
        Some(weights) => targets.iter().zip(weights.iter().cycle()).map(|(target, weight)| target * weight).collect(),
    }
}

/// A number of the binary losses.
struct Question {
    logit: f32,
    /// What its target has of 1, weighted.
    yes: f32,
    /// What it lacks.
    no: f32,
    /// Both together: exactly 1 without a weight.
    mass: f32,
}

fn questions(loss: &LossCall) -> impl Iterator<Item = Question> {
    let (logits, targets, classes) = (values(&loss.logits), values(&loss.targets), loss.logits.shape().last());
    let weights = loss.weights.as_ref().map(values);
    logits.iter().zip(targets).enumerate().map(move |(i, (&logit, &target))| {
        let weight = weights.map_or(1.0, |weights| weights[i % classes]);
        Question { logit, yes: weight * target, no: 1.0 - target, mass: 1.0 + (weight - 1.0) * target }
    })
}

/// The class with the greatest number; the first of equals.
fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (class, &value) in row.iter().enumerate() {
        if value > row[best] {
            best = class;
        }
    }
    best
}

impl Losses for Cpu {
    fn loss(&self, loss: &LossCall) -> Tensor {
        let (logits, targets) = (values(&loss.logits), values(&loss.targets));
        let (batch, classes) = (loss.logits.rows(), loss.logits.shape().last());
        let mean = match loss.kind {
            LossKind::CrossEntropy | LossKind::Focal { .. } => {
                let targets = weighted(loss);
                let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
                let term = |log: f64| match loss.kind {
                    LossKind::Focal { gamma } => focal(log, gamma.into()),
                    _ => -log,
                };
                let total: f64 = rows
                    .map(|(logits, targets)| {
                        log_softmax(logits)
                            .zip(targets)
                            .map(|(l, &t)| if t == 0.0 { 0.0 } else { term(l) * f64::from(t) })
                            .sum::<f64>()
                    })
                    .sum();
                total / batch as f64
            }
            LossKind::BinaryCrossEntropy => {
                let of_one = |Question { logit, yes, mass, .. }| {
                    let (x, yes, mass) = (f64::from(logit), f64::from(yes), f64::from(mass));
                    mass * x.max(0.0) - x * yes + mass * (-x.abs()).exp().ln_1p()
                };
                questions(loss).map(of_one).sum::<f64>() / logits.len() as f64
            }
            LossKind::BinaryFocal { gamma } => {
                let of_one = |Question { logit, yes, no, .. }| {
                    let ([log, log_rest], gamma) = (log_sigmoids(logit.into()), f64::from(gamma));
                    let gained = f64::from(yes) * log_rest.exp().powf(gamma) * log;
                    -(gained + f64::from(no) * log.exp().powf(gamma) * log_rest)
                };
                questions(loss).map(of_one).sum::<f64>() / logits.len() as f64
            }
            LossKind::SquaredError => {
                let square = |(&x, &t): (&f32, &f32)| (f64::from(x) - f64::from(t)).powi(2);
                logits.iter().zip(targets).map(square).sum::<f64>() / logits.len() as f64
            }
            LossKind::KlDivergence { temperature } => {
                let (q, p) = (cooled(logits, temperature), cooled(targets, temperature));
                let total: f64 = (q.chunks_exact(classes).zip(p.chunks_exact(classes)))
                    .map(|(q, p)| log_softmax(p).zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum::<f64>())
                    .sum();
                total / batch as f64
            }
        };
        self.tensor([1], |out| out[0] = mean as f32)
    }

    fn loss_backward(&self, loss: &LossCall, grad: &Tensor) -> Tensor {
        let (logits, targets) = (values(&loss.logits), values(&loss.targets));
        let (batch, classes) = (loss.logits.rows(), loss.logits.shape().last());
        let upstream = values(grad)[0];
        match loss.kind {
            LossKind::CrossEntropy => {
                let factor = upstream / batch as f32;
                let softmax = self.softmax(&loss.logits);
                let targets = weighted(loss);
                self.tensor(loss.logits.shape(), |out| {
                    let rows = out.chunks_exact_mut(classes).zip(values(&softmax).chunks_exact(classes));
                    for ((out, softmax), targets) in rows.zip(targets.chunks_exact(classes)) {
                        let mass: f32 = targets.iter().sum();
                        for ((out, p), t) in out.iter_mut().zip(softmax).zip(targets) {
                            *out = factor * (mass * p - t);
                        }
                    }
                })
            }
            LossKind::BinaryCrossEntropy => {
                let factor = upstream / logits.len() as f32;
                self.tensor(loss.logits.shape(), |out| {
                    for (out, Question { logit, yes, mass, .. }) in out.iter_mut().zip(questions(loss)) {
                        *out = factor * (mass / (1.0 + (-logit).exp()) - yes);
                    }
                })
            }
            LossKind::Focal { gamma } => {
                let factor = f64::from(upstream / batch as f32);
                let targets = weighted(loss);
                self.tensor(loss.logits.shape(), |out| {
                    let rows = out.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
                    for ((out, logits), targets) in rows.zip(targets.chunks_exact(classes)) {
                        let slope = |(log, &target): (f64, &f32)| match target {
                            0.0 => 0.0,
                            target => f64::from(target) * focal_slope(log, gamma.into()),
                        };
                        let slopes: Vec<f64> = log_softmax(logits).zip(targets).map(slope).collect();
                        let total: f64 = slopes.iter().sum();
                        for ((out, log), slope) in out.iter_mut().zip(log_softmax(logits)).zip(slopes) {
                            *out = (factor * (slope - total * log.exp())) as f32;
                        }
                    }
                })
            }
            LossKind::BinaryFocal { gamma } => {
                let (factor, gamma) = (f64::from(upstream / logits.len() as f32), f64::from(gamma));
                self.tensor(loss.logits.shape(), |out| {
                    for (out, Question { logit, yes, no, .. }) in out.iter_mut().zip(questions(loss)) {
                        let [log, log_rest] = log_sigmoids(logit.into());
                        let (p, rest) = (log.exp(), log_rest.exp());
                        let gained = f64::from(yes) * rest.powf(gamma) * (gamma * p * log - rest);
                        let lost = f64::from(no) * p.powf(gamma) * (p - gamma * rest * log_rest);
                        *out = (factor * (gained + lost)) as f32;
                    }
                })
            }
            LossKind::SquaredError => {
                let factor = 2.0 * upstream / logits.len() as f32;
                self.tensor(loss.logits.shape(), |out| {
                    for ((out, &x), t) in out.iter_mut().zip(logits).zip(targets) {
                        *out = factor * (x - t);
                    }
                })
            }
            LossKind::KlDivergence { temperature } => {
                let factor = f64::from(upstream / (batch as f32 * temperature));
                let (q, p) = (cooled(logits, temperature), cooled(targets, temperature));
                self.tensor(loss.logits.shape(), |out| {
                    let rows = out.chunks_exact_mut(classes).zip(q.chunks_exact(classes));
                    for ((out, q), p) in rows.zip(p.chunks_exact(classes)) {
                        for ((out, q), p) in out.iter_mut().zip(log_softmax(q)).zip(log_softmax(p)) {
                            *out = (factor * (q.exp() - p.exp())) as f32;
                        }
                    }
                })
            }
        }
    }

    fn one_hot_argmax(&self, logits: &Tensor) -> Tensor {
        let classes = logits.shape().last();
        self.tensor(logits.shape(), |out| {
            out.fill(0.0);
            for (out, row) in out.chunks_exact_mut(classes).zip(values(logits).chunks_exact(classes)) {
                out[argmax(row)] = 1.0;
            }
        })
    }

    fn count_correct(&self, logits: &Tensor, labels: &Tensor) -> Tensor {
        let rows = values(logits).chunks_exact(logits.shape().last().max(1));
        let correct = rows.zip(values(labels)).filter(|(row, label)| argmax(row) as f32 == **label).count();
        self.tensor([1], |out| out[0] = correct as f32)
    }
}
