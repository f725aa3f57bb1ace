//! A linear classifier of patch tokens.

use rayon::prelude::*;

use crate::data::shuffled;

/// Patches in a step.
const BATCH: usize = 2048;
/// The learning rate at the first step; it falls to 0 along a cosine.
const RATE: f64 = 1e-3;
/// The weights' decay in a step, as a fraction of the learning rate.
const DECAY: f64 = 1e-2;

/// Patch tokens, and what their masks say about each.
#[derive(Debug, Default)]
pub(super) struct Sample {
    width: usize,
    /// `[patches, width]`.
    values: Vec<f32>,
    /// The fraction of each patch that has each value of the masks.
    shares: Vec<Vec<(u16, f32)>>,
}

impl Sample {
    pub(super) fn new(width: usize) -> Self {
        Sample { width, ..Sample::default() }
    }

    /// Adds at most `most` patches of an image, drawn by its index; those whose pixels are all ignored are passed over.
    pub(super) fn add(&mut self, tokens: &[f32], shares: &[Vec<(u16, f32)>], most: usize, image: usize) {
        let mut known: Vec<usize> = (0..shares.len()).filter(|&patch| !shares[patch].is_empty()).collect();
        if known.len() > most {
            let order = shuffled(known.len(), 0, image as u64);
            let mut drawn: Vec<usize> = order[..most].iter().map(|&place| known[place]).collect();
            drawn.sort_unstable();
            known = drawn;
        }
        for patch in known {
            self.values.extend_from_slice(&tokens[patch * self.width..][..self.width]);
            self.shares.push(shares[patch].clone());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shares.len()
    }

    fn row(&self, patch: usize) -> &[f32] {
        &self.values[patch * self.width..][..self.width]
    }

    /// Mean and standard deviation of each value.
    fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let count = self.len() as f64;
        let mut mean = vec![0.0f64; self.width];
        for row in self.values.chunks_exact(self.width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / count);
        }
        let mut variance = vec![0.0f64; self.width];
        for row in self.values.chunks_exact(self.width) {
            let away = mean.iter().zip(row).map(|(mean, value)| (f64::from(*value) - mean).powi(2) / count);
            variance.iter_mut().zip(away).for_each(|(sum, away)| *sum += away);
        }
        // A value that never changes says nothing.
        let deviation = |variance: f64| if variance > 1e-20 { variance.sqrt() } else { f64::INFINITY };
        (mean, variance.into_iter().map(deviation).collect())
    }
}

/// A linear classifier: a weight for each value and class, and an offset for each class.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    width: usize,
    /// `[classes, width]`.
    weights: Vec<f32>,
    offsets: Vec<f32>,
}

impl Head {
    /// Fits a classifier by `steps` of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) on the cross-entropy with each
    /// patch's shares, over values scaled to mean 0 and deviation 1. `classes` has the values of the masks in order.
    ///
    /// # Panics
    /// If there are no patches, or a value is not among the classes.
    pub(super) fn fit(sample: &Sample, classes: &[u16], steps: usize) -> Self {
        assert!(sample.len() > 0, "patches to fit");
        let (width, count) = (sample.width, classes.len());
        let (mean, deviation) = sample.moments();
        let targets: Vec<Vec<(usize, f32)>> = sample
            .shares
            .iter()
            .map(|shares| {
                let class = |value: u16| classes.binary_search(&value).expect("a value of a class");
                shares.iter().map(|&(value, share)| (class(value), share)).collect()
            })
            .collect();
        let batch = BATCH.min(sample.len());
        let mut head = Head { width, weights: vec![0.0; count * width], offsets: vec![0.0; count] };
        let (mut of_weights, mut of_offsets) = (Moments::new(count * width), Moments::new(count));
        let mut order = Vec::new();
        let mut epoch = 0;
        for step in 0..steps {
            if order.len() < batch {
                order = shuffled(sample.len(), 0, epoch);
                epoch += 1;
            }
            let taken = order.split_off(order.len() - batch);
            let mut scaled = vec![0.0f32; batch * width];
            scaled.par_chunks_mut(width).zip(&taken).for_each(|(to, &patch)| {
                let scale =
                    |((value, mean), deviation): ((&f32, &f64), &f64)| ((f64::from(*value) - mean) / deviation) as f32;
                to.iter_mut()
                    .zip(sample.row(patch).iter().zip(&mean).zip(&deviation).map(scale))
                    .for_each(|(to, x)| *to = x);
            });
            // The gradient of the loss by the logits: what is predicted, less the truth.
            let mut errors = head.logits(&scaled);
            errors.par_chunks_mut(count).zip(&taken).for_each(|(row, &patch)| {
                softmax(row);
                targets[patch].iter().for_each(|&(class, share)| row[class] -= share);
                row.iter_mut().for_each(|error| *error /= batch as f32);
            });
            let (mut by_weights, mut by_offsets) = (vec![0.0f32; count * width], vec![0.0f32; count]);
            by_weights.par_chunks_mut(width).zip(by_offsets.par_iter_mut()).enumerate().for_each(
                |(class, (sums, offset))| {
                    for (row, errors) in scaled.chunks_exact(width).zip(errors.chunks_exact(count)) {
                        let error = errors[class];
                        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += error * value);
                        *offset += error;
                    }
                },
            );
            let rate = RATE * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            of_weights.step(&mut head.weights, &by_weights, step, rate, DECAY);
            of_offsets.step(&mut head.offsets, &by_offsets, step, rate, 0.0);
        }
        head.unscaled(&mean, &deviation)
    }

    /// The same classifier for values that are not scaled.
    fn unscaled(mut self, mean: &[f64], deviation: &[f64]) -> Self {
        for (row, offset) in self.weights.chunks_exact_mut(self.width).zip(&mut self.offsets) {
            let mut moved = f64::from(*offset);
            for ((weight, mean), deviation) in row.iter_mut().zip(mean).zip(deviation) {
                let own = f64::from(*weight) / deviation;
                moved -= own * mean;
                *weight = own as f32;
            }
            *offset = moved as f32;
        }
        self
    }

    /// Logits of tokens `[patches, width]`: `[patches, classes]`.
    pub(super) fn logits(&self, tokens: &[f32]) -> Vec<f32> {
        let classes = self.offsets.len();
        let mut logits = vec![0.0; tokens.len() / self.width * classes];
        logits.par_chunks_mut(classes).zip(tokens.par_chunks_exact(self.width)).for_each(|(to, token)| {
            let rows = self.weights.chunks_exact(self.width).zip(&self.offsets);
            to.iter_mut().zip(rows).for_each(|(to, (row, offset))| *to = dot(row, token) + offset);
        });
        logits
    }
}

/// A sum of products, in eight sums at a time.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0f32; 8];
    for (a, b) in a8.zip(b8) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f32>() + rest
}

fn softmax(row: &mut [f32]) {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = (*value - greatest).exp());
    let total: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= total);
}

/// Adam's moving averages.
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    fn new(count: usize) -> Self {
        Moments { first: vec![0.0; count], second: vec![0.0; count] }
    }

    fn step(&mut self, values: &mut [f32], gradient: &[f32], step: usize, rate: f64, decay: f64) {
        const FIRST: f64 = 0.9;
        const SECOND: f64 = 0.999;
        let steps = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let (by_first, by_second) = (1.0 - FIRST.powi(steps), 1.0 - SECOND.powi(steps));
        for (((value, gradient), first), second) in
            values.iter_mut().zip(gradient).zip(&mut self.first).zip(&mut self.second)
        {
            let slope = f64::from(*gradient);
            let mean = FIRST * f64::from(*first) + (1.0 - FIRST) * slope;
            let square = SECOND * f64::from(*second) + (1.0 - SECOND) * slope * slope;
            let change = mean / by_first / ((square / by_second).sqrt() + 1e-8) + decay * f64::from(*value);
            (*first, *second) = (mean as f32, square as f32);
            *value = (f64::from(*value) - rate * change) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use vitral_engine::random::normal;

    use super::*;

    /// Patches of three classes around three centers, at a scale and an offset that have to be taken out.
    fn sample(count: usize, seed: u64) -> Sample {
        let mut sample = Sample::new(10);
        for patch in 0..count {
            let class = patch % 3;
            let value = |at: usize| {
                let center = if at == class { 4.0 } else { 0.0 };
                100.0 + 0.01 * (center + normal(seed, (patch * 10 + at) as u64))
            };
            let token: Vec<f32> = (0..10).map(value).collect();
            sample.add(&token, &[vec![([2u16, 7, 9][class], 1.0)]], 1, 0);
        }
        sample
    }

    #[test]
    fn classes_apart_are_told_apart() {
        let (known, unknown) = (sample(600, 1), sample(300, 2));
        let head = Head::fit(&known, &[2, 7, 9], 500);
        let logits = head.logits(&unknown.values);
        let right = logits
            .chunks_exact(3)
            .enumerate()
            .filter(|(patch, row)| (0..3).all(|class| class == patch % 3 || row[class] < row[patch % 3]));
        // Centers are √2 · 4 apart: an error in 430 is the least that any classifier makes.
        assert!(right.count() >= 294);
        assert_eq!(Head::fit(&known, &[2, 7, 9], 500), head, "the same bits again");
    }

    #[test]
    fn shares_are_probabilities() {
        // The same token, a quarter of one class and three quarters of the other.
        let mut sample = Sample::new(2);
        (0..8).for_each(|_| sample.add(&[1.0, 2.0], &[vec![(0, 0.25), (1, 0.75)]], 1, 0));
        let head = Head::fit(&sample, &[0, 1], 4000);
        let mut row = head.logits(&[1.0, 2.0]);
        softmax(&mut row);
        assert!((row[0] - 0.25).abs() < 0.01, "{row:?}");
    }

    #[test]
    fn ignored_patches_are_passed_over() {
        let mut sample = Sample::new(1);
        sample.add(&[1.0, 2.0, 3.0], &[vec![], vec![(0, 1.0)], vec![]], 2, 0);
        assert_eq!((sample.len(), sample.values.as_slice()), (1, &[2.0][..]));
    }
}
