//! timm's `NaFlexVit`, which takes images of any proportions: arguments of its constructor, and fields of its
//! configuration, which are given in the same way.

use super::{Arguments, WITHOUT_EFFECT};
use crate::config::{MlpKind, ModelConfig, NormKind, OtherSizes, Pooling, PositionResample, Positions, Size};
use crate::weights::WeightsError;

/// Arguments that we read.
const READ: [&str; 31] = [
    "in_chans",
    "num_classes",
    "img_size",
    "patch_size",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "qkv_bias",
    "qk_norm",
    "proj_bias",
    "attn_drop_rate",
    "init_values",
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "drop_path_rate",
    "class_token",
    "reg_tokens",
    "pos_embed",
    "pos_embed_grid_size",
    "pos_embed_interp_mode",
    "pos_embed_ar_preserving",
    "dynamic_img_pad",
    "pre_norm",
    "final_norm",
    "fc_norm",
    "global_pool",
    "pool_include_prefix",
    "norm_layer",
];

/// Arguments that we read for heads and activations.
const READ_OF_HEADS: [&str; 3] = ["attn_pool_num_heads", "attn_pool_mlp_ratio", "act_layer"];

/// Arguments that change nothing where patches come from whole images of one size.
const OF_PACKING: [&str; 2] = ["use_key_only_attn_mask", "enable_patch_interpolator"];

/// Arguments of which one value is supported: switches that must be off, or on.
const SWITCHES: [(&str, bool); 6] = [
    ("scale_mlp_norm", false),
    ("scale_attn_inner_norm", false),
    ("pos_embed_use_grid_sample", false),
    ("attn_gated", false),
    ("swiglu_mlp", false),
    ("patchify_channels_last", true),
];

impl Arguments<'_> {
    /// The configuration of a `NaFlexVit`.
    pub(super) fn naflex(&self) -> Result<ModelConfig, WeightsError> {
        let fields = &self.fields;
        self.refuse_others_of_naflex()?;
        let truth = |key: &str, default: bool| Ok::<_, WeightsError>(fields.truth(key)?.unwrap_or(default));
        let patch_size = fields.size("patch_size")?.unwrap_or(Size::square(16));
        let (norm, norm_epsilon) = self.norm("norm_layer")?.unwrap_or((NormKind::Layer, 1e-6));
        let (width, heads) = self.width_and_heads()?;
        let ratio = fields.number("mlp_ratio")?.unwrap_or(4.0);
        let mlp_width = (width as f64 * ratio) as usize;
        let prefix = truth("pool_include_prefix", false)?;
        let (pooling, pool_prefix) = match fields.text("global_pool")?.unwrap_or("map") {
            "map" => (Pooling::Attention, prefix),
            "avg" if prefix => (Pooling::MeanAll, false),
            "avg" => (Pooling::Mean, false),
            "max" => (Pooling::Max, prefix),
            "avgmax" => (Pooling::AverageMax, prefix),
            "token" => (Pooling::Class, false),
            "" => (Pooling::None, false),
            other => return Err(self.unsupported("global_pool", other)),
        };
        let (final_norm, fc_norm) = (truth("final_norm", true)?, fields.truth("fc_norm")?);
        let pool_heads = fields.count("attn_pool_num_heads")?.filter(|&own| own > 0 && own != heads);
        let pool_ratio = fields.number("attn_pool_mlp_ratio")?.filter(|&own| own != 0.0);
        let pool_mlp_width = pool_ratio.map(|own| (width as f64 * own) as usize).filter(|&own| own != mlp_width);
        let attends = pooling == Pooling::Attention;
        let pre_norm = truth("pre_norm", false)?;
        let proj_bias = truth("proj_bias", true)?;
        Ok(ModelConfig {
            image_size: self.image_of_grid(patch_size)?,
            patch_size,
            channels: fields.count("in_chans")?.unwrap_or(3),
            classes: fields.count("num_classes")?.unwrap_or(1000),
            width,
            depth: fields.count("depth")?.unwrap_or(12),
            heads,
            head_width: width / heads,
            mlp_width,
            mlp: MlpKind::Plain,
            patch_bias: !pre_norm,
            class_token: truth("class_token", false)?,
            registers: fields.count("reg_tokens")?.unwrap_or(0),
            positions: match fields.text("pos_embed")?.unwrap_or("learned") {
                "learned" => Positions::LearnedPatches,
                "" | "none" => Positions::None,
                other => return Err(self.unsupported("pos_embed", other)),
            },
            other_sizes: OtherSizes::Resample { kernel: self.interpolation()?, pad: truth("dynamic_img_pad", false)? },
            pre_norm,
            norm,
            norm_epsilon,
            qkv_bias: truth("qkv_bias", true)?,
            qk_norm: truth("qk_norm", false)?,
            projection_bias: proj_bias,
            mlp_bias: proj_bias,
            activation: self.activation()?,
            layer_scale: fields.number("init_values")?.map(|value| value as f32).filter(|&value| value != 0.0),
            final_norm: final_norm && fc_norm != Some(true),
            pooling,
            pool_prefix,
            pool_heads: pool_heads.filter(|_| attends),
            pool_mlp_width: pool_mlp_width.filter(|_| attends),
            pooled_norm: final_norm && fc_norm.unwrap_or(matches!(pooling, Pooling::Mean | Pooling::MeanAll)),
            drop: self.drop_rates()?,
            ..ModelConfig::default()
        })
    }

    /// The image size at which no positions are resampled: that of their grid.
    fn image_of_grid(&self, patch: Size) -> Result<Size, WeightsError> {
        const MOST: usize = 1 << 16;
        // An explicit null leaves the grid to the image size.
        let given = match self.fields.named("pos_embed_grid_size") {
            true => self.fields.size("pos_embed_grid_size")?,
            false => Some(Size::square(16)),
        };
        let grid = match given {
            Some(grid) => grid,
            None => {
                let image = self.fields.size("img_size")?;
                let image =
                    image.ok_or_else(|| self.fields.fault("img_size", "missing, and so is the positions' grid"))?;
                Size { height: image.height / patch.height.max(1), width: image.width / patch.width.max(1) }
            }
        };
        let sides = [grid.height, grid.width, patch.height, patch.width];
        if sides.iter().any(|side| !(1..=MOST).contains(side)) {
            let fault = format!("{grid} patches of {patch}: expected sides from 1 to {MOST}");
            return Err(self.fields.fault("pos_embed_grid_size", fault));
        }
        Ok(Size { height: grid.height * patch.height, width: grid.width * patch.width })
    }

    /// How positions are resampled, always with antialiasing.
    fn interpolation(&self) -> Result<PositionResample, WeightsError> {
        let square = self.fields.truth("pos_embed_ar_preserving")?.unwrap_or(false);
        match (self.fields.text("pos_embed_interp_mode")?.unwrap_or("bicubic"), square) {
            ("bicubic", false) => Ok(PositionResample::BicubicAntialias),
            ("bicubic", true) => Ok(PositionResample::BicubicAntialiasInSquare),
            ("bilinear", false) => Ok(PositionResample::LinearAntialias),
            (other, true) => Err(self.unsupported("pos_embed_interp_mode", &format!("{other} that keeps proportions"))),
            (other, false) => Err(self.unsupported("pos_embed_interp_mode", other)),
        }
    }

    /// Rejects arguments that are not read, unless they change nothing or have the one supported value.
    fn refuse_others_of_naflex(&self) -> Result<(), WeightsError> {
        let fields = &self.fields;
        for (key, expected) in SWITCHES {
            if fields.truth(key)?.unwrap_or(expected) != expected {
                return Err(self.unsupported(key, &(!expected).to_string()));
            }
        }
        for (key, known) in [
            ("embed_proj_type", "linear"),
            ("attn_type", "standard"),
            ("rope_type", "none"),
            ("attn_layer", "attn"),
            ("block_fn", "Block"),
            ("mlp_layer", "Mlp"),
            ("input_norm_layer", ""),
            ("embed_norm_layer", ""),
        ] {
            if let Some(other) = fields.text(key)?.filter(|found| !found.is_empty() && *found != known) {
                return Err(self.unsupported(key, other));
            }
        }
        // Read above, or of rotary positions, which there are none of.
        let switched = |key: &str| SWITCHES.iter().any(|(switch, _)| *switch == key);
        let checked = ["embed_proj_type", "attn_type", "attn_layer", "block_fn", "mlp_layer", "input_norm_layer"];
        let known = |key: &str| {
            READ.contains(&key)
                || READ_OF_HEADS.contains(&key)
                || OF_PACKING.contains(&key)
                || WITHOUT_EFFECT.contains(&key)
                || checked.contains(&key)
                || key == "embed_norm_layer"
                || key == "qkv_fused"
                || key.starts_with("rope_")
                || switched(key)
        };
        match fields.keys().find(|key| fields.has(key) && !known(key)) {
            Some(key) => Err(fields.fault(key, "this argument of timm's NaFlexVit is not supported")),
            None => Ok(()),
        }
    }
}
