//! A linear classifier of patch tokens.

use std::ops::Range;

use vitral_engine::ops::Linear;
use vitral_engine::{
    BatchExtent, Context, Declarations, Device, DeviceError, GradientSum, Moments, ParameterKind, Parameters,
    Precision, Update, leaves,
};

use crate::data::shuffled;
use crate::optimize::{Optimizer, Schedule, group};

/// Patches in a step.
const BATCH: usize = 2048;
/// Parts of a step that are added up in a fixed order, whatever the number of threads.
const LEAVES: usize = 4;
/// The weights' decay.
const DECAY: f32 = 1e-2;

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

    /// Values of some patches, `[patches, width]`, and how much of each has each class, `[patches, classes]`.
    fn rows(&self, patches: &[usize], classes: &[u16]) -> (Vec<f32>, Vec<f32>) {
        let mut values = Vec::with_capacity(patches.len() * self.width);
        let mut targets = vec![0.0; patches.len() * classes.len()];
        for (&patch, targets) in patches.iter().zip(targets.chunks_exact_mut(classes.len())) {
            values.extend_from_slice(&self.values[patch * self.width..][..self.width]);
            for &(value, share) in &self.shares[patch] {
                targets[classes.binary_search(&value).expect("a value of a class")] = share;
            }
        }
        (values, targets)
    }

    /// Scales each value to mean 0 and deviation 1.
    fn scale(&mut self, (mean, deviation): &(Vec<f64>, Vec<f64>)) {
        for row in self.values.chunks_exact_mut(self.width) {
            for ((value, mean), deviation) in row.iter_mut().zip(mean).zip(deviation) {
                *value = ((f64::from(*value) - mean) / deviation) as f32;
            }
        }
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
#[derive(Debug)]
pub(super) struct Head {
    width: usize,
    map: Linear,
    parameters: Parameters,
}

impl Head {
    /// Fits a classifier by `steps` of AdamW on the cross-entropy with each patch's shares, over values scaled to mean 0 and
    /// deviation 1, in 32 bits. `classes` has the values of the masks in order.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If there are no patches, or a value is not among the classes.
    pub(super) fn fit(mut sample: Sample, classes: &[u16], steps: u64, device: &Device) -> Result<Self, DeviceError> {
        assert!(sample.len() > 0, "patches to fit");
        let (width, count) = (sample.width, classes.len());
        let moments = sample.moments();
        sample.scale(&moments);
        let device = device.clone().with_precision(Precision::F32)?;
        let mut declarations = Declarations::default();
        let weight = declarations.declare("weight", &[count, width], ParameterKind::Matrix);
        let bias = declarations.declare("bias", &[count], ParameterKind::Plain);
        let map = Linear { weight, bias: Some(bias) };
        let mut parameters = Parameters::zeros(declarations, device.clone());
        let rule = Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }.rule();
        let groups = [group(&parameters, weight, DECAY), group(&parameters, bias, 0.0)];
        let (mut gradients, mut of_optimizer) =
            (GradientSum::zeros(&parameters, LEAVES), Moments::zeros(&parameters, rule));
        let batch = BATCH.min(sample.len());
        let own = leaves(batch, LEAVES);
        let extent = BatchExtent { tokens: 1, convolutions: false };
        let (mut order, mut epoch) = (Vec::new(), 0);
        for step in 0..steps {
            if order.len() < batch {
                order = shuffled(sample.len(), 0, epoch);
                epoch += 1;
            }
            let taken = order.split_off(order.len() - batch);
            gradients.clear();
            gradients.accumulate(extent, &own, &parameters, |device, range: Range<usize>, gradients| {
                let (values, targets) = sample.rows(&taken[range.clone()], classes);
                let values = device.upload([range.len(), width], &values)?;
                let targets = device.upload([range.len(), count], &targets)?;
                let context = Context::recording(&parameters).on(device);
                let loss = context.cross_entropy(&context.linear(&values, map), &targets);
                let share = range.len() as f32 / batch as f32;
                context.backward_from(&loss, device.full(loss.shape(), share), Some(gradients));
                Ok::<(), DeviceError>(())
            })?;
            gradients.join();
            let gate = device.all_finite(&[&gradients.clip(None, &parameters)]);
            let learning_rate = Schedule::default().at(step, steps);
            let update = Update { rule, groups: &groups, learning_rate, step: step + 1 };
            update.apply(&mut parameters, &gradients, &mut of_optimizer, &gate);
        }
        let mut head = Head { width, map, parameters };
        head.unscale(&moments)?;
        Ok(head)
    }

    /// Weights and offsets.
    fn values(&self) -> Result<(Vec<f32>, Vec<f32>), DeviceError> {
        let offsets = self.map.bias.map_or_else(|| Ok(vec![]), |bias| self.parameters.read(bias))?;
        Ok((self.parameters.read(self.map.weight)?, offsets))
    }

    /// Makes it the same classifier for values that are not scaled.
    fn unscale(&mut self, (mean, deviation): &(Vec<f64>, Vec<f64>)) -> Result<(), DeviceError> {
        let (mut weights, mut offsets) = self.values()?;
        for (row, offset) in weights.chunks_exact_mut(self.width).zip(&mut offsets) {
            let mut moved = f64::from(*offset);
            for ((weight, mean), deviation) in row.iter_mut().zip(mean).zip(deviation) {
                let own = f64::from(*weight) / deviation;
                moved -= own * mean;
                *weight = own as f32;
            }
            *offset = moved as f32;
        }
        self.parameters.write(self.map.weight, &weights);
        if let Some(bias) = self.map.bias {
            self.parameters.write(bias, &offsets);
        }
        Ok(())
    }

    /// Logits of tokens `[patches, width]`: `[patches, classes]`.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn logits(&self, tokens: &[f32]) -> Result<Vec<f32>, DeviceError> {
        let device = self.parameters.device();
        let tokens = device.upload([tokens.len() / self.width, self.width], tokens)?;
        device.scope(|| Context::inference(&self.parameters).linear(&tokens, self.map).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use vitral::config::Problem;
    use vitral::labels::probabilities;
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
        let unknown = sample(300, 2);
        let device = Device::cpu(2);
        let fitted = |device: &Device| Head::fit(sample(600, 1), &[2, 7, 9], 500, device).expect("fitted");
        let head = fitted(&device);
        let logits = head.logits(&unknown.values).expect("logits");
        let right = logits
            .chunks_exact(3)
            .enumerate()
            .filter(|(patch, row)| (0..3).all(|class| class == patch % 3 || row[class] < row[patch % 3]));
        // Centers are √2 · 4 apart: an error in 430 is the least that any classifier makes.
        assert!(right.count() >= 294);
        let values = |head: &Head| head.values().expect("values");
        assert_eq!(values(&fitted(&Device::cpu(1))), values(&head), "the same bits on one thread");
    }

    #[test]
    fn shares_are_probabilities() {
        // The same token, a quarter of one class and three quarters of the other.
        let mut sample = Sample::new(2);
        (0..8).for_each(|_| sample.add(&[1.0, 2.0], &[vec![(0, 0.25), (1, 0.75)]], 1, 0));
        let head = Head::fit(sample, &[0, 1], 4000, &Device::cpu(1)).expect("fitted");
        let row = probabilities(&head.logits(&[1.0, 2.0]).expect("logits"), Problem::SingleLabel);
        assert!((row[0] - 0.25).abs() < 0.01, "{row:?}");
    }

    #[test]
    fn ignored_patches_are_passed_over() {
        let mut sample = Sample::new(1);
        sample.add(&[1.0, 2.0, 3.0], &[vec![], vec![(0, 1.0)], vec![]], 2, 0);
        assert_eq!((sample.len(), sample.values.as_slice()), (1, &[2.0][..]));
    }
}
