//! The cost of a forward pass in multiply-accumulates (MACs), by part.

use super::error::ModelError;
use super::head::Head;
use super::vit::Vit;
use super::{resnet, resnet_d, stem};
use crate::config::{self, BlockKind, MlpKind, ModelConfig, Pooling, Size, Stem};

/// Multiply-accumulates for one image, by part. Matrix products and convolutions count; norms, activations and sums do
/// not (below one percent), as in fvcore and in timm's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Macs {
    /// The convolutions of a stem, or of a whole ResNet.
    pub stem: u64,
    /// The patch embedding.
    pub patch_embedding: u64,
    /// Queries, keys and values.
    pub qkv: u64,
    /// Scores and weighted sums.
    pub attention: u64,
    /// The output projections of attention.
    pub projection: u64,
    /// The MLPs of all blocks.
    pub mlp: u64,
    /// Attention pooling, pre-logits and classifiers.
    pub head: u64,
}

impl Macs {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.stem + self.patch_embedding + self.qkv + self.attention + self.projection + self.mlp + self.head
    }
}

impl Vit {
    /// Multiply-accumulates for one image of this size, with all tokens going through all blocks: what other libraries
    /// count and compute.
    ///
    /// # Errors
    /// If the model does not accept this image size.
    pub fn macs(&self, image: Size) -> Result<Macs, ModelError> {
        self.cost(image, None)
    }

    /// Multiply-accumulates actually computed in a plain pass, which needs fewer if the last block is computed only for
    /// the class token. (Its other queries are still computed if the heads do not fill whole panels, or if there are
    /// adapters.)
    ///
    /// # Errors
    /// If the model does not accept this image size.
    pub fn computed_macs(&self, image: Size) -> Result<Macs, ModelError> {
        self.cost(image, Head::tokens_read(self.config()))
    }

    /// Counts only `read` of the last block's output tokens, if given.
    fn cost(&self, image: Size, read: Option<usize>) -> Result<Macs, ModelError> {
        let config = self.config();
        let patches = self.grid(image)?.area();
        let tokens = patches + config.prefix_tokens();
        let last = read.unwrap_or(tokens);
        let (stem, channels) = match &config.stem {
            Stem::Patches => (0, config.channels),
            Stem::Hybrid(resnet) | Stem::ResNet(resnet) => resnet::cost(resnet, config.channels, image),
            Stem::ResNetD(resnet) => resnet_d::cost(resnet, config.channels, image),
            Stem::Convolutional(small) => stem::cost(small, config.channels, image),
        };
        let embedded =
            if config.embeds_patches() { patches * channels * config.patch_size.area() * config.width } else { 0 };
        let inner = config.attention_width();
        let pairs = if config.block == BlockKind::ParallelPairs { 2 } else { 1 };
        // Attentions and MLPs of all blocks, and the number of tokens their outputs are computed for.
        let blocks = config.depth * pairs;
        let asking = if config.depth > 0 { pairs * ((config.depth - 1) * tokens + last) } else { 0 };
        let projection = if config.attention_projection { inner * config.width } else { 0 };
        let count = |n: usize| n as u64;
        Ok(Macs {
            stem,
            patch_embedding: count(embedded),
            qkv: count((asking + 2 * blocks * tokens) * config.width * inner),
            attention: count(asking * 2 * tokens * inner),
            projection: count(asking * projection),
            mlp: count(asking * mlp(config, config.mlp_width)),
            head: count(head(config, patches, tokens)),
        })
    }
}

/// An MLP for one token.
fn mlp(config: &ModelConfig, hidden: usize) -> usize {
    let up = if config.mlp == MlpKind::Gated { 2 } else { 1 };
    (up + 1) * config.width * hidden
}

fn head(config: &ModelConfig, patches: usize, tokens: usize) -> usize {
    let width = config.width;
    let pool = if config.pooling == Pooling::Attention {
        let seen = if config.pool_prefix { tokens } else { patches };
        // The probe's projection, keys and values, scores and sums, the output projection, the MLP.
        width * width
            + seen * 2 * width * width
            + 2 * seen * width
            + width * width
            + mlp(config, config.mlp_width_of_pool())
    } else {
        0
    };
    let pooled = if config.pooling == Pooling::ClassAndMean { 2 * width } else { width };
    let rows = if config.pooling == Pooling::None { tokens } else { 1 };
    let read_out = if config.distillation_head { 2 } else { 1 };
    let features = config.feature_width();
    let classifier = match config.head {
        config::Head::Linear => features * config.classes,
        config::Head::Mlp { width, .. } => (features + config.classes) * width,
        config::Head::Cosine { space: None } => features * config.classes,
        config::Head::Cosine { space: Some(space) } => (features + config.classes) * space,
    };
    let classifier = if config.classes == 0 { 0 } else { classifier };
    let pre_logits = config.pre_logits.map_or(0, |features| pooled * features);
    pool + rows * read_out * (pre_logits + classifier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Border, ResNetV2, Root};
    use crate::model::variants;

    /// timm's tables, in GMACs.
    #[test]
    fn costs_match_the_published_ones() {
        for (name, expected) in [
            ("Ti/16", 1.26),
            ("S/16", 4.61),
            ("B/32", 4.41),
            ("B/16", 17.58),
            ("vit_base_patch16_384", 55.54),
            ("L/16", 61.60),
            ("H/14", 167.40),
        ] {
            let config = variants::find(name).expect("known");
            let image = config.image_size;
            let macs = Vit::new(config).expect("valid").macs(image).expect("its own size");
            let found = macs.total() as f64 / 1e9;
            assert!((found / expected - 1.0).abs() < 0.01, "{name}: {found}, expected {expected} GMACs");
        }
    }

    #[test]
    fn a_class_token_alone_costs_less() {
        let vit = Vit::new(variants::find("S/16").expect("known")).expect("valid");
        let image = vit.config().image_size;
        let (all, computed) = (vit.macs(image).expect("its own size"), vit.computed_macs(image).expect("its own size"));
        // 196 of 197 tokens skip queries, scores, projection and MLP: 10 of 12 squares of the width, once.
        let saved = 196 * (10 * 384 * 384 + 2 * 197 * 384);
        assert_eq!(all.total() - computed.total(), saved);
    }

    /// timm's `vit_small_r26_s32_224` takes 3.54 GMACs, some of them in its group norms, which we do not count.
    #[test]
    fn the_stem_of_a_hybrid_counts() {
        let stem = ResNetV2 {
            layers: vec![2, 2, 2, 2],
            width_factor: 1.0,
            root: Root::Large,
            padding: Border::Same,
            groups: 32,
            standardization_epsilon: 1e-8,
            norm_epsilon: 1e-5,
        };
        let config = ModelConfig {
            stem: Stem::Hybrid(stem),
            patch_size: Size::square(1),
            ..variants::find("S/16").expect("known")
        };
        let image = config.image_size;
        let macs = Vit::new(config).expect("valid").macs(image).expect("its own size");
        let found = macs.total() as f64 / 1e9;
        assert!((found / 3.54 - 1.0).abs() < 0.03, "{found} GMACs");
    }
}
