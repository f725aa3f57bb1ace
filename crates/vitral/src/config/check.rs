//! Checks that a configuration's fields are consistent.

use super::ModelConfig;
use super::choices::{Head, Pooling};
use super::error::ConfigError;
use super::positions::{Positions, RelativePositions, Rotary};
use super::size::Size;
use super::stem::{ResNetD, ResNetV2, Stem, StemLayer};

impl ModelConfig {
    /// Checks that the fields are consistent.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_extents()?;
        let attends = self.depth > 0 || self.pooling == Pooling::Attention;
        for (field, value) in [("heads", self.heads), ("head_width", self.head_width), ("mlp_width", self.mlp_width)] {
            if value == 0 && attends {
                return Err(ConfigError::Zero { field });
            }
        }
        if self.pre_logits == Some(0) {
            return Err(ConfigError::Zero { field: "pre_logits" });
        }
        if matches!(self.head, Head::Mlp { width: 0, .. }) {
            return Err(ConfigError::Zero { field: "head.mlp.width" });
        }
        if matches!(self.head, Head::Cosine { space: Some(0) }) {
            return Err(ConfigError::Zero { field: "head.cosine.space" });
        }
        let contradiction = |problem: String, hint| Err(ConfigError::Contradiction { problem, hint });
        let grid = self.grid();
        if grid.area() == 0 {
            let problem = format!("has images of {} and patches of {}", self.image_size, self.token_stride());
            return contradiction(problem, "an image must hold at least one patch");
        }
        let needs_class = matches!(self.pooling, Pooling::Class | Pooling::ClassAndMean);
        if needs_class && !self.class_token {
            let problem = "pools the class token but has none".to_owned();
            return contradiction(problem, "set `class_token` or another `pooling`");
        }
        if matches!(self.head, Head::Cosine { .. }) && self.distillation_head {
            let problem = "has a cosine head and a distillation head".to_owned();
            return contradiction(problem, "a cosine head stands alone");
        }
        if self.distillation_head && !(self.distillation_token && self.class_token) {
            let problem = "has a distillation head but lacks a class or distillation token".to_owned();
            return contradiction(problem, "set `class_token` and `distillation_token`");
        }
        self.check_positions()?;
        if !self.attention_projection && self.attention_width() != self.width {
            let problem =
                format!("has no attention projection from {} back to width {}", self.attention_width(), self.width);
            return contradiction(problem, "set `attention_projection`");
        }
        for (field, value) in [("pool_heads", self.pool_heads), ("pool_mlp_width", self.pool_mlp_width)] {
            if value == Some(0) {
                return Err(ConfigError::Zero { field });
            }
        }
        let heads = self.heads_of_pool();
        if self.pooling == Pooling::Attention && !self.width.is_multiple_of(heads) {
            let problem = format!("pools width {} by attention with {heads} heads", self.width);
            return contradiction(problem, "the width must be a multiple of the number of heads");
        }
        self.check_stem()?;
        let drop = self.drop;
        for (field, rate) in [
            ("drop.hidden", drop.hidden),
            ("drop.attention", drop.attention),
            ("drop.positions", drop.positions),
            ("drop.head", drop.head),
            ("drop.path", drop.path),
            ("drop.patches", drop.patches),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return Err(ConfigError::Range {
                    field,
                    found: rate.to_string(),
                    expected: "a rate from 0 to below 1",
                });
            }
        }
        if !(self.norm_epsilon >= 0.0 && self.norm_epsilon.is_finite()) {
            let found = self.norm_epsilon.to_string();
            return Err(ConfigError::Range { field: "norm_epsilon", found, expected: "a number of at least 0" });
        }
        self.check_size()
    }

    /// Rejects single numbers that are zero, or so large that they can only be a mistake or an attack; products of the
    /// others do not overflow.
    fn check_extents(&self) -> Result<(), ConfigError> {
        const MOST: usize = 1 << 24;
        const MOST_BLOCKS: usize = 10_000;
        let sizes = [("image_size", self.image_size), ("patch_size", self.patch_size)];
        for (field, Size { height, width }) in sizes {
            if height == 0 || width == 0 {
                return Err(ConfigError::Zero { field });
            }
            if height > MOST || width > MOST {
                let found = format!("{height}×{width}");
                return Err(ConfigError::Range { field, found, expected: "sides of at most 16777216 pixels" });
            }
        }
        for (field, value, least) in [
            ("channels", self.channels, 1),
            ("width", self.width, 1),
            ("heads", self.heads, 0),
            ("head_width", self.head_width, 0),
            ("mlp_width", self.mlp_width, 0),
            ("registers", self.registers, 0),
            ("classes", self.classes, 0),
        ] {
            if value < least {
                return Err(ConfigError::Zero { field });
            }
            if value > MOST {
                let found = value.to_string();
                return Err(ConfigError::Range { field, found, expected: "at most 16777216" });
            }
        }
        if self.depth > MOST_BLOCKS {
            let found = self.depth.to_string();
            return Err(ConfigError::Range { field: "depth", found, expected: "at most 10000 blocks" });
        }
        Ok(())
    }

    /// Rejects sizes that can only be a mistake or an attack, before anything is allocated.
    fn check_size(&self) -> Result<(), ConfigError> {
        const LIMIT: u128 = 1 << 40;
        let wide = |x: usize| x as u128;
        let block = wide(self.width)
            .saturating_mul(4u128.saturating_mul(wide(self.heads).saturating_mul(wide(self.head_width))))
            .saturating_add(3u128.saturating_mul(wide(self.width).saturating_mul(wide(self.mlp_width))));
        let count = block
            .saturating_add(16 * wide(self.width))
            .saturating_mul(wide(self.depth))
            .saturating_add(wide(self.width).saturating_mul(wide(self.classes).saturating_add(wide(self.tokens()))))
            .saturating_add(
                wide(self.channels).saturating_mul(wide(self.patch_size.area())).saturating_mul(wide(self.width)),
            )
            .saturating_add(self.stem_weights())
            .saturating_add(self.relative_weights());
        if count > LIMIT {
            return Err(ConfigError::TooLarge { count, limit: LIMIT });
        }
        // Positions by sines and cosines are computed where others are read.
        const MOST_POSITIONS: u128 = 1 << 32;
        let positions = wide(self.width).saturating_mul(wide(self.tokens()));
        if positions > MOST_POSITIONS {
            let found = format!("{} tokens of width {}", self.tokens(), self.width);
            return Err(ConfigError::Range {
                field: "image_size",
                found,
                expected: "at most 2^32 values in all tokens",
            });
        }
        Ok(())
    }

    /// Number of entries in all relative position tables together.
    fn relative_weights(&self) -> u128 {
        let kind = self.relative_positions;
        let tables = usize::from(kind.in_blocks()) * self.depth + usize::from(kind.shared());
        let entries = (self.grid().area() as u128).saturating_mul(4);
        entries.saturating_mul(self.heads as u128).saturating_mul(tables as u128)
    }

    /// Checks what position embeddings require of the other fields.
    fn check_positions(&self) -> Result<(), ConfigError> {
        let contradiction = |problem: String, hint| Err(ConfigError::Contradiction { problem, hint });
        if self.positions == Positions::SinCos2d && !self.width.is_multiple_of(4) {
            let problem = format!("has sine-cosine positions at width {}", self.width);
            return contradiction(problem, "the width must be a multiple of 4: sines and cosines of two axes");
        }
        if let Some(rotary) = self.rotary {
            if self.head_width == 0 || !self.head_width.is_multiple_of(4) {
                let problem = format!("has rotary positions with heads of width {}", self.head_width);
                return contradiction(problem, "the head width must be a multiple of 4: pairs of two axes");
            }
            if self.drop.patches > 0.0 {
                let problem = "has rotary positions and drops patches in training".to_owned();
                return contradiction(problem, "set `drop.patches` to 0");
            }
            let theta = rotary.theta();
            if !(theta > 0.0 && theta.is_finite()) {
                let found = theta.to_string();
                return Err(ConfigError::Range { field: "rotary.theta", found, expected: "a number above 0" });
            }
            if let Rotary::Axial { offset, reference, .. } = rotary {
                if !offset.is_finite() {
                    let found = offset.to_string();
                    return Err(ConfigError::Range { field: "rotary.axial.offset", found, expected: "a number" });
                }
                if reference.is_some_and(|grid| grid.area() == 0) {
                    return Err(ConfigError::Zero { field: "rotary.axial.reference" });
                }
            }
        }
        if self.relative_positions != RelativePositions::None {
            if !self.class_token || self.prefix_tokens() != 1 {
                let problem = format!("has relative positions and {} prefix tokens", self.prefix_tokens());
                return contradiction(problem, "relative positions require a class token and no other prefix token");
            }
            if self.drop.patches > 0.0 {
                let problem = "has relative positions and drops patches in training".to_owned();
                return contradiction(problem, "set `drop.patches` to 0");
            }
        }
        Ok(())
    }

    /// Checks that the stem is consistent, and consistent with the model.
    fn check_stem(&self) -> Result<(), ConfigError> {
        let contradiction = |problem: String, hint| Err(ConfigError::Contradiction { problem, hint });
        match &self.stem {
            Stem::Patches => Ok(()),
            Stem::Hybrid(stem) => check_resnet(stem),
            Stem::ResNet(stem) => {
                check_resnet(stem)?;
                let channels = stem.feature_channels();
                if channels != self.width || self.patch_size != Size::square(1) {
                    let (width, patch) = (self.width, self.patch_size);
                    let problem =
                        format!("has width {width} and patches of {patch} on a ResNet of {channels} channels");
                    return contradiction(
                        problem,
                        "the ResNet's cells are the tokens: `width` must equal its channels and `patch_size` must be 1",
                    );
                }
                Ok(())
            }
            Stem::ResNetD(stem) => {
                check_resnet_d(stem)?;
                let (image, stride) = (self.image_size, stem.stride());
                if !(image.height.is_multiple_of(stride) && image.width.is_multiple_of(stride)) {
                    let problem = format!("has images of {image} for a ResNet-D that shrinks them {stride} times");
                    return contradiction(problem, "the image size must be a multiple of that");
                }
                Ok(())
            }
            Stem::Convolutional(stem) => {
                let fits = |layer: &StemLayer| layer.channels.is_multiple_of(stem.group_width.max(1));
                if let Some(layer) = stem.layers.iter().find(|layer| !fits(layer)) {
                    let problem = format!("normalizes {} channels in groups of {}", layer.channels, stem.group_width);
                    return contradiction(problem, "each layer's channels must be a multiple of `group_width`");
                }
                if stem.group_width == 0 || stem.layers.iter().any(|layer| layer.channels == 0 || layer.stride == 0) {
                    return Err(ConfigError::Zero { field: "stem" });
                }
                Ok(())
            }
        }
    }

    /// Number of values in the stem's convolutions, roughly.
    fn stem_weights(&self) -> u128 {
        match &self.stem {
            Stem::Patches | Stem::Convolutional(_) => 0,
            Stem::Hybrid(stem) | Stem::ResNet(stem) => resnet_weights(stem),
            Stem::ResNetD(stem) => {
                let stage = |(stage, &blocks): (usize, &usize)| {
                    let channels = stem.stage_channels(stage) as u128;
                    channels.saturating_mul(channels) * 2 * blocks as u128
                };
                let root = (stem.root_width as u128).saturating_mul(stem.root_width as u128) * 27;
                stem.layers.iter().enumerate().map(stage).fold(root, u128::saturating_add)
            }
        }
    }
}

/// Checks that channels divide into groups and that their number is reasonable.
fn check_resnet(stem: &ResNetV2) -> Result<(), ConfigError> {
    if !(stem.width_factor > 0.0 && stem.width_factor <= 64.0) {
        let found = stem.width_factor.to_string();
        return Err(ConfigError::Range { field: "width_factor", found, expected: "above 0, at most 64" });
    }
    let contradiction = |problem, hint| Err(ConfigError::Contradiction { problem, hint });
    if stem.layers.len() > 8 || stem.layers.iter().any(|&blocks| blocks == 0 || blocks > 1000) {
        let problem = format!("has a ResNet with stages {:?}", stem.layers);
        return contradiction(problem, "it may have at most eight stages of 1 to 1000 blocks");
    }
    let stages = (0..stem.layers.len()).map(|stage| stem.stage_channels(stage));
    let normed = stages.flat_map(|outputs| [outputs, ResNetV2::middle_channels(outputs)]);
    let odd = |channels: &usize| stem.groups == 0 || !channels.is_multiple_of(stem.groups);
    if let Some(channels) = std::iter::once(stem.root_channels()).chain(normed).find(odd) {
        let problem = format!("normalizes {channels} channels in {} groups", stem.groups);
        return contradiction(problem, "the stem's channels must be a multiple of `groups`");
    }
    Ok(())
}

/// Checks that a ResNet-D has stages and channels of a reasonable number.
fn check_resnet_d(stem: &ResNetD) -> Result<(), ConfigError> {
    for (field, value) in [("root_width", stem.root_width), ("stage_width", stem.stage_width)] {
        if value == 0 {
            return Err(ConfigError::Zero { field });
        }
        if value > 1 << 16 {
            return Err(ConfigError::Range { field, found: value.to_string(), expected: "at most 65536" });
        }
    }
    if stem.layers.is_empty() || stem.layers.len() > 8 || stem.layers.iter().any(|&blocks| blocks == 0 || blocks > 1000)
    {
        let problem = format!("has a ResNet-D with stages {:?}", stem.layers);
        return Err(ConfigError::Contradiction {
            problem,
            hint: "it must have one to eight stages of 1 to 1000 blocks",
        });
    }
    if !(stem.norm_epsilon >= 0.0 && stem.norm_epsilon.is_finite()) {
        let found = stem.norm_epsilon.to_string();
        return Err(ConfigError::Range { field: "stem.norm_epsilon", found, expected: "a number of at least 0" });
    }
    Ok(())
}

/// Number of values in its convolutions, roughly.
fn resnet_weights(stem: &ResNetV2) -> u128 {
    let square = |channels: usize| (channels as u128).saturating_mul(channels as u128);
    let stage = |(stage, &blocks): (usize, &usize)| square(stem.stage_channels(stage)) * 2 * blocks as u128;
    stem.layers.iter().enumerate().map(stage).fold(0, u128::saturating_add)
}
