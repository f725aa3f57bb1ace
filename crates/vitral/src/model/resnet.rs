//! ResNetV2 with weight standardization and group norm: the stem of a hybrid, with its activation after the residual,
//! and BiT's whole ResNet (arXiv:1912.11370), with norm and activation before each convolution.

use vitral_engine::ops::{Convolution, Padding};
use vitral_engine::{Activation, Context, ParameterId, Tensor};

use super::build::Builder;
use crate::config::{self, Border, Root, Size};

/// The order of norms, activations and convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Norms after convolutions, the last activation after the residual: hybrids.
    After,
    /// Norms and activations before convolutions, and one of each after the last block: BiT.
    Before,
}

struct GroupNorm {
    weight: ParameterId,
    bias: ParameterId,
    groups: usize,
    epsilon: f32,
}

pub(super) struct ResNetV2 {
    root: Convolution,
    /// After the root, if norms come after convolutions.
    root_norm: Option<GroupNorm>,
    pool: Option<Border>,
    blocks: Vec<Bottleneck>,
    /// After the last block, if norms come before convolutions.
    last_norm: Option<GroupNorm>,
    channels: usize,
}

struct Bottleneck {
    order: Order,
    convolutions: [Convolution; 3],
    norms: [GroupNorm; 3],
    shortcut: Option<(Convolution, Option<GroupNorm>)>,
    drop_path: f32,
}

/// The sizes of one convolution.
#[derive(Clone, Copy)]
struct Extents {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
}

fn convolution(place: &mut Builder<'_>, stem: &config::ResNetV2, name: &str, extents: Extents) -> Convolution {
    let Extents { inputs, outputs, kernel, stride } = extents;
    let padding = match stem.padding {
        Border::Same => Padding::Same,
        Border::Symmetric | Border::Fixed => Padding::Explicit((kernel - 1) / 2),
    };
    Convolution {
        weight: place.at(name).plain("weight", &[outputs, inputs, kernel, kernel]),
        bias: None,
        stride,
        padding,
        standardize: Some(stem.standardization_epsilon),
    }
}

impl GroupNorm {
    fn new(place: &mut Builder<'_>, stem: &config::ResNetV2, name: &str, channels: usize) -> Self {
        let mut place = place.at(name);
        GroupNorm {
            weight: place.plain("weight", &[channels]),
            bias: place.plain("bias", &[channels]),
            groups: stem.groups,
            epsilon: stem.norm_epsilon,
        }
    }

    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        cx.group_norm(x, self.weight, self.bias, self.groups, self.epsilon)
    }

    fn activated(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        cx.activation(&self.forward(cx, x), Activation::Relu)
    }
}

impl ResNetV2 {
    pub(super) fn new(place: &mut Builder<'_>, stem: &config::ResNetV2, order: Order) -> Self {
        let mut channels = stem.root_channels();
        let (kernel, stride) = match stem.root {
            Root::Large => (7, 2),
            Root::Small => (3, 1),
        };
        let extents = Extents { inputs: place.config.channels, outputs: channels, kernel, stride };
        let root = convolution(place, stem, "conv", extents);
        let root_norm = (order == Order::After).then(|| GroupNorm::new(place, stem, "norm", channels));
        let (mut blocks, total) = (Vec::new(), stem.layers.iter().sum::<usize>());
        for (stage, &count) in stem.layers.iter().enumerate() {
            let outputs = stem.stage_channels(stage);
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                // Stochastic depth grows linearly, from 0 in the first block; a hybrid's starts after its stem.
                let drop_path = match order {
                    Order::After => 0.0,
                    Order::Before => place.config.drop.path * blocks.len() as f32 / (total.max(2) - 1) as f32,
                };
                let mut place = place.at(format_args!("stages.{stage}.{block}"));
                let shape = Shape { inputs: channels, outputs, stride, first: block == 0 };
                blocks.push(Bottleneck::new(&mut place, stem, order, shape, drop_path));
                channels = outputs;
            }
        }
        let last_norm = (order == Order::Before).then(|| GroupNorm::new(place, stem, "last_norm", channels));
        let pool = (stem.root == Root::Large).then_some(stem.padding);
        ResNetV2 { root, root_norm, pool, blocks, last_norm, channels }
    }

    /// Channels of the feature map.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Pixels to a feature map, both `[batch, height, width, channels]`.
    pub(super) fn forward(&self, cx: &Context<'_>, pixels: &Tensor) -> Tensor {
        let mut x = cx.convolution(pixels, &self.root);
        if let Some(norm) = &self.root_norm {
            x = norm.activated(cx, &x);
        }
        x = match self.pool {
            None => x,
            Some(Border::Same) => cx.max_pool(&x, 3, 2, Padding::Same),
            Some(Border::Symmetric) => cx.max_pool(&x, 3, 2, Padding::Explicit(1)),
            Some(Border::Fixed) => cx.max_pool(&cx.zero_border(&x, 1), 3, 2, Padding::Explicit(0)),
        };
        for block in &self.blocks {
            x = block.forward(cx, &x);
        }
        self.last_norm.as_ref().map_or_else(|| x.clone(), |norm| norm.activated(cx, &x))
    }
}

/// The input and output sizes of a block.
#[derive(Clone, Copy)]
struct Shape {
    inputs: usize,
    outputs: usize,
    stride: usize,
    /// Whether it is the first of its stage, with a convolution in its shortcut.
    first: bool,
}

impl Bottleneck {
    fn new(place: &mut Builder<'_>, stem: &config::ResNetV2, order: Order, shape: Shape, drop_path: f32) -> Self {
        let Shape { inputs, outputs, stride, first } = shape;
        let middle = config::ResNetV2::middle_channels(outputs);
        let shortcut = first.then(|| {
            let extents = Extents { inputs, outputs, kernel: 1, stride };
            let convolution = convolution(place, stem, "downsample.conv", extents);
            let norm = (order == Order::After).then(|| GroupNorm::new(place, stem, "downsample.norm", outputs));
            (convolution, norm)
        });
        let extents = [
            Extents { inputs, outputs: middle, kernel: 1, stride: 1 },
            Extents { inputs: middle, outputs: middle, kernel: 3, stride },
            Extents { inputs: middle, outputs, kernel: 1, stride: 1 },
        ];
        let normed = |extents: Extents| if order == Order::Before { extents.inputs } else { extents.outputs };
        let mut parts = std::iter::zip(1.., extents).map(|(i, extents)| {
            let convolution = convolution(place, stem, &format!("conv{i}"), extents);
            (convolution, GroupNorm::new(place, stem, &format!("norm{i}"), normed(extents)))
        });
        let [(reduce, norm1), (spatial, norm2), (expand, norm3)] =
            std::array::from_fn(|_| parts.next().expect("three of them"));
        Bottleneck { order, convolutions: [reduce, spatial, expand], norms: [norm1, norm2, norm3], shortcut, drop_path }
    }

    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        let [reduce, spatial, expand] = &self.convolutions;
        let [norm1, norm2, norm3] = &self.norms;
        match self.order {
            Order::After => {
                let shortcut = match &self.shortcut {
                    None => x.clone(),
                    Some((convolution, norm)) => {
                        let x = cx.convolution(x, convolution);
                        norm.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(cx, &x))
                    }
                };
                let y = norm1.activated(cx, &cx.convolution(x, reduce));
                let y = norm2.activated(cx, &cx.convolution(&y, spatial));
                let y = norm3.forward(cx, &cx.convolution(&y, expand));
                cx.activation(&cx.add(&y, &shortcut), Activation::Relu)
            }
            Order::Before => {
                let ready = norm1.activated(cx, x);
                let shortcut = self
                    .shortcut
                    .as_ref()
                    .map_or_else(|| x.clone(), |(convolution, _)| cx.convolution(&ready, convolution));
                let y = cx.convolution(&ready, reduce);
                let y = cx.convolution(&norm2.activated(cx, &y), spatial);
                let y = cx.convolution(&norm3.activated(cx, &y), expand);
                cx.add(&cx.drop_path(&y, self.drop_path), &shortcut)
            }
        }
    }
}

/// Multiply-accumulates of the convolutions for one image, and the channels of the feature map.
pub(super) fn cost(stem: &config::ResNetV2, channels: usize, image: Size) -> (u64, usize) {
    let halved = |size: Size| Size { height: size.height.div_ceil(2), width: size.width.div_ceil(2) };
    let mut inputs = stem.root_channels();
    let (kernel, mut size) = match stem.root {
        Root::Large => (49, halved(image)),
        Root::Small => (9, image),
    };
    let mut total = size.area() * kernel * channels * inputs;
    if stem.root == Root::Large {
        size = halved(size);
    }
    for (stage, &count) in stem.layers.iter().enumerate() {
        let outputs = stem.stage_channels(stage);
        let middle = config::ResNetV2::middle_channels(outputs);
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
