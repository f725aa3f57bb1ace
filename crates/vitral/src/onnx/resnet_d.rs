//! ResNet-D with batch norm, whose statistics are part of a factor and an offset for each channel.

use vitral_engine::ops::Padding;

use super::graph::{Graph, Value};
use super::resnet::Windows;
use crate::config::{Activation, ResNetD};

impl Graph<'_> {
    /// Pixels to the feature map of a ResNet-D, both `[batch, channels, height, width]`.
    pub(super) fn resnet_d(&mut self, stem: &ResNetD, pixels: &Value) -> Value {
        let epsilon = stem.norm_epsilon;
        let mut x = pixels.clone();
        for (i, stride) in [2, 1, 1].into_iter().enumerate() {
            let place = format!("stem.root.{i}");
            x = self.normed_convolution([&format!("{place}.conv"), &format!("{place}.norm")], &x, stride, epsilon);
            x = self.activation(&format!("{place}.activation"), &x, Activation::Relu);
        }
        x = self.max_pool("stem.pool", &x, Windows { side: 3, stride: 2, padding: Padding::Explicit(1) });
        for (stage, &count) in stem.layers.iter().enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.bottleneck_d(&format!("stem.stages.{stage}.{block}"), stride, &x, epsilon);
            }
        }
        x
    }

    fn bottleneck_d(&mut self, place: &str, stride: usize, x: &Value, epsilon: f32) -> Value {
        let at = |part: &str| format!("{place}.{part}");
        let shortcut = match self.has(&at("downsample.conv.weight")) {
            false => x.clone(),
            true => {
                let pooled = match stride {
                    1 => x.clone(),
                    side => {
                        let windows = Windows { side, stride, padding: Padding::Explicit(0) };
                        self.average_pool(&at("downsample.mean"), x, windows)
                    }
                };
                self.normed_convolution([&at("downsample.conv"), &at("downsample.norm")], &pooled, 1, epsilon)
            }
        };
        let mut y = x.clone();
        for (i, stride) in [(1, 1), (2, stride)] {
            y = self.normed_convolution([&at(&format!("conv{i}")), &at(&format!("norm{i}"))], &y, stride, epsilon);
            y = self.activation(&at(&format!("norm{i}.activation")), &y, Activation::Relu);
        }
        let y = self.normed_convolution([&at("conv3"), &at("norm3")], &y, 1, epsilon);
        let sum = self.add(&at("sum"), &y, &shortcut);
        self.activation(&at("output"), &sum, Activation::Relu)
    }

    /// A convolution and the batch norm after it.
    fn normed_convolution(&mut self, [place, norm]: [&str; 2], x: &Value, stride: usize, epsilon: f32) -> Value {
        let name = format!("{place}.weight");
        let dims = self.spec(&name).shape.clone();
        let (channels, side, own) = (dims[0], dims[2], name.clone());
        let weight = self.stored(&name, &dims, move |weights| Ok(weights.values(&own)?.into_owned()));
        let windows = Windows { side, stride, padding: Padding::Explicit((side - 1) / 2) };
        let attributes = windows.attributes(self.extents(x));
        let x = self.node("Conv", place, &[x, &weight], attributes);
        let names = ["weight", "bias", "mean", "variance"].map(|leaf| format!("{norm}.{leaf}"));
        for name in &names {
            self.spec(name);
        }
        let [weight, bias, mean, variance] = names;
        let (factor, spread) = (weight.clone(), variance.clone());
        let factors = self.calculated(&format!("{norm}.factor"), &[channels, 1, 1], move |weights| {
            let (weight, variance) = (weights.values(&factor)?, weights.values(&spread)?);
            Ok(weight.iter().zip(variance.iter()).map(|(&w, &v)| scale(w, v, epsilon) as f32).collect())
        });
        let offsets = self.calculated(&format!("{norm}.offset"), &[channels, 1, 1], move |weights| {
            let (weight, bias) = (weights.values(&weight)?, weights.values(&bias)?);
            let (mean, variance) = (weights.values(&mean)?, weights.values(&variance)?);
            let offset = |i: usize| f64::from(bias[i]) - f64::from(mean[i]) * scale(weight[i], variance[i], epsilon);
            Ok((0..channels).map(|i| offset(i) as f32).collect())
        });
        let scaled = self.multiply(&format!("{norm}.scaled"), &x, &factors);
        self.add(norm, &scaled, &offsets)
    }
}

/// What a channel is multiplied by.
fn scale(weight: f32, variance: f32, epsilon: f32) -> f64 {
    f64::from(weight) / (f64::from(variance) + f64::from(epsilon)).sqrt()
}
