//! The convolutional stem of a hybrid: a ResNetV2 with weight standardisation and group norm, as in BiT
//! (arXiv:1912.11370) but with the activation after the residual.

use vitral_engine::ops::{Activation, Convolution, Padding};
use vitral_engine::{Context, ParameterId, Tensor};

use super::build::Builder;
use crate::config::{ConvolutionalStem, HybridStem, Size};

/// A standardised convolution and the group norm after it.
struct ConvolutionNorm {
    convolution: Convolution,
    weight: ParameterId,
    bias: ParameterId,
    groups: usize,
    epsilon: f32,
}

struct Bottleneck {
    reduce: ConvolutionNorm,
    spatial: ConvolutionNorm,
    expand: ConvolutionNorm,
    shortcut: Option<ConvolutionNorm>,
}

pub(super) struct ResNetStem {
    root: ConvolutionNorm,
    blocks: Vec<Bottleneck>,
    padding: Padding,
    channels: usize,
}

/// Extents of one convolution.
#[derive(Clone, Copy)]
struct Extents {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
}

impl ConvolutionNorm {
    fn new(
        place: &mut Builder<'_>,
        stem: &HybridStem,
        (convolution, norm): (&str, &str),
        Extents { inputs, outputs, kernel, stride }: Extents,
    ) -> Self {
        let weight = place.at(convolution).plain("weight", &[outputs, inputs, kernel, kernel]);
        let padding = if stem.same_padding { Padding::Same } else { Padding::Explicit((kernel - 1) / 2) };
        let standardise = Some(stem.standardisation_epsilon);
        let mut norm = place.at(norm);
        ConvolutionNorm {
            convolution: Convolution { weight, bias: None, stride, padding, standardise },
            weight: norm.plain("weight", &[outputs]),
            bias: norm.plain("bias", &[outputs]),
            groups: stem.groups,
            epsilon: stem.norm_epsilon,
        }
    }

    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        let y = cx.convolution(x, &self.convolution);
        cx.group_norm(&y, self.weight, self.bias, self.groups, self.epsilon)
    }
}

impl ResNetStem {
    pub(super) fn new(place: &mut Builder<'_>, stem: &HybridStem) -> Self {
        let mut channels = 64 * stem.width_factor;
        let extents = Extents { inputs: place.config.channels, outputs: channels, kernel: 7, stride: 2 };
        let root = ConvolutionNorm::new(place, stem, ("conv", "norm"), extents);
        let mut blocks = Vec::new();
        for (stage, &count) in stem.layers.iter().enumerate() {
            let outputs = (256 * stem.width_factor) << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let mut place = place.at(format_args!("stages.{stage}.{block}"));
                blocks.push(Bottleneck::new(&mut place, stem, channels, outputs, stride));
                channels = outputs;
            }
        }
        let padding = if stem.same_padding { Padding::Same } else { Padding::Explicit(1) };
        ResNetStem { root, blocks, padding, channels }
    }

    /// Channels of the feature map.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Pixels to a feature map, both `[batch, height, width, channels]`.
    pub(super) fn forward(&self, cx: &Context<'_>, pixels: &Tensor) -> Tensor {
        let x = self.root.forward(cx, pixels);
        let mut x = cx.max_pool(&cx.activation(&x, Activation::Relu), 3, 2, self.padding);
        for block in &self.blocks {
            x = block.forward(cx, &x);
        }
        x
    }
}

impl Bottleneck {
    fn new(place: &mut Builder<'_>, stem: &HybridStem, inputs: usize, outputs: usize, stride: usize) -> Self {
        let middle = outputs / 4;
        let mut part = |names, inputs, outputs, kernel, stride| {
            ConvolutionNorm::new(place, stem, names, Extents { inputs, outputs, kernel, stride })
        };
        Bottleneck {
            shortcut: (inputs != outputs || stride != 1)
                .then(|| part(("downsample.conv", "downsample.norm"), inputs, outputs, 1, stride)),
            reduce: part(("conv1", "norm1"), inputs, middle, 1, 1),
            spatial: part(("conv2", "norm2"), middle, middle, 3, stride),
            expand: part(("conv3", "norm3"), middle, outputs, 1, 1),
        }
    }

    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        let relu = |x: &Tensor| cx.activation(x, Activation::Relu);
        let shortcut = self.shortcut.as_ref().map_or_else(|| x.clone(), |shortcut| shortcut.forward(cx, x));
        let y = relu(&self.reduce.forward(cx, x));
        let y = relu(&self.spatial.forward(cx, &y));
        relu(&cx.add(&self.expand.forward(cx, &y), &shortcut))
    }
}

/// Small convolutions, each with a maximum where it has a stride, group norm and ReLU.
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
                standardise: Some(Self::EPSILON),
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

/// As [`cost`], of small convolutions.
pub(super) fn small_cost(stem: &ConvolutionalStem, channels: usize, image: Size) -> (u64, usize) {
    let (mut size, mut inputs, mut total) = (image, channels, 0);
    for layer in &stem.layers {
        total += size.area() * 9 * inputs * layer.channels;
        size = Size { height: size.height.div_ceil(layer.stride), width: size.width.div_ceil(layer.stride) };
        inputs = layer.channels;
    }
    (total as u64, inputs)
}

/// Multiply-accumulates of the convolutions for one image, and the channels of the feature map.
pub(super) fn cost(stem: &HybridStem, channels: usize, image: Size) -> (u64, usize) {
    let halved = |size: Size| Size { height: size.height.div_ceil(2), width: size.width.div_ceil(2) };
    let mut inputs = 64 * stem.width_factor;
    let mut size = halved(image);
    let mut total = size.area() * 49 * channels * inputs;
    size = halved(size);
    for (stage, &count) in stem.layers.iter().enumerate() {
        let outputs = (256 * stem.width_factor) << stage;
        let middle = outputs / 4;
        for block in 0..count {
            total += size.area() * inputs * middle;
            if stage > 0 && block == 0 {
                size = halved(size);
            }
            let shortcut = if block == 0 { inputs * outputs } else { 0 };
            total += size.area() * (9 * middle * middle + middle * outputs + shortcut);
            inputs = outputs;
        }
    }
    (total as u64, inputs)
}
