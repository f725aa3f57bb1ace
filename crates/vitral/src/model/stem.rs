//! Small convolutions before the patches.

use vitral_engine::ops::{Convolution, Padding};
use vitral_engine::{Activation, Context, ParameterId, Tensor};

use super::build::Builder;
use crate::config::{ConvolutionalStem, Size};

/// Small convolutions, each with max pooling if it has a stride, group norm and ReLU.
pub(super) struct SmallStem {
    layers: Vec<SmallLayer>,
    channels: usize,
}

struct SmallLayer {
    convolution: Convolution,
    weight: ParameterId,
    bias: ParameterId,
    groups: usize,
    stride: usize,
}

impl SmallStem {
    const EPSILON: f32 = 1e-5;

    pub(super) fn new(place: &mut Builder<'_>, stem: &ConvolutionalStem) -> Self {
        let mut channels = place.config.channels;
        let mut layers = Vec::with_capacity(stem.layers.len());
        for (i, layer) in stem.layers.iter().enumerate() {
            let mut place = place.at(i);
            let convolution = Convolution {
                weight: place.at("conv").plain("weight", &[layer.channels, channels, 3, 3]),
                bias: None,
                stride: 1,
                padding: Padding::Explicit(1),
                standardize: Some(Self::EPSILON),
            };
            let mut norm = place.at("norm");
            layers.push(SmallLayer {
                convolution,
                weight: norm.plain("weight", &[layer.channels]),
                bias: norm.plain("bias", &[layer.channels]),
                groups: layer.channels / stem.group_width,
                stride: layer.stride,
            });
            channels = layer.channels;
        }
        SmallStem { layers, channels }
    }

    /// Channels of the feature map.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Pixels to a feature map, both `[batch, height, width, channels]`.
    pub(super) fn forward(&self, cx: &Context<'_>, pixels: &Tensor) -> Tensor {
        let mut x = pixels.clone();
        for layer in &self.layers {
            x = cx.convolution(&x, &layer.convolution);
            if layer.stride > 1 {
                x = cx.max_pool(&x, 3, layer.stride, Padding::Same);
            }
            x = cx.group_norm(&x, layer.weight, layer.bias, layer.groups, Self::EPSILON);
            x = cx.activation(&x, Activation::Relu);
        }
        x
    }
}

/// Multiply-accumulates of the convolutions for one image, and the channels of the feature map.
pub(super) fn cost(stem: &ConvolutionalStem, channels: usize, image: Size) -> (u64, usize) {
    let (mut size, mut inputs, mut total) = (image, channels, 0);
    for layer in &stem.layers {
        total += size.area() * 9 * inputs * layer.channels;
        size = Size { height: size.height.div_ceil(layer.stride), width: size.width.div_ceil(layer.stride) };
        inputs = layer.channels;
    }
    (total as u64, inputs)
}
