//! Losses, and counts of correct answers.

use super::{Reference, stored};
use crate::device::backend::{LossCall, LossKind, Losses};
use crate::tensor::Tensor;

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shift = top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
    // Rounding may leave a logarithm above 0; what is no number stays so.
    row.iter().map(|x| x - shift).map(|log| if log > 0.0 { 0.0 } else { log }).collect()
}

fn cooled(row: &[f64], temperature: f64) -> Vec<f64> {
    row.iter().map(|x| x / temperature).collect()
}

/// The logarithms of the sigmoid of a number, and of one less it.
fn log_sigmoids(x: f64) -> [f64; 2] {
    let rest = (-x.abs()).exp().ln_1p();
    [x.min(0.0) - rest, -x.max(0.0) - rest]
}

/// `−(1 − p)^gamma · log p`, of `log p`.
fn focal(log: f64, gamma: f64) -> f64 {
    (-log.exp_m1()).powf(gamma) * -log
}

/// The derivative of [`focal`].
fn focal_slope(log: f64, gamma: f64) -> f64 {
    let (p, rest) = (log.exp(), -log.exp_m1());
    // The limit of log p over 1 − p, where p is 1; and p · log p is 0, where p is.
    let ratio = if rest == 0.0 { -1.0 } else { log / rest };
    rest.powf(gamma) * (if p == 0.0 { 0.0 } else { gamma * p * ratio } - 1.0)
}

/// The class with the greatest number; the first of equals.
fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

impl Losses for Reference {
    fn loss(&self, loss: &LossCall) -> Tensor {
        let (kind, classes) = (loss.kind, loss.logits.shape().last());
        let nothing = self.nothing();
        let weights = loss.weights.as_ref().map_or(&nothing, stored);
        let reads = [stored(&loss.logits), stored(&loss.targets), weights];
        self.compute([1], reads, move |[logits, targets, weights], out| {
            let rows = || logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
            let batch = rows().count() as f64;
            let weight = |class: usize| weights.get(class).copied().unwrap_or(1.0);
            // Sums of a term of each logarithm, or number, its target and the weight of its class.
            let of_softmax = |term: &dyn Fn(f64) -> f64| {
                let of_row = |(logits, targets): (&[f64], &[f64])| -> f64 {
                    let terms = log_softmax(logits).into_iter().zip(targets).enumerate();
                    let weighted = terms.map(|(class, (log, target))| (log, weight(class) * target));
                    weighted.map(|(log, target)| if target == 0.0 { 0.0 } else { target * term(log) }).sum()
                };
                rows().map(of_row).sum::<f64>() / batch
            };
            let of_sigmoid = |term: &dyn Fn(f64, f64, f64) -> f64| {
                let values = logits.iter().zip(targets).enumerate();
                values.map(|(i, (&x, &t))| term(x, weight(i % classes) * t, 1.0 - t)).sum::<f64>() / logits.len() as f64
            };
            out[0] = match kind {
                LossKind::CrossEntropy => of_softmax(&|log| -log),
                LossKind::Focal { gamma } => of_softmax(&|log| focal(log, gamma.into())),
                LossKind::BinaryCrossEntropy => of_sigmoid(&|x, yes, no| {
                    let mass = yes + no;
                    mass * x.max(0.0) - x * yes + mass * (-x.abs()).exp().ln_1p()
                }),
                LossKind::BinaryFocal { gamma } => of_sigmoid(&|x, yes, no| {
                    let ([log, log_rest], gamma) = (log_sigmoids(x), f64::from(gamma));
                    -(yes * log_rest.exp().powf(gamma) * log + no * log.exp().powf(gamma) * log_rest)
                }),
                LossKind::SquaredError => {
                    logits.iter().zip(targets).map(|(x, t)| (x - t).powi(2)).sum::<f64>() / logits.len() as f64
                }
                LossKind::KlDivergence { temperature } => {
                    let log = |row| log_softmax(&cooled(row, f64::from(temperature)));
                    let of_row = |(student, teacher)| -> f64 {
                        log(teacher).into_iter().zip(log(student)).map(|(p, q)| p.exp() * (p - q)).sum()
                    };
                    rows().map(of_row).sum::<f64>() / batch
                }
            };
        })
    }

    fn loss_backward(&self, loss: &LossCall, grad: &Tensor) -> Tensor {
        let (kind, classes) = (loss.kind, loss.logits.shape().last());
        let nothing = self.nothing();
        let weights = loss.weights.as_ref().map_or(&nothing, stored);
        let reads = [stored(&loss.logits), stored(&loss.targets), weights, stored(grad)];
        self.compute(loss.logits.shape(), reads, move |[logits, targets, weights, grad], out| {
            let weight = |class: usize| weights.get(class).copied().unwrap_or(1.0);
            let batch = (logits.len() / classes) as f64;
            for row in 0..logits.len() / classes {
                let at = row * classes..(row + 1) * classes;
                let (logits_row, targets_row) = (&logits[at.clone()], &targets[at.clone()]);
                // Of each class, what its target has of 1, weighted, and what it lacks.
                let parts = targets_row.iter().enumerate().map(|(class, &t)| (weight(class) * t, 1.0 - t));
                let gradient: Vec<f64> = match kind {
                    LossKind::CrossEntropy | LossKind::Focal { .. } => {
                        let logs = log_softmax(logits_row);
                        let slope = |log: f64| match kind {
                            LossKind::Focal { gamma } => focal_slope(log, gamma.into()),
                            _ => -1.0,
                        };
                        let slopes = logs.iter().zip(parts);
                        let slopes: Vec<f64> =
                            slopes.map(|(&log, (yes, _))| if yes == 0.0 { 0.0 } else { yes * slope(log) }).collect();
                        let total: f64 = slopes.iter().sum();
                        logs.iter().zip(slopes).map(|(log, slope)| (slope - total * log.exp()) / batch).collect()
                    }
                    LossKind::BinaryCrossEntropy => {
                        let count = logits.len() as f64;
                        let terms = logits_row.iter().zip(parts);
                        terms.map(|(x, (yes, no))| ((yes + no) / (1.0 + (-x).exp()) - yes) / count).collect()
                    }
                    LossKind::BinaryFocal { gamma } => {
                        let (count, gamma) = (logits.len() as f64, f64::from(gamma));
                        let of_one = |(&x, (yes, no)): (&f64, (f64, f64))| {
                            let [log, log_rest] = log_sigmoids(x);
                            let (p, rest) = (log.exp(), log_rest.exp());
                            let gained = yes * rest.powf(gamma) * (gamma * p * log - rest);
                            (gained + no * p.powf(gamma) * (p - gamma * rest * log_rest)) / count
                        };
                        logits_row.iter().zip(parts).map(of_one).collect()
                    }
                    LossKind::SquaredError => {
                        let count = logits.len() as f64;
                        logits_row.iter().zip(targets_row).map(|(x, t)| 2.0 * (x - t) / count).collect()
                    }
                    LossKind::KlDivergence { temperature } => {
                        let temperature = f64::from(temperature);
                        let log = |row| log_softmax(&cooled(row, temperature));
                        let terms = log(logits_row).into_iter().zip(log(targets_row));
                        terms.map(|(q, p)| (q.exp() - p.exp()) / (batch * temperature)).collect()
                    }
                };
                out[at].iter_mut().zip(gradient).for_each(|(out, gradient)| *out = grad[0] * gradient);
            }
        })
    }

    fn one_hot_argmax(&self, logits: &Tensor) -> Tensor {
        let classes = logits.shape().last();
        self.compute(logits.shape(), [stored(logits)], move |[logits], out| {
            out.fill(0.0);
            for (row, logits) in logits.chunks_exact(classes).enumerate() {
                out[row * classes + argmax(logits)] = 1.0;
            }
        })
    }

    fn count_correct(&self, logits: &Tensor, labels: &Tensor) -> Tensor {
        let classes = logits.shape().last();
        self.compute([1], [stored(logits), stored(labels)], move |[logits, labels], out| {
            let rows = logits.chunks_exact(classes).zip(labels);
            out[0] = rows.filter(|(row, label)| argmax(row) as f64 == **label).count() as f64;
        })
    }
}
