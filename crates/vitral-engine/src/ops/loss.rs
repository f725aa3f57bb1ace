//! Losses: means over the batch of a scalar per sample.

use crate::device::cpu::Cpu;
use crate::ops::activation::softmax_rows;
use crate::tape::Context;
use crate::tensor::Tensor;

/// Log-softmax of rows, with the sum in double precision.
fn log_softmax(row: &[f32]) -> impl Iterator<Item = f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
    let shift = f64::from(top) + total.ln();
    row.iter().map(move |&x| f64::from(x) - shift)
}

fn scalar(device: &Cpu, value: f64) -> Tensor {
    Tensor::from_slice(device, [1], &[value as f32])
}

impl Context<'_> {
    /// Cross-entropy of `logits`, `[batch, classes]`, against target distributions of the same shape, as a tensor of one
    /// number: `mean over samples of −Σ target · log softmax(logits)`.
    ///
    /// Hard labels and label smoothing are distributions too: see [`one_hot`].
    pub fn cross_entropy(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        assert_eq!(logits.shape(), targets.shape(), "targets for {:?}", logits.shape());
        let (batch, classes) = (logits.rows(), logits.shape().last());
        let rows = logits.values().chunks_exact(classes).zip(targets.values().chunks_exact(classes));
        let total: f64 = rows
            .map(|(logits, targets)| {
                -log_softmax(logits)
                    .zip(targets)
                    .map(|(l, &t)| if t == 0.0 { 0.0 } else { l * f64::from(t) })
                    .sum::<f64>()
            })
            .sum();
        let (logits, targets) = (logits.clone(), targets.clone());
        self.record(scalar(self.device, total / batch as f64), logits.node.is_some(), || {
            Box::new(move |grad, gradients| {
                let factor = grad.values()[0] / batch as f32;
                gradients.add(logits.node, |g| {
                    let softmax = softmax_rows(g.device, &logits);
                    Tensor::filled(g.device, logits.shape(), |out| {
                        let rows = out.chunks_exact_mut(classes).zip(softmax.values().chunks_exact(classes));
                        for ((out, softmax), targets) in rows.zip(targets.values().chunks_exact(classes)) {
                            let mass: f32 = targets.iter().sum();
                            for ((out, p), t) in out.iter_mut().zip(softmax).zip(targets) {
                                *out = factor * (mass * p - t);
                            }
                        }
                    })
                });
            })
        })
    }

    /// Binary cross-entropy of `logits` against targets in 0…1 of the same shape, a mean over all numbers.
    pub fn binary_cross_entropy(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        assert_eq!(logits.shape(), targets.shape(), "targets for {:?}", logits.shape());
        let count = logits.shape().count();
        let total: f64 = (logits.values().iter().zip(targets.values()))
            .map(|(&x, &t)| (f64::from(x), f64::from(t)))
            .map(|(x, t)| x.max(0.0) - x * t + (-x.abs()).exp().ln_1p())
            .sum();
        let (logits, targets) = (logits.clone(), targets.clone());
        self.record(scalar(self.device, total / count as f64), logits.node.is_some(), || {
            Box::new(move |grad, gradients| {
                let factor = grad.values()[0] / count as f32;
                gradients.add(logits.node, |g| {
                    Tensor::filled(g.device, logits.shape(), |out| {
                        for ((out, &x), t) in out.iter_mut().zip(logits.values()).zip(targets.values()) {
                            *out = factor * (1.0 / (1.0 + (-x).exp()) - t);
                        }
                    })
                });
            })
        })
    }

    /// Kullback–Leibler divergence of the student's softmax from the teacher's, both at a temperature, a mean over the
    /// batch: `Σ p (log p − log q)` with `p` the teacher's. No gradient goes to the teacher.
    pub fn divergence(&self, student: &Tensor, teacher: &Tensor, temperature: f32) -> Tensor {
        assert_eq!(student.shape(), teacher.shape(), "a teacher for {:?}", student.shape());
        let (batch, classes) = (student.rows(), student.shape().last());
        let cooled = |x: &[f32]| x.iter().map(|x| x / temperature).collect::<Vec<_>>();
        let (q, p) = (cooled(student.values()), cooled(teacher.values()));
        let total: f64 = (q.chunks_exact(classes).zip(p.chunks_exact(classes)))
            .map(|(q, p)| log_softmax(p).zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum::<f64>())
            .sum();
        let (node, shape) = (student.node, student.shape());
        self.record(scalar(self.device, total / batch as f64), node.is_some(), || {
            Box::new(move |grad, gradients| {
                let factor = f64::from(grad.values()[0] / (batch as f32 * temperature));
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        let rows = out.chunks_exact_mut(classes).zip(q.chunks_exact(classes));
                        for ((out, q), p) in rows.zip(p.chunks_exact(classes)) {
                            for ((out, q), p) in out.iter_mut().zip(log_softmax(q)).zip(log_softmax(p)) {
                                *out = (factor * (q.exp() - p.exp())) as f32;
                            }
                        }
                    })
                });
            })
        })
    }
}

/// Distributions for hard labels, `[labels, classes]`: all mass on the label, of which `smoothing` is spread evenly over
/// all classes (arXiv:1512.00567).
///
/// # Panics
/// If a label is not below `classes`.
pub fn one_hot(device: &Cpu, labels: &[usize], classes: usize, smoothing: f32) -> Tensor {
    Tensor::filled(device, [labels.len(), classes], |out| {
        out.fill(smoothing / classes as f32);
        for (row, &label) in out.chunks_exact_mut(classes).zip(labels) {
            row[label] += 1.0 - smoothing;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equal_pytorch() {
        let check = Check::new();
        for (name, smoothed) in [("cross_entropy", false), ("cross_entropy_smoothed", true)] {
            let golden = Golden::load(name);
            let smoothing = if smoothed { golden.scalar("smoothing") } else { 0.0 };
            let targets = one_hot(&Cpu::with_threads(1), &golden.integers("labels"), 7, smoothing);
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.cross_entropy(&x[0], &targets));
        }
        let golden = Golden::load("cross_entropy_soft");
        let targets = golden.tensor("targets");
        check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.cross_entropy(&x[0], &targets));
        let golden = Golden::load("bce_with_logits");
        let targets = golden.tensor("targets");
        check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.binary_cross_entropy(&x[0], &targets));
        for name in ["kl_div", "kl_div_1"] {
            let golden = Golden::load(name);
            let (teacher, temperature) = (golden.tensor("teacher"), golden.scalar("temperature"));
            check.against(&golden, &[golden.tensor("student")], &["student"], |cx, x| {
                cx.divergence(&x[0], &teacher, temperature)
            });
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        let x = check.input(&[3, 4]);
        let targets = check.tensor(&[3, 4], &[0.1, 0.2, 0.3, 0.4, 1.0, 0.0, 0.0, 0.0, 0.5, 0.2, 0.0, 0.0]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.cross_entropy(&x[0], &targets));
        check.differences(std::slice::from_ref(&x), |cx, x| cx.binary_cross_entropy(&x[0], &targets));
        check.differences(&[x], |cx, x| cx.divergence(&x[0], &targets, 2.0));
    }
}
