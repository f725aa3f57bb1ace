//! Learning rate schedules.

use serde::{Deserialize, Serialize};

/// The learning rate schedule after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Half a cosine from the peak rate down to the final one.
    #[default]
    Cosine,
    /// Linear decay to the final rate.
    Linear,
    /// The peak rate throughout.
    Constant,
    /// The peak rate, divided by 10 after 30 %, 60 % and 90 % of the steps.
    Step,
}

/// A learning rate for every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// The peak rate.
    pub learning_rate: f32,
    /// Shape after warm-up.
    pub shape: Shape,
    /// The batch size that `learning_rate` is meant for: with another, the rates are scaled in proportion
    /// (arXiv:1706.02677).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate_batch: Option<usize>,
    /// Steps of linear warm-up from `warmup_learning_rate`.
    pub warmup_steps: u64,
    /// Epochs of warm-up, in addition to those steps.
    pub warmup_epochs: f32,
    /// Rate of the first warm-up step. The first step after warm-up has the peak rate, as in timm.
    pub warmup_learning_rate: f32,
    /// Rate at the end of cosine and linear: that of a step after the last one, as in timm, and of the cool-down after any shape.
    pub final_learning_rate: f32,
    /// Epochs at the end that stay at `final_learning_rate`.
    pub cooldown_epochs: f32,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            learning_rate: 1e-3,
            shape: Shape::Cosine,
            learning_rate_batch: None,
            warmup_steps: 0,
            warmup_epochs: 0.0,
            warmup_learning_rate: 0.0,
            final_learning_rate: 0.0,
            cooldown_epochs: 0.0,
        }
    }
}

impl Schedule {
    /// Converts the schedule to steps only, and returns how many of `total` it spans; the rest is cool-down. `batch` is
    /// the number of images per step.
    #[must_use]
    pub fn in_steps(mut self, steps_per_epoch: u64, total: u64, batch: usize) -> (Self, u64) {
        let steps = |epochs: f32| (f64::from(epochs.max(0.0)) * steps_per_epoch as f64).round() as u64;
        let cooldown = steps(std::mem::take(&mut self.cooldown_epochs)).min(total);
        self.warmup_steps += steps(std::mem::take(&mut self.warmup_epochs));
        if let Some(meant) = self.learning_rate_batch.take() {
            let factor = batch as f32 / meant.max(1) as f32;
            for learning_rate in
                [&mut self.learning_rate, &mut self.warmup_learning_rate, &mut self.final_learning_rate]
            {
                *learning_rate *= factor;
            }
        }
        (self, total - cooldown)
    }

    /// The rate of step `step` (from 0) of `total`, with the warm-up given in steps.
    pub fn at(&self, step: u64, total: u64) -> f32 {
        let (learning_rate, last) = (f64::from(self.learning_rate), f64::from(self.final_learning_rate));
        if step < self.warmup_steps {
            let first = f64::from(self.warmup_learning_rate);
            return (first + (learning_rate - first) * step as f64 / self.warmup_steps as f64) as f32;
        }
        if step >= total {
            return self.final_learning_rate;
        }
        let after = total.saturating_sub(self.warmup_steps).max(1);
        let done = ((step - self.warmup_steps) as f64 / after as f64).min(1.0);
        (match self.shape {
            Shape::Cosine => last + 0.5 * (learning_rate - last) * (1.0 + (std::f64::consts::PI * done).cos()),
            Shape::Linear => last + (learning_rate - last) * (1.0 - done),
            Shape::Constant => learning_rate,
            Shape::Step => learning_rate * 0.1f64.powi([0.3, 0.6, 0.9].iter().filter(|&&at| done >= at).count() as i32),
        }) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_decays() {
        let schedule = Schedule { learning_rate: 1.0, warmup_steps: 10, ..Schedule::default() };
        let rates: Vec<f32> = (0..110).map(|step| schedule.at(step, 110)).collect();
        assert!(rates[0] == 0.0 && (rates[9] - 0.9).abs() < 1e-6 && (rates[10] - 1.0).abs() < 1e-6);
        assert!((rates[60] - 0.5).abs() < 1e-6, "halfway through the cosine");
        assert!(rates[109] < 1e-3 && rates.windows(2).skip(10).all(|pair| pair[1] <= pair[0]));
    }

    /// timm 1.0.31: `CosineLRScheduler(optimizer, t_initial=6, lr_min=0, warmup_t=4, warmup_lr_init=1e-6,
    /// warmup_prefix=True)` at a rate of 1e-3.
    #[test]
    fn warm_up_equals_timm() {
        let schedule = Schedule { warmup_steps: 4, warmup_learning_rate: 1e-6, ..Schedule::default() };
        let expected = [1e-6, 2.5075e-4, 5.005e-4, 7.5025e-4, 1e-3, 9.330_127e-4, 7.5e-4, 5e-4, 2.5e-4, 6.698_73e-5];
        for (step, expected) in expected.into_iter().enumerate() {
            let found = schedule.at(step as u64, 10);
            assert!((found - expected).abs() < 1e-9, "step {step}: {found} is not {expected}");
        }
    }

    #[test]
    fn epochs_and_batch_size_become_steps_and_rates() {
        let schedule = Schedule {
            learning_rate: 1.0,
            learning_rate_batch: Some(256),
            warmup_epochs: 0.5,
            final_learning_rate: 0.5,
            cooldown_epochs: 2.0,
            ..Schedule::default()
        };
        let (schedule, total) = schedule.in_steps(10, 100, 64);
        assert_eq!(
            (schedule.learning_rate, schedule.final_learning_rate, schedule.warmup_steps, total),
            (0.25, 0.125, 5, 80)
        );
        assert_eq!(schedule.at(90, total), 0.125, "cooling down");
    }

    #[test]
    fn every_shape_reaches_its_final_rate() {
        let end = |shape| {
            Schedule { learning_rate: 1.0, final_learning_rate: 0.25, shape, ..Schedule::default() }.at(100, 100)
        };
        assert_eq!([Shape::Cosine, Shape::Linear, Shape::Constant, Shape::Step].map(end), [0.25; 4]);
        let last = |shape| Schedule { learning_rate: 1.0, shape, ..Schedule::default() }.at(99, 100);
        assert!(last(Shape::Constant) == 1.0 && (last(Shape::Step) - 1e-3).abs() < 1e-9);
    }
}
