//! Pixels to patch embeddings.

use vitral_engine::ops::{Linear, Norm};
use vitral_engine::{Context, Tensor};

use super::build::Builder;
use super::resnet::{Order, ResNetV2};
use super::resnet_d::ResNetD;
use super::stem::SmallStem;
use crate::config::{Size, Stem};

/// The patch embedding: a linear map over the pixels of a patch, or over a hybrid's feature map. A pure ResNet has
/// none: the cells of its feature map are the tokens.
pub(super) struct PatchEmbedding {
    stem: Option<FeatureMap>,
    norm_in: Option<Norm>,
    projection: Option<Linear>,
    norm_out: Option<Norm>,
    patch: Size,
}

/// The convolutions before the patches.
enum FeatureMap {
    ResNet(ResNetV2),
    ResNetD(ResNetD),
    Small(SmallStem),
}

impl FeatureMap {
    fn channels(&self) -> usize {
        match self {
            FeatureMap::ResNet(stem) => stem.channels(),
            FeatureMap::ResNetD(stem) => stem.channels(),
            FeatureMap::Small(stem) => stem.channels(),
        }
    }

    /// `[batch, channels, height, width]` to `[batch, height, width, channels]`.
    fn forward(&self, cx: &Context<'_>, pixels: &Tensor) -> Tensor {
        let [batch, channels, height, width] = pixels.shape()[..] else { unreachable!("checked on entry") };
        let last = cx.swap_last_two(&pixels.reshape([batch, channels, height * width]));
        let last = last.reshape([batch, height, width, channels]);
        match self {
            FeatureMap::ResNet(stem) => stem.forward(cx, &last),
            FeatureMap::ResNetD(stem) => stem.forward(cx, &last),
            FeatureMap::Small(stem) => stem.forward(cx, &last),
        }
    }
}

impl PatchEmbedding {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let config = builder.config;
        let stem = match &config.stem {
            Stem::Patches => None,
            Stem::Hybrid(resnet) => {
                Some(FeatureMap::ResNet(ResNetV2::new(&mut builder.at("stem"), resnet, Order::After)))
            }
            Stem::ResNet(resnet) => {
                Some(FeatureMap::ResNet(ResNetV2::new(&mut builder.at("stem"), resnet, Order::Before)))
            }
            Stem::ResNetD(resnet) => Some(FeatureMap::ResNetD(ResNetD::new(&mut builder.at("stem"), resnet))),
            Stem::Convolutional(small) => Some(FeatureMap::Small(SmallStem::new(&mut builder.at("stem"), small))),
        };
        let channels = stem.as_ref().map_or(config.channels, FeatureMap::channels);
        let inputs = channels * config.patch_size.area();
        let mut place = builder.at("patches");
        let norm_in = config.patch_norms.then(|| place.norm("norm_in", inputs));
        let norm_out = (config.patch_norms || config.patch_output_norm).then(|| place.norm("norm_out", config.width));
        let projection =
            config.embeds_patches().then(|| builder.linear("patches", inputs, config.width, config.patch_bias));
        PatchEmbedding { stem, norm_in, projection, norm_out, patch: config.patch_size }
    }

    /// `[batch, channels, height, width]` to `[batch, patches, width]`, row by row. Pixels beyond the grid are dropped, as
    /// a convolution without padding does.
    pub(super) fn forward(&self, cx: &Context<'_>, pixels: &Tensor, grid: Size) -> Tensor {
        let patch = [self.patch.height, self.patch.width];
        let grid = [grid.height, grid.width];
        let flat = match &self.stem {
            None => cx.patches(pixels, patch, grid),
            Some(stem) => {
                let map = stem.forward(cx, pixels);
                let [batch, height, width, channels] = map.shape()[..] else { unreachable!("a feature map") };
                let cells = map.reshape([batch, height * width, channels]);
                if self.patch.area() == 1 {
                    cells
                } else {
                    cx.patches(&cx.swap_last_two(&cells).reshape([batch, channels, height, width]), patch, grid)
                }
            }
        };
        let Some(projection) = self.projection else { return flat };
        let x = cx.linear_with(&flat, self.norm_in.as_ref(), projection, Default::default());
        self.norm_out.as_ref().map_or_else(|| x.clone(), |norm| cx.norm(&x, norm))
    }
}
