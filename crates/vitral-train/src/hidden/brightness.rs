//! From a model's input back to brightness.

use vitral::image::Preprocess;

/// How brightness, from 0 to 1, is to be had from the numbers of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Brightness {
    /// Factor and offset of every channel.
    channels: Vec<(f64, f64)>,
}

impl Brightness {
    /// For images of `channels` channels that are preprocessed in this way.
    pub fn of(preprocess: &Preprocess, channels: usize) -> Self {
        let (factor, offset) = preprocess.rescale.map_or((1.0, 0.0), |rescale| rescale.line());
        // 255 is 1.
        let scale = 1.0 / (255.0 * factor);
        let of = |channel: usize| {
            let normalize = preprocess.normalize.as_ref();
            let (mean, std) = normalize.map_or((0.0, 1.0), |normalize| {
                (f64::from(normalize.mean[channel]), f64::from(normalize.std[channel]))
            });
            (std * scale, (mean - f64::from(offset)) * scale)
        };
        Brightness { channels: (0..channels).map(of).collect() }
    }

    /// The brightness that a number of a channel stands for.
    pub fn at(&self, value: f64, channel: usize) -> f64 {
        let (factor, offset) = self.channels[channel];
        value * factor + offset
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use vitral::image::preprocess::{Channels, Normalize, Rescale};

    use super::*;

    #[test]
    fn white_is_one_whatever_the_preprocessing() {
        let normalize = Normalize { mean: vec![0.5, 0.4, 0.3], std: vec![0.2, 0.3, 0.4] };
        let to_signs = Rescale::Multiply { factor: 2.0 / 255.0, offset: -1.0 };
        for rescale in [None, Some(Rescale::Divide255), Some(to_signs)] {
            for normalize in [None, Some(normalize.clone())] {
                let preprocess =
                    Preprocess { channels: Channels::Rgb, steps: Vec::new(), rescale, normalize: normalize.clone() };
                let brightness = Brightness::of(&preprocess, 3);
                for (byte, channel) in [(0.0, 0), (255.0, 1), (51.0, 2)] {
                    let (factor, offset) = rescale.map_or((1.0, 0.0), Rescale::line);
                    let value = byte * factor + f64::from(offset);
                    let value = normalize.as_ref().map_or(value, |normalize| {
                        (value - f64::from(normalize.mean[channel])) / f64::from(normalize.std[channel])
                    });
                    assert!((brightness.at(value, channel) - byte / 255.0).abs() < 1e-6, "{preprocess:?}");
                }
            }
        }
    }
}
