//! timm's `Beit`, and `Eva`, which was derived from it: arguments of their constructors.

use super::Arguments;
use crate::config::{
    Activation, Axis, BlockKind, DropRates, MlpKind, ModelConfig, NormKind, OtherSizes, Pooling, PositionResample,
    Positions, RelativePositions, RelativeResample, Rotary, Size,
};
use crate::weights::WeightsError;

/// Arguments of both classes that we read or that change nothing in a forward pass.
const OF_BOTH: [&str; 27] = [
    "class",
    "img_size",
    "patch_size",
    "in_chans",
    "num_classes",
    "global_pool",
    "embed_dim",
    "depth",
    "num_heads",
    "qkv_bias",
    "mlp_ratio",
    "swiglu_mlp",
    "scale_mlp",
    "drop_rate",
    "pos_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "norm_layer",
    "init_values",
    "use_abs_pos_emb",
    "use_fc_norm",
    "head_init_scale",
    "features_only",
    "out_indices",
    "pretrained",
    "strict_img_size",
];

const OF_BEIT: [&str; 2] = ["use_rel_pos_bias", "use_shared_rel_pos_bias"];

const OF_EVA: [&str; 22] = [
    "qkv_fused",
    "swiglu_align_to",
    "scale_attn_inner",
    "attn_type",
    "class_token",
    "num_reg_tokens",
    "no_embed_class",
    "use_rot_pos_emb",
    "rope_type",
    "rope_temperature",
    "rope_rotate_half",
    "rope_grid_offset",
    "rope_grid_indexing",
    "ref_feat_shape",
    "patch_drop_rate",
    "use_pre_transformer_norm",
    "use_post_transformer_norm",
    "use_post_norm",
    "attn_pool_num_heads",
    "attn_pool_mlp_ratio",
    "dynamic_img_size",
    "dynamic_img_pad",
];

impl Arguments<'_> {
    /// The configuration of a `Beit`.
    pub(super) fn beit(&self) -> Result<ModelConfig, WeightsError> {
        self.refuse_others("Beit", &OF_BEIT)?;
        let fields = &self.fields;
        let truth = |key: &str| Ok::<_, WeightsError>(fields.truth(key)?.unwrap_or(false));
        let config = self.of_both()?;
        Ok(ModelConfig {
            relative_positions: match (truth("use_rel_pos_bias")?, truth("use_shared_rel_pos_bias")?) {
                (false, false) => RelativePositions::None,
                (true, false) => RelativePositions::Blocks,
                (false, true) => RelativePositions::Shared,
                (true, true) => RelativePositions::Both,
            },
            relative_resample: RelativeResample::Geometric,
            // No LayerScale may also be written as zero.
            layer_scale: config.layer_scale.filter(|&scale| scale != 0.0),
            ..config
        })
    }

    /// The configuration of an `Eva`.
    pub(super) fn eva(&self) -> Result<ModelConfig, WeightsError> {
        self.refuse_others("Eva", &OF_EVA)?;
        let fields = &self.fields;
        let truth = |key: &str, default: bool| Ok::<_, WeightsError>(fields.truth(key)?.unwrap_or(default));
        let attention = fields.text("attn_type")?.unwrap_or("eva");
        if !matches!(attention, "eva" | "rope") {
            return Err(self.unsupported("attn_type", attention));
        }
        let config = self.of_both()?;
        let (post_norm, pre_norm) = (truth("use_post_norm", false)?, truth("use_pre_transformer_norm", false)?);
        let final_norm = truth("use_post_transformer_norm", config.final_norm)?;
        let align = fields.count("swiglu_align_to")?.unwrap_or(0);
        // A post-norm block without a norm in its MLP packs both halves, and does not align them.
        let aligned = config.mlp == MlpKind::Gated && align > 0 && (config.mlp_norm || !post_norm);
        let mlp_width = if aligned { config.mlp_width.next_multiple_of(align) } else { config.mlp_width };
        let positions = match config.positions {
            Positions::None => Positions::None,
            _ if truth("no_embed_class", false)? => Positions::LearnedPatches,
            other => other,
        };
        let pool = self.attention_pool(&config)?;
        let pad = truth("dynamic_img_pad", false)?;
        let other_sizes = if truth("dynamic_img_size", false)? {
            OtherSizes::Resample { kernel: PositionResample::BicubicAntialias, pad }
        } else {
            OtherSizes::Refuse
        };
        let patches = fields.number("patch_drop_rate")?.unwrap_or(0.0) as f32;
        let drop = DropRates { patches, ..config.drop };
        Ok(ModelConfig {
            patch_bias: !pre_norm,
            class_token: truth("class_token", true)?,
            final_norm,
            mlp_width,
            positions,
            rotary: self.rotary()?,
            other_sizes,
            pre_norm,
            block: if post_norm { BlockKind::ResidualPostNorm } else { BlockKind::PreNorm },
            key_bias: config.key_bias || attention == "rope",
            layer_scale: config.layer_scale.filter(|_| !post_norm),
            pool_prefix: config.pooling == Pooling::Attention,
            pool_heads: pool.map(|(heads, _)| heads).filter(|&heads| heads != config.heads),
            pool_mlp_width: pool.map(|(_, width)| width).filter(|&width| width != mlp_width),
            attention_norm: truth("scale_attn_inner", false)?,
            drop,
            registers: fields.count("num_reg_tokens")?.unwrap_or(0),
            ..config
        })
    }

    /// The rotary positions of an `Eva`.
    fn rotary(&self) -> Result<Option<Rotary>, WeightsError> {
        let fields = &self.fields;
        if !fields.truth("use_rot_pos_emb")?.unwrap_or(false) {
            return Ok(None);
        }
        let kind = fields.text("rope_type")?.unwrap_or("cat");
        // Angles are repeated in the layout that each kind is made for.
        let halves = fields.truth("rope_rotate_half")?.unwrap_or(false);
        if halves != (kind == "dinov3") {
            return Err(self.unsupported("rope_rotate_half", &format!("{halves} with positions of kind {kind}")));
        }
        let theta = fields.number("rope_temperature")?.unwrap_or(10_000.0) as f32;
        let first = match fields.text("rope_grid_indexing")?.unwrap_or("ij") {
            "ij" => Axis::Rows,
            "xy" => Axis::Columns,
            other => return Err(self.unsupported("rope_grid_indexing", other)),
        };
        Ok(Some(match kind {
            "dinov3" => Rotary::Normalized { theta },
            "mixed" => Rotary::Mixed { theta, first },
            "cat" => Rotary::Axial {
                theta,
                first,
                offset: fields.number("rope_grid_offset")?.unwrap_or(0.0) as f32,
                reference: fields.size("ref_feat_shape")?,
            },
            other => return Err(self.unsupported("rope_type", other)),
        }))
    }

    /// Heads of an `Eva`'s attention pool, and the width of its MLP.
    fn attention_pool(&self, config: &ModelConfig) -> Result<Option<(usize, usize)>, WeightsError> {
        if config.pooling != Pooling::Attention {
            return Ok(None);
        }
        if config.mlp == MlpKind::Gated || config.mlp_norm {
            return Err(
                self.unsupported("global_pool", "map, whose MLP is plain, after gated MLPs or such with a norm")
            );
        }
        let heads = self.fields.count("attn_pool_num_heads")?.filter(|&heads| heads > 0).unwrap_or(config.heads);
        let ratio = self.fields.number("attn_pool_mlp_ratio")?.filter(|&ratio| ratio != 0.0);
        let width = ratio.map_or(config.mlp_width, |ratio| (config.width as f64 * ratio) as usize);
        Ok(Some((heads, width)))
    }

    /// The configuration from the arguments common to both classes.
    fn of_both(&self) -> Result<ModelConfig, WeightsError> {
        let fields = &self.fields;
        let truth = |key: &str, default: bool| Ok::<_, WeightsError>(fields.truth(key)?.unwrap_or(default));
        let eva = fields.text("class")? == Some("Eva");
        let pooling = match fields.text("global_pool")?.unwrap_or("avg") {
            "avg" => Pooling::Mean,
            "max" if eva => Pooling::Max,
            "avgmax" if eva => Pooling::AverageMax,
            "map" if eva => Pooling::Attention,
            "token" => Pooling::Class,
            "" => Pooling::None,
            other => return Err(self.unsupported("global_pool", other)),
        };
        let fc_norm = truth("use_fc_norm", pooling == Pooling::Mean)?;
        let (width, heads) = self.width_and_heads()?;
        let (norm, norm_epsilon) = self.norm("norm_layer")?.unwrap_or((NormKind::Layer, 1e-6));
        let gated = truth("swiglu_mlp", false)?;
        Ok(ModelConfig {
            image_size: fields.size("img_size")?.unwrap_or(Size::square(224)),
            patch_size: fields.size("patch_size")?.unwrap_or(Size::square(16)),
            channels: fields.count("in_chans")?.unwrap_or(3),
            classes: fields.count("num_classes")?.unwrap_or(1000),
            width,
            depth: fields.count("depth")?.unwrap_or(12),
            heads,
            head_width: width / heads,
            mlp_width: (width as f64 * fields.number("mlp_ratio")?.unwrap_or(4.0)) as usize,
            mlp: if gated { MlpKind::Gated } else { MlpKind::Plain },
            activation: if gated { Activation::Silu } else { Activation::Gelu },
            mlp_norm: truth("scale_mlp", false)?,
            positions: if truth("use_abs_pos_emb", true)? { Positions::LearnedAll } else { Positions::None },
            norm,
            norm_epsilon,
            qkv_bias: truth("qkv_bias", true)?,
            key_bias: !truth("qkv_bias", true)?,
            layer_scale: fields.number("init_values")?.map(|value| value as f32),
            final_norm: !fc_norm,
            pooling,
            pooled_norm: fc_norm,
            drop: DropRates { patches: 0.0, ..self.drop_rates()? },
            ..ModelConfig::default()
        })
    }

    /// Rejects unknown arguments.
    fn refuse_others(&self, class: &str, own: &[&str]) -> Result<(), WeightsError> {
        let known = |key: &str| OF_BOTH.contains(&key) || own.contains(&key);
        match self.fields.keys().find(|key| self.fields.has(key) && !known(key)) {
            Some(key) => Err(self.fields.fault(key, format!("this argument of timm's {class} is not supported"))),
            None => Ok(()),
        }
    }
}
