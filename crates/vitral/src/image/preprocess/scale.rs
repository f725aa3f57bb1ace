//! From a sample to the number that a model sees.

use super::super::ImageError;
use super::{Normalize, Preprocess, Rescale};

impl Preprocess {
    /// Checks that mean and standard deviation match the channels: a description may have been read from a file.
    pub(super) fn check_channels(&self) -> Result<(), ImageError> {
        let expected = self.channels.count();
        let Some(Normalize { mean, std }) = &self.normalize else { return Ok(()) };
        for (key, numbers) in [("mean", mean), ("std", std)] {
            if numbers.len() != expected {
                return Err(ImageError::Value {
                    place: "the preprocessing",
                    key: key.to_string(),
                    expected: format!("a list of {expected}, one per channel"),
                    found: format!("{numbers:?}"),
                });
            }
        }
        Ok(())
    }

    /// An 8-bit value as a float.
    pub(super) fn scaled(&self, value: usize) -> f32 {
        match self.rescale {
            None => value as f32,
            Some(Rescale::Divide255 | Rescale::TypeRange) => value as f32 / 255.0,
            Some(Rescale::Multiply { factor, offset }) => (value as f64 * factor) as f32 + offset,
            Some(Rescale::Fused { factor, offset }) => value as f32 * factor as f32 + offset,
        }
    }

    /// A channel's value, normalized by mean and standard deviation.
    pub(super) fn normalized(&self, channel: usize, number: f32) -> f32 {
        match &self.normalize {
            None => number,
            Some(Normalize { mean, std }) => (number - mean[channel]) / std[channel],
        }
    }

    /// A sample as a float; `full` is the largest value of its type.
    pub(in crate::image) fn scaled_sample(&self, sample: f32, full: f32) -> f32 {
        match self.rescale {
            None => sample,
            Some(Rescale::Divide255) => sample / 255.0,
            Some(Rescale::TypeRange) => sample / full,
            Some(Rescale::Multiply { factor, offset }) => (f64::from(sample) * factor) as f32 + offset,
            Some(Rescale::Fused { factor, offset }) => sample * factor as f32 + offset,
        }
    }
}
