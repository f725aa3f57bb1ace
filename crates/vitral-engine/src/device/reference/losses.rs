//! Losses, and counts of correct answers.

use super::{Reference, stored};
use crate::device::backend::{LossCall, LossKind, Losses};
use crate::tensor::Tensor;

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shift = top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
    row.iter().map(|x| x - shift).collect()
}

fn cooled(row: &[f64], temperature: f64) -> Vec<f64> {
    row.iter().map(|x| x / temperature).collect()
}

/// The class with the greatest number; the first of equals.
fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

impl Losses for Reference {
    fn loss(&self, loss: &LossCall) -> Tensor {
        let (kind, classes) = (loss.kind, loss.logits.shape().last());
        self.compute([1], [stored(&loss.logits), stored(&loss.targets)], move |[logits, targets], out| {
            let rows = || logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
            let batch = rows().count() as f64;
            out[0] = match kind {
                LossKind::CrossEntropy => {
                    let of_row = |(logits, targets): (&[f64], &[f64])| -> f64 {
                        let terms = log_softmax(logits).into_iter().zip(targets);
                        -terms.map(|(l, &t)| if t == 0.0 { 0.0 } else { l * t }).sum::<f64>()
                    };
                    rows().map(of_row).sum::<f64>() / batch
                }
                LossKind::BinaryCrossEntropy => {
                    let of_one = |(x, t): (&f64, &f64)| x.max(0.0) - x * t + (-x.abs()).exp().ln_1p();
                    logits.iter().zip(targets).map(of_one).sum::<f64>() / logits.len() as f64
                }
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
        let reads = [stored(&loss.logits), stored(&loss.targets), stored(grad)];
        self.compute(loss.logits.shape(), reads, move |[logits, targets, grad], out| {
            let batch = (logits.len() / classes) as f64;
            for row in 0..logits.len() / classes {
                let at = row * classes..(row + 1) * classes;
                let (logits_row, targets_row) = (&logits[at.clone()], &targets[at.clone()]);
                let gradient: Vec<f64> = match kind {
                    LossKind::CrossEntropy => {
                        let mass: f64 = targets_row.iter().sum();
                        let terms = log_softmax(logits_row).into_iter().zip(targets_row);
                        terms.map(|(l, t)| (mass * l.exp() - t) / batch).collect()
                    }
                    LossKind::BinaryCrossEntropy => {
                        let count = logits.len() as f64;
                        let terms = logits_row.iter().zip(targets_row);
                        terms.map(|(x, t)| (1.0 / (1.0 + (-x).exp()) - t) / count).collect()
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
