//! Google's JAX files: only arrays, with no configuration. Everything follows from their names and shapes.
//!
//! What shapes do not show is constant in the code of `vision_transformer` and `big_vision`: `nn.gelu` is flax's, which
//! is the tanh approximation (timm and Hugging Face run the same weights with the exact one); layer and group norms
//! have an epsilon of 1e-6; positions are resampled to other sizes by linear interpolation with aligned corners; images
//! are resized to the model's size regardless of aspect ratio, by `tf.image.resize`, which does not antialias (`big_vision`
//! rounds the result down to 8 bits, `vision_transformer` does not), then scaled to [−1, 1].

mod bit;

use std::path::{Path, PathBuf};

use serde_json::json;

use super::contents::{Description, PreprocessSource};
use super::imagenet::LabelSet;
use crate::config::{
    Activation, Border, ModelConfig, OtherSizes, Pooling, PositionResample, Positions, ResNetV2, Root, Size, Stem,
};
use crate::weights::{Container, WeightsError};

/// The prefixes of parameters in a checkpoint.
const PREFIXES: [&str; 5] = ["", "opt/target/", "params/", "params/img/", "img/"];

/// Whether the arrays are a Vision Transformer or a ResNet from these code bases.
pub(super) fn recognizes(container: &Container) -> bool {
    prefix(container).is_some() || bit::recognizes(container)
}

fn prefix(container: &Container) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| container.contains(&format!("{prefix}embedding/kernel")))
}

/// The arrays under one prefix.
struct Arrays<'a> {
    path: &'a Path,
    container: &'a Container,
    prefix: &'static str,
}

/// Describes a file by its arrays.
pub(super) fn file(path: &Path, stem: String, container: &Container) -> Result<Description, WeightsError> {
    if bit::recognizes(container) {
        return bit::file(path, stem, container);
    }
    let prefix = prefix(container).ok_or_else(|| {
        WeightsError::description(
            path,
            "no `embedding/kernel`: not one of Google's Vision Transformers; use `--config FILE`",
        )
    })?;
    let arrays = Arrays { path, container, prefix };
    let (config, big_vision) = arrays.config()?;
    let preprocess = json!({
        "channels": if config.channels == 1 { "gray" } else { "rgb" },
        "steps": [{ "interpolate": { "to": { "exact": config.image_size }, "whole": big_vision } }],
        "rescale": { "multiply": { "factor": 1.0 / 127.5, "offset": -1.0 } },
        "normalize": null,
    });
    let classes = config.classes;
    Ok(Description {
        name: stem.clone(),
        config,
        preprocess: PreprocessSource::Vitral(preprocess),
        labels: LabelSet::of_jax(&stem, classes).map(LabelSet::names),
        license: None,
        precision: None,
        dialect: Some(if big_vision { "big-vision" } else { "jax" }.into()),
        names: Vec::new(),
        files: vec![PathBuf::from(path)],
    })
}

impl Arrays<'_> {
    fn has(&self, name: &str) -> bool {
        self.container.contains(&format!("{}{name}", self.prefix))
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.container.shape(&format!("{}{name}", self.prefix))
    }

    /// The shape of a required array with `N` axes.
    fn axes<const N: usize>(&self, name: &str) -> Result<[usize; N], WeightsError> {
        let shape = self.shape(name).unwrap_or_default();
        shape.try_into().map_err(|_| {
            let fault = if shape.is_empty() { "missing".to_owned() } else { format!("found {shape:?}") };
            let name = format!("{}{name}", self.prefix);
            WeightsError::description(self.path, format!("`{name}`: expected an array with {N} axes, {fault}"))
        })
    }

    fn config(&self) -> Result<(ModelConfig, bool), WeightsError> {
        let [patch_height, patch_width, inputs, width] = self.axes("embedding/kernel")?;
        let patch_size = Size { height: patch_height, width: patch_width };
        let blocks = self.blocks()?;
        let stem = self.stem();
        let channels = match &stem {
            Stem::Patches | Stem::Convolutional(_) => inputs,
            Stem::Hybrid(_) | Stem::ResNet(_) | Stem::ResNetD(_) => self.axes::<4>("conv_root/kernel")?[2],
        };
        let class_token = self.has("cls");
        let (positions, count) =
            match (self.shape("pos_embedding"), self.shape("Transformer/posembed_input/pos_embedding")) {
                (Some(shape), _) => (Positions::LearnedPatches, positions_of(shape)),
                (None, Some(shape)) => (Positions::LearnedAll, positions_of(shape)),
                (None, None) => (Positions::SinCos2d, 0),
            };
        let mut config = ModelConfig {
            patch_size,
            channels,
            width,
            depth: blocks.depth,
            heads: blocks.heads,
            head_width: blocks.head_width,
            mlp_width: blocks.mlp_width,
            classes: self.shape("head/bias").and_then(<[usize]>::last).copied().unwrap_or(0),
            stem,
            class_token,
            positions,
            other_sizes: OtherSizes::Resample { kernel: PositionResample::LinearAligned, pad: false },
            activation: Activation::GeluTanh,
            pooling: match class_token {
                _ if self.has("MAPHead_0/probe") => Pooling::Attention,
                true => Pooling::Class,
                false => Pooling::Mean,
            },
            pre_logits: self.shape("pre_logits/bias").and_then(<[usize]>::last).copied(),
            ..ModelConfig::default()
        };
        if positions != Positions::SinCos2d {
            let prefix = usize::from(class_token && positions == Positions::LearnedAll);
            let patches = count.saturating_sub(prefix);
            let side = patches.isqrt();
            if side == 0 || side * side != patches {
                let fault =
                    format!("{count} positions do not form a square grid; describe the model with `--config FILE`");
                return Err(WeightsError::description(self.path, fault));
            }
            let stride = config.token_stride();
            config.image_size = Size { height: side * stride.height, width: side * stride.width };
        }
        Ok((config, blocks.big_vision))
    }

    /// Depth and widths from the first block's attention and MLP.
    fn blocks(&self) -> Result<Blocks, WeightsError> {
        let stacked = self.has("Transformer/encoderblock/LayerNorm_0/scale");
        let first = if stacked { "Transformer/encoderblock" } else { "Transformer/encoderblock_0" };
        let big_vision = self.has(&format!("{first}/MultiHeadDotProductAttention_0/query/kernel"));
        let (attention, mlp) = if big_vision { (0, 0) } else { (1, 3) };
        let query = format!("{first}/MultiHeadDotProductAttention_{attention}/query/kernel");
        let dense = format!("{first}/MlpBlock_{mlp}/Dense_0/kernel");
        let (depth, heads, head_width, mlp_width) = if stacked {
            let [depth, _, heads, head_width] = self.axes(&query)?;
            (depth, heads, head_width, self.axes::<3>(&dense)?[2])
        } else {
            let [_, heads, head_width] = self.axes(&query)?;
            let norm = |i: &usize| self.has(&format!("Transformer/encoderblock_{i}/LayerNorm_0/scale"));
            ((0..).take_while(norm).count(), heads, head_width, self.axes::<2>(&dense)?[1])
        };
        Ok(Blocks { depth, heads, head_width, mlp_width, big_vision })
    }

    fn stem(&self) -> Stem {
        let Some(root) = self.shape("conv_root/kernel") else { return Stem::Patches };
        let units =
            |block: usize| (1..).take_while(|unit| self.has(&format!("block{block}/unit{unit}/conv1/kernel"))).count();
        Stem::Hybrid(ResNetV2 {
            layers: (1..).map(units).take_while(|&units| units > 0).collect(),
            width_factor: root.last().copied().unwrap_or(0) as f32 / 64.0,
            root: Root::Large,
            padding: Border::Same,
            groups: 32,
            // The JAX code adds 1e-5 to the standard deviation, timm 1e-8 to the variance; the group norm cancels the
            // difference.
            standardization_epsilon: 1e-8,
            norm_epsilon: 1e-6,
        })
    }
}

struct Blocks {
    depth: usize,
    heads: usize,
    head_width: usize,
    mlp_width: usize,
    big_vision: bool,
}

/// `[1, positions, width]`.
fn positions_of(shape: &[usize]) -> usize {
    shape.iter().rev().nth(1).copied().unwrap_or(0)
}
