//! Losses, and counts of correct answers.

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
            LossKind::CrossEntropy => {
                let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
                let total: f64 = rows
                    .map(|(logits, targets)| {
                        -log_softmax(logits)
                            .zip(targets)
                            .map(|(l, &t)| if t == 0.0 { 0.0 } else { l * f64::from(t) })
                            .sum::<f64>()
                    })
                    .sum();
                total / batch as f64
            }
            LossKind::BinaryCrossEntropy => {
                let total: f64 = (logits.iter().zip(targets))
                    .map(|(&x, &t)| (f64::from(x), f64::from(t)))
                    .map(|(x, t)| x.max(0.0) - x * t + (-x.abs()).exp().ln_1p())
                    .sum();
                total / logits.len() as f64
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
                    for ((out, &x), t) in out.iter_mut().zip(logits).zip(targets) {
                        *out = factor * (1.0 / (1.0 + (-x).exp()) - t);
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
