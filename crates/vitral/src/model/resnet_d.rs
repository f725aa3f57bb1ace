//! ResNet-D (arXiv:1812.01187) with batch norm, whose statistics are given and stay as they are: the stem of timm's hybrids
//! on `resnet26d` and `resnet50d`.

use vitral_engine::ops::{ChannelNorm, Convolution, Padding};
use vitral_engine::{Activation, Context, ParameterId, Tensor};

use super::build::Builder;
use crate::config::{self, Size};

pub(super) struct ResNetD {
    root: [NormedConvolution; 3],
    blocks: Vec<Bottleneck>,
    channels: usize,
}

/// A convolution without a bias, and the norm after it.
struct NormedConvolution {
    convolution: Convolution,
    norm: ChannelNorm,
}

struct Bottleneck {
    reduce: NormedConvolution,
    spatial: NormedConvolution,
    expand: NormedConvolution,
    shortcut: Option<NormedConvolution>,
    /// The step of the means before the shortcut's convolution; 1 for none.
    stride: usize,
}

/// The sizes of one convolution.
#[derive(Clone, Copy)]
struct Extents {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
}

impl NormedConvolution {
    fn new(place: &mut Builder<'_>, names: [&str; 2], extents: Extents, epsilon: f32) -> Self {
        let Extents { inputs, outputs, kernel, stride } = extents;
        let convolution = Convolution {
            weight: place.at(names[0]).plain("weight", &[outputs, inputs, kernel, kernel]),
            bias: None,
            stride,
            padding: Padding::Explicit((kernel - 1) / 2),
            standardize: None,
        };
        let mut place = place.at(names[1]);
        let mut row = |name: &str| -> ParameterId { place.plain(name, &[outputs]) };
        let (weight, bias, mean, variance) = (row("weight"), row("bias"), row("mean"), row("variance"));
        NormedConvolution { convolution, norm: ChannelNorm { weight, bias, mean, variance, epsilon } }
    }

    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        cx.batch_norm(&cx.convolution(x, &self.convolution), &self.norm)
    }

    fn activated(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        cx.activation(&self.forward(cx, x), Activation::Relu)
    }
}

impl ResNetD {
    pub(super) fn new(place: &mut Builder<'_>, stem: &config::ResNetD) -> Self {
        let mut inputs = place.config.channels;
        let root = [(stem.root_width, 2), (stem.root_width, 1), (2 * stem.root_width, 1)];
        let mut root = root.into_iter().enumerate().map(|(i, (outputs, stride))| {
            let extents = Extents { inputs, outputs, kernel: 3, stride };
            inputs = outputs;
            NormedConvolution::new(
                &mut place.at(format_args!("root.{i}")),
                ["conv", "norm"],
                extents,
                stem.norm_epsilon,
            )
        });
        let root = std::array::from_fn(|_| root.next().expect("three of them"));
        let (mut blocks, mut channels) = (Vec::new(), 2 * stem.root_width);
        for (stage, &count) in stem.layers.iter().enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let mut place = place.at(format_args!("stages.{stage}.{block}"));
                blocks.push(Bottleneck::new(&mut place, stem, stage, channels, stride));
                channels = stem.stage_channels(stage);
            }
        }
        ResNetD { root, blocks, channels }
    }

    /// Channels of the feature map.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Pixels to a feature map, both `[batch, height, width, channels]`.
    pub(super) fn forward(&self, cx: &Context<'_>, pixels: &Tensor) -> Tensor {
        let x = self.root.iter().fold(pixels.clone(), |x, convolution| convolution.activated(cx, &x));
        let x = cx.max_pool(&x, 3, 2, Padding::Explicit(1));
        self.blocks.iter().fold(x, |x, block| block.forward(cx, &x))
    }
}

impl Bottleneck {
    fn new(place: &mut Builder<'_>, stem: &config::ResNetD, stage: usize, inputs: usize, stride: usize) -> Self {
        let (outputs, middle) = (stem.stage_channels(stage), stem.middle_channels(stage));
        let mut part = |names, inputs, outputs, kernel, stride| {
            NormedConvolution::new(place, names, Extents { inputs, outputs, kernel, stride }, stem.norm_epsilon)
        };
        Bottleneck {
            reduce: part(["conv1", "norm1"], inputs, middle, 1, 1),
            spatial: part(["conv2", "norm2"], middle, middle, 3, stride),
            expand: part(["conv3", "norm3"], middle, outputs, 1, 1),
            shortcut: (stride > 1 || inputs != outputs)
                .then(|| part(["downsample.conv", "downsample.norm"], inputs, outputs, 1, 1)),
            stride,
        }
    }

    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        let shortcut = self.shortcut.as_ref().map_or_else(
            || x.clone(),
            |shortcut| {
                let pooled = if self.stride > 1 { cx.average_pool(x, self.stride, self.stride) } else { x.clone() };
                shortcut.forward(cx, &pooled)
            },
        );
        let y = self.spatial.activated(cx, &self.reduce.activated(cx, x));
        cx.activation(&cx.add(&self.expand.forward(cx, &y), &shortcut), Activation::Relu)
    }
}

/// Whether a parameter is a statistic that a norm was given: it is used, but never trained.
pub(super) fn is_statistic(name: &str) -> bool {
    let mut parts = name.rsplit('.');
    let leaf = matches!(parts.next(), Some("mean" | "variance"));
    leaf && name.starts_with("stem.") && parts.next().is_some_and(|parent| parent.starts_with("norm"))
}

/// Multiply-accumulates of the convolutions for one image, and the channels of the feature map.
pub(super) fn cost(stem: &config::ResNetD, channels: usize, image: Size) -> (u64, usize) {
    let halved = |size: Size| Size { height: size.height.div_ceil(2), width: size.width.div_ceil(2) };
    let (root, mut size) = (stem.root_width, halved(image));
    let mut total = size.area() * 9 * (channels * root + root * root + root * 2 * root);
    size = halved(size);
    let mut inputs = 2 * root;
    for (stage, &count) in stem.layers.iter().enumerate() {
        let (outputs, middle) = (stem.stage_channels(stage), stem.middle_channels(stage));
        for block in 0..count {
            total += size.area() * inputs * middle;
            if stage > 0 && block == 0 {
                size = halved(size);
            }
            let shortcut = if inputs != outputs || (stage > 0 && block == 0) { inputs * outputs } else { 0 };
            total += size.area() * (9 * middle * middle + middle * outputs + shortcut);
            inputs = outputs;
        }
    }
    (total as u64, inputs)
}
