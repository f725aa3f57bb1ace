//! Convolutions before the patches: ResNetV2 with standardized weights and group norm, and small stems.

use vitral_engine::ops::Padding;

use super::attribute::{float, ints};
use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use crate::config::{Activation, Border, ConvolutionalStem, ResNetV2, Root};

/// The order of norms, activations and convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Norms after convolutions, the last activation after the residual: hybrids.
    After,
    /// Norms and activations before convolutions, and one of each after the last block: BiT.
    Before,
}

/// How windows are laid over a map.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) side: usize,
    pub(super) stride: usize,
    pub(super) padding: Padding,
}

impl Windows {
    /// What a ResNet's kind of border means for a kernel.
    fn padding(border: Border, side: usize) -> Padding {
        match border {
            Border::Same => Padding::Same,
            Border::Symmetric | Border::Fixed => Padding::Explicit((side - 1) / 2),
        }
    }

    /// Attributes for a map of so many rows and columns.
    pub(super) fn attributes(self, extents: [usize; 2]) -> Vec<AttributeProto> {
        let Windows { side, stride, padding } = self;
        let pad = |extent: usize| match padding {
            Padding::Explicit(pad) => [pad; 2],
            Padding::Same => {
                let total = ((extent.div_ceil(stride) - 1) * stride + side).saturating_sub(extent);
                [total / 2, total - total / 2]
            }
        };
        let [rows, columns] = extents.map(pad);
        let pads = [rows[0], columns[0], rows[1], columns[1]].map(|pad| pad as i64);
        vec![ints("kernel_shape", [side as i64; 2]), ints("strides", [stride as i64; 2]), ints("pads", pads)]
    }
}

impl Graph<'_> {
    /// Pixels to the feature map of a ResNet, both `[batch, channels, height, width]`.
    pub(super) fn resnet(&mut self, stem: &ResNetV2, order: Order, pixels: &Value) -> Value {
        let (side, stride) = match stem.root {
            Root::Large => (7, 2),
            Root::Small => (3, 1),
        };
        let root = Windows { side, stride, padding: Windows::padding(stem.padding, side) };
        let mut x = self.standardized("stem.conv", pixels, root, stem.standardization_epsilon);
        let group = (stem.groups, stem.norm_epsilon);
        if order == Order::After {
            x = self.activated("stem.norm", &x, group);
        }
        if stem.root == Root::Large {
            let padding = Windows::padding(stem.padding, 3);
            let mut pool = Windows { side: 3, stride: 2, padding };
            if stem.padding == Border::Fixed {
                // Zeros that may win, where an operator's own padding never does.
                let pads = self.integers(&[0, 0, 1, 1, 0, 0, 1, 1]);
                x = self.node("Pad", "stem.padded", &[&x, &pads], vec![]);
                pool = Windows { padding: Padding::Explicit(0), ..pool };
            }
            x = self.max_pool("stem.pool", &x, pool);
        }
        for (stage, &count) in stem.layers.iter().enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.bottleneck(&format!("stem.stages.{stage}.{block}"), stem, order, stride, &x);
            }
        }
        if order == Order::Before { self.activated("stem.last_norm", &x, group) } else { x }
    }

    fn bottleneck(&mut self, place: &str, stem: &ResNetV2, order: Order, stride: usize, x: &Value) -> Value {
        let at = |part: &str| format!("{place}.{part}");
        let group = (stem.groups, stem.norm_epsilon);
        let convolve = |graph: &mut Self, name: &str, x: &Value, side: usize, stride: usize| {
            let windows = Windows { side, stride, padding: Windows::padding(stem.padding, side) };
            graph.standardized(&at(name), x, windows, stem.standardization_epsilon)
        };
        let shortened = self.has(&at("downsample.conv.weight"));
        match order {
            Order::After => {
                let shortcut = match shortened {
                    false => x.clone(),
                    true => {
                        let x = convolve(self, "downsample.conv", x, 1, stride);
                        self.group_norm(&at("downsample.norm"), &x, group)
                    }
                };
                let y = convolve(self, "conv1", x, 1, 1);
                let y = self.activated(&at("norm1"), &y, group);
                let y = convolve(self, "conv2", &y, 3, stride);
                let y = self.activated(&at("norm2"), &y, group);
                let y = convolve(self, "conv3", &y, 1, 1);
                let y = self.group_norm(&at("norm3"), &y, group);
                let sum = self.add(&at("sum"), &y, &shortcut);
                self.activation(&at("output"), &sum, Activation::Relu)
            }
            Order::Before => {
                let ready = self.activated(&at("norm1"), x, group);
                let shortcut = match shortened {
                    false => x.clone(),
                    true => convolve(self, "downsample.conv", &ready, 1, stride),
                };
                let y = convolve(self, "conv1", &ready, 1, 1);
                let y = self.activated(&at("norm2"), &y, group);
                let y = convolve(self, "conv2", &y, 3, stride);
                let y = self.activated(&at("norm3"), &y, group);
                let y = convolve(self, "conv3", &y, 1, 1);
                self.add(&at("output"), &y, &shortcut)
            }
        }
    }

    /// Small convolutions, each with max pooling if it has a stride, group norm and ReLU.
    pub(super) fn small_stem(&mut self, stem: &ConvolutionalStem, pixels: &Value) -> Value {
        const EPSILON: f32 = 1e-5;
        let mut x = pixels.clone();
        for (index, layer) in stem.layers.iter().enumerate() {
            let at = |part: &str| format!("stem.{index}.{part}");
            let windows = Windows { side: 3, stride: 1, padding: Padding::Explicit(1) };
            x = self.standardized(&at("conv"), &x, windows, EPSILON);
            if layer.stride > 1 {
                let pool = Windows { side: 3, stride: layer.stride, padding: Padding::Same };
                x = self.max_pool(&at("pool"), &x, pool);
            }
            x = self.activated(&at("norm"), &x, (layer.channels / stem.group_width, EPSILON));
        }
        x
    }

    pub(super) fn extents(&self, map: &Value) -> [usize; 2] {
        let shape = self.shape(map);
        [shape.at(2), shape.at(3)]
    }

    pub(super) fn max_pool(&mut self, name: &str, x: &Value, windows: Windows) -> Value {
        let attributes = windows.attributes(self.extents(x));
        self.node("MaxPool", name, &[x], attributes)
    }

    pub(super) fn average_pool(&mut self, name: &str, x: &Value, windows: Windows) -> Value {
        let attributes = windows.attributes(self.extents(x));
        self.node("AveragePool", name, &[x], attributes)
    }

    /// A convolution whose filters have mean 0 and variance 1 (arXiv:1903.10520), which are calculated here.
    fn standardized(&mut self, place: &str, x: &Value, windows: Windows, epsilon: f32) -> Value {
        let name = format!("{place}.weight");
        let dims = self.spec(&name).shape.clone();
        let (own, row) = (name.clone(), dims[1..].iter().product::<usize>());
        let weight = self.calculated(&name, &dims, move |weights| {
            let mut values = weights.values(&own)?.into_owned();
            for filter in values.chunks_exact_mut(row) {
                let count = filter.len() as f64;
                let mean = filter.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
                let variance = filter.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / count;
                let reciprocal = 1.0 / (variance + f64::from(epsilon)).sqrt();
                filter.iter_mut().for_each(|w| *w = ((f64::from(*w) - mean) * reciprocal) as f32);
            }
            Ok(values)
        });
        let attributes = windows.attributes(self.extents(x));
        self.node("Conv", place, &[x, &weight], attributes)
    }

    /// Group norm (arXiv:1803.08494), of `groups` groups: a norm of each group's values, then a factor and an offset for
    /// each channel.
    fn group_norm(&mut self, place: &str, x: &Value, (groups, epsilon): (usize, f32)) -> Value {
        let at = |part: &str| format!("{place}.{part}");
        let shape = self.shape(x);
        let (channels, height, width) = (shape.at(1), shape.at(2), shape.at(3));
        let grouped = self.reshape(&at("groups"), x, &[0, groups, channels / groups * height * width]);
        let [ones, zeros] = [("ones", 1.0), ("zeros", 0.0)].map(|(name, value)| self.filled(name, groups, value));
        let inputs = [&grouped, &ones, &zeros];
        let normed = self.node("InstanceNormalization", &at("normed"), &inputs, vec![float("epsilon", epsilon)]);
        let normed = self.reshape(&at("channels"), &normed, &[0, channels, height, width]);
        let [weight, bias] = ["weight", "bias"].map(|leaf| self.vector(&at(leaf), &[channels, 1, 1]));
        let scaled = self.multiply(&at("scaled"), &normed, &weight);
        self.add(place, &scaled, &bias)
    }

    fn activated(&mut self, place: &str, x: &Value, group: (usize, f32)) -> Value {
        let normed = self.group_norm(place, x, group);
        self.activation(&format!("{place}.activation"), &normed, Activation::Relu)
    }
}
