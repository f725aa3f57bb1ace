//! timm's `config.json`: a timm architecture and the arguments that differ from its own.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::words::{activation, number, ratio, side, write};
use crate::config::{
    Activation, Axis, BlockKind, MlpKind, ModelConfig, OtherSizes, Pooling, PositionResample, Positions,
    RelativePositions, ResNetV2, Rotary, Stem,
};
use crate::image::Preprocess;
use crate::weights::WeightsError;
use crate::weights::description::{timm_config, timm_names};
use crate::weights::dialect::Source;
use crate::weights::export::compare::differences;
use crate::weights::export::naming::Naming;
use crate::weights::export::{ExportSource, preprocess};

/// Writes the description into the folder.
pub(super) fn describe(model: &ExportSource<'_>, folder: &Path) -> Result<Naming, WeightsError> {
    let config = model.vit.config();
    if let Stem::ResNet(resnet) = &config.stem {
        write(folder, "config.json", &of_resnet(model, resnet))?;
        return Naming::plain("timm-resnet");
    }
    if let OtherSizes::Resample {
        kernel: PositionResample::LinearAntialias | PositionResample::BicubicAntialiasInSquare,
        pad,
    } = config.other_sizes
        && config.rotary.is_none()
    {
        write(folder, "config.json", &of_naflex(model, pad))?;
        return Naming::plain("timm-naflex");
    }
    // timm's plain Vision Transformer has neither; its keys have a bias whenever queries do.
    let beit = config.relative_positions != RelativePositions::None
        || config.rotary.is_some()
        || (config.qkv_bias && !config.key_bias);
    let (dialect, (value, split_gate)) = match config.rotary {
        Some(Rotary::Axial { .. } | Rotary::Mixed { .. }) => ("timm-eva", of_beit(model)),
        _ if beit => ("timm-beit", of_beit(model)),
        _ => ("timm", of_vision_transformer(model)?),
    };
    write(folder, "config.json", &value)?;
    let mut naming = Naming::plain(dialect)?;
    if split_gate {
        let part = |part| Source::Name(format!("blocks.{{i}}.mlp.fc1_{part}.{{p}}"));
        let up = ("blocks.{i}.mlp.up.{p}".to_owned(), Source::Joined(vec![part("g"), part("x")]));
        naming.dialect = naming.dialect.with_names(&[up]);
    }
    Ok(naming)
}

/// timm's `config.json`: the architecture that, with our arguments added, gives this model; and whether it stores the
/// two halves of a gated MLP separately.
fn of_vision_transformer(model: &ExportSource<'_>) -> Result<(Value, bool), WeightsError> {
    let config = model.vit.config();
    if matches!(config.stem, Stem::Hybrid(_) | Stem::ResNetD(_)) {
        let (image, patch, stride) = (config.image_size, config.patch_size, config.token_stride());
        let divides = |image: usize, patch: usize, stride: usize| image.div_ceil(stride / patch).is_multiple_of(patch);
        if !(divides(image.height, patch.height, stride.height) && divides(image.width, patch.width, stride.width)) {
            let found = format!("timm builds no hybrid for images of {image}, which patches of {stride} do not divide");
            return Err(WeightsError::description(Path::new("config.json"), found));
        }
    }
    let preferred = if config.distillation_token {
        ["deit_base_distilled_patch16_224", "vit_base_patch16_224"]
    } else {
        ["vit_base_patch16_224", "vit_base_patch16_clip_224"]
    };
    let gated = config.mlp == MlpKind::Gated;
    let mut nearest: Option<(usize, (Value, bool))> = None;
    for name in preferred.into_iter().chain(timm_names()) {
        for packed in [gated, false] {
            let value = with_architecture(model, name, packed);
            let Ok(read) = timm_config(&value) else { continue };
            let count = differences(config, &read).len();
            if nearest.as_ref().is_none_or(|(fewest, _)| count < *fewest) {
                nearest = Some((count, (value, gated && !packed)));
            }
            if count == 0 {
                break;
            }
        }
        if nearest.as_ref().is_some_and(|(count, _)| *count == 0) {
            break;
        }
    }
    nearest
        .map(|(_, value)| value)
        .ok_or_else(|| WeightsError::description(Path::new("config.json"), "no such model in timm"))
}

fn with_architecture(model: &ExportSource<'_>, architecture: &str, packed_gate: bool) -> Value {
    let config = model.vit.config();
    let hidden = if packed_gate { 2 * config.mlp_width } else { config.mlp_width };
    let mut arguments = Map::new();
    let mut put = |key: &str, value: Value| arguments.insert(key.into(), value);
    put("img_size", side(config.image_size));
    put("patch_size", side(config.patch_size));
    put("in_chans", json!(config.channels));
    put("num_classes", json!(config.classes));
    put("embed_dim", json!(config.width));
    put("depth", json!(config.depth));
    put("num_heads", json!(config.heads));
    put("mlp_ratio", ratio(config.width, hidden, false));
    put("qkv_bias", json!(config.qkv_bias));
    put("proj_bias", json!(config.projection_bias));
    put("qk_norm", json!(config.qk_norm));
    if !config.distillation_token {
        put("class_token", json!(config.class_token));
    }
    put("reg_tokens", json!(config.registers));
    put("no_embed_class", json!(config.positions == Positions::LearnedPatches));
    put("pos_embed", json!(if config.positions == Positions::None { "none" } else { "learn" }));
    put("pre_norm", json!(config.pre_norm));
    // An architecture's own value can only be replaced by a number; all blocks but one treat 0 as absent.
    match config.layer_scale {
        Some(value) => drop(put("init_values", number(value))),
        None if config.block == BlockKind::ParallelScaling => {}
        None => drop(put("init_values", json!(0.0))),
    }
    put("scale_attn_norm", json!(config.attention_norm));
    put("scale_mlp_norm", json!(config.mlp_norm));
    let (pool, prefix) = pool(config);
    put("global_pool", json!(pool));
    put("pool_include_prefix", json!(prefix));
    // timm has one resampling kernel; a model that uses another takes only its own size.
    if let OtherSizes::Resample { kernel: PositionResample::BicubicAntialias, pad } = config.other_sizes {
        put("dynamic_img_size", json!(true));
        put("dynamic_img_pad", json!(pad));
    }
    put("final_norm", json!(config.final_norm || config.pooled_norm));
    // With only the class token, norm and pooling commute.
    let after = config.pooled_norm && config.pooling != Pooling::Class;
    put("fc_norm", json!(after || (config.pooled_norm && !config.final_norm)));
    if config.activation != Activation::Gelu && config.mlp != MlpKind::Gated {
        let name = match config.activation {
            Activation::GeluTanh => "gelu_tanh",
            other => activation(other),
        };
        put("act_layer", json!(name));
    }
    let size = model.preprocess.as_ref().and_then(Preprocess::output_size).unwrap_or(config.image_size);
    let mut pretrained = Map::from_iter([
        ("input_size".to_owned(), json!([config.channels, size.height, size.width])),
        ("fixed_input_size".to_owned(), json!(true)),
        ("classifier".to_owned(), json!("head")),
    ]);
    if let Stem::Patches = config.stem {
        pretrained.insert("first_conv".into(), json!("patch_embed.proj"));
    }
    folder(model, architecture, pool, Value::Object(arguments), pretrained)
}

/// `global_pool` and `pool_include_prefix`.
fn pool(config: &ModelConfig) -> (&'static str, bool) {
    match config.pooling {
        Pooling::Class => ("token", false),
        Pooling::Mean => ("avg", false),
        Pooling::MeanAll => ("avg", true),
        Pooling::Max => ("max", config.pool_prefix),
        Pooling::AverageMax => ("avgmax", config.pool_prefix),
        Pooling::Attention => ("map", config.pool_prefix),
        // timm has no such pooling; reading back reports that.
        Pooling::ClassAndMean | Pooling::None => ("", false),
    }
}

/// `config.json` of a `NaFlexVit`, for positions that are resampled in its ways; what it cannot express is found by reading
/// it back.
fn of_naflex(model: &ExportSource<'_>, pad: bool) -> Value {
    let config = model.vit.config();
    let (pool, prefix) = pool(config);
    let square =
        matches!(config.other_sizes, OtherSizes::Resample { kernel: PositionResample::BicubicAntialiasInSquare, .. });
    let grid = config.grid();
    let mut arguments = json!({
        "patch_size": side(config.patch_size),
        "in_chans": config.channels,
        "num_classes": config.classes,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": ratio(config.width, config.mlp_width, false),
        "qkv_bias": config.qkv_bias,
        "qk_norm": config.qk_norm,
        "proj_bias": config.projection_bias,
        "class_token": config.class_token,
        "reg_tokens": config.registers,
        "pos_embed": if config.positions == Positions::None { "none" } else { "learned" },
        "pos_embed_grid_size": [grid.height, grid.width],
        "pos_embed_interp_mode": if square { "bicubic" } else { "bilinear" },
        "pos_embed_ar_preserving": square,
        "dynamic_img_pad": pad,
        "pre_norm": config.pre_norm,
        "final_norm": config.final_norm || config.pooled_norm,
        "fc_norm": config.pooled_norm,
        "global_pool": pool,
        "pool_include_prefix": prefix,
    });
    if config.pooling == Pooling::Attention {
        arguments["attn_pool_num_heads"] = json!(config.heads_of_pool());
        arguments["attn_pool_mlp_ratio"] = ratio(config.width, config.mlp_width_of_pool(), false);
    }
    let name = if config.activation == Activation::GeluTanh { "gelu_tanh" } else { activation(config.activation) };
    arguments["act_layer"] = json!(name);
    // What an architecture has cannot be taken away.
    let architecture = match config.layer_scale {
        Some(scale) => {
            arguments["init_values"] = number(scale);
            "naflexvit_base_patch16_map"
        }
        None => "naflexvit_base_patch16_siglip",
    };
    let size = model.preprocess.as_ref().and_then(Preprocess::output_size).unwrap_or(config.image_size);
    let pretrained = Map::from_iter([
        ("input_size".to_owned(), json!([config.channels, size.height, size.width])),
        ("first_conv".to_owned(), json!("embeds.proj")),
        ("classifier".to_owned(), json!("head")),
    ]);
    folder(model, architecture, pool, arguments, pretrained)
}

/// A complete `config.json`.
fn folder(
    model: &ExportSource<'_>,
    architecture: &str,
    pool: &str,
    arguments: Value,
    mut pretrained: Map<String, Value>,
) -> Value {
    let config = model.vit.config();
    pretrained.extend(model.preprocess.as_ref().and_then(preprocess::timm).unwrap_or_default());
    pretrained.insert("num_classes".into(), json!(config.classes));
    if let Some(license) = model.license {
        pretrained.insert("license".into(), json!(license));
    }
    let mut value = json!({
        "architecture": architecture,
        "num_classes": config.classes,
        "num_features": config.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    });
    if let Some(labels) = model.labels {
        value["label_names"] = json!(labels);
    }
    value
}

/// `config.json` of a `Beit`, or of an `Eva` if only that can express the model; and whether the halves of a gated MLP
/// are separate.
fn of_beit(model: &ExportSource<'_>) -> (Value, bool) {
    let config = model.vit.config();
    let dynamic = match config.other_sizes {
        // The resampling kernel does not matter if nothing is resampled.
        OtherSizes::Resample { kernel, pad }
            if kernel == PositionResample::BicubicAntialias || config.learned_positions().is_none() =>
        {
            Some(pad)
        }
        _ => None,
    };
    let gated = config.mlp == MlpKind::Gated;
    let pool = match config.pooling {
        Pooling::Mean => "avg",
        Pooling::Class => "token",
        Pooling::Max => "max",
        Pooling::AverageMax => "avgmax",
        Pooling::Attention => "map",
        // timm has no other; reading back reports that.
        _ => "",
    };
    let mut arguments = json!({
        "img_size": side(config.image_size),
        "patch_size": side(config.patch_size),
        "in_chans": config.channels,
        "num_classes": config.classes,
        "global_pool": pool,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": ratio(config.width, config.mlp_width, false),
        "qkv_bias": config.qkv_bias,
        "swiglu_mlp": gated,
        "scale_mlp": config.mlp_norm,
        "use_abs_pos_emb": matches!(config.positions, Positions::LearnedAll | Positions::LearnedPatches),
        "use_fc_norm": config.pooled_norm,
    });
    let scale = config.layer_scale.map(number);
    let whole_bias = config.qkv_bias && config.key_bias;
    let post_norm = config.block == BlockKind::ResidualPostNorm;
    let eva = config.relative_positions == RelativePositions::None
        && (config.rotary.is_some()
            || config.pre_norm
            || post_norm
            || whole_bias
            || !config.class_token
            || !matches!(config.pooling, Pooling::Mean | Pooling::Class | Pooling::None)
            || dynamic.is_some()
            || config.registers > 0
            || config.attention_norm
            || config.positions == Positions::LearnedPatches);
    let mut put = |key: &str, value: Value| arguments[key] = value;
    let mut split = gated;
    let architecture = if eva {
        put("num_reg_tokens", json!(config.registers));
        put("no_embed_class", json!(config.positions == Positions::LearnedPatches));
        put("dynamic_img_size", json!(dynamic.is_some()));
        put("dynamic_img_pad", json!(dynamic == Some(true)));
        put("scale_attn_inner", json!(config.attention_norm));
        put("use_post_transformer_norm", json!(config.final_norm));
        if let Some(scale) = scale {
            put("init_values", scale);
        }
        put("class_token", json!(config.class_token));
        put("attn_type", json!(if whole_bias { "rope" } else { "eva" }));
        put("use_pre_transformer_norm", json!(config.pre_norm));
        put("use_post_norm", json!(post_norm));
        if config.pooling == Pooling::Attention {
            put("attn_pool_num_heads", json!(config.heads_of_pool()));
            put("attn_pool_mlp_ratio", ratio(config.width, config.mlp_width_of_pool(), false));
        }
        rotary(config.rotary, &mut put);
        // The halves are separate if the width is aligned to this, or if there is a norm; otherwise they are packed.
        let align = if config.mlp_width.is_multiple_of(8) { 8 } else { 0 };
        split = gated && (config.mlp_norm || (align > 0 && !post_norm));
        put("swiglu_align_to", json!(align));
        // The norm's epsilon is given by the architecture, and what an architecture has cannot be taken away.
        match (config.norm_epsilon == 1e-5, config.layer_scale) {
            (true, Some(_)) => "vit_small_patch16_dinov3",
            (true, None) => "vit_pe_spatial_base_patch16_512",
            (false, _) => "eva_giant_patch14_224",
        }
    } else {
        put("init_values", scale.unwrap_or(json!(0.0)));
        put("use_rel_pos_bias", json!(config.relative_positions.in_blocks()));
        put("use_shared_rel_pos_bias", json!(config.relative_positions.shared()));
        "beit_base_patch16_224"
    };
    let size = model.preprocess.as_ref().and_then(Preprocess::output_size).unwrap_or(config.image_size);
    let pretrained = Map::from_iter([
        ("input_size".to_owned(), json!([config.channels, size.height, size.width])),
        ("fixed_input_size".to_owned(), json!(true)),
        ("first_conv".to_owned(), json!("patch_embed.proj")),
        ("classifier".to_owned(), json!("head")),
    ]);
    (folder(model, architecture, pool, arguments, pretrained), split)
}

/// An `Eva`'s arguments for rotary positions.
fn rotary(rotary: Option<Rotary>, put: &mut impl FnMut(&str, Value)) {
    put("use_rot_pos_emb", json!(rotary.is_some()));
    let Some(rotary) = rotary else { return };
    let (kind, first) = match rotary {
        Rotary::Normalized { .. } => ("dinov3", Axis::Rows),
        Rotary::Axial { first, .. } => ("cat", first),
        Rotary::Mixed { first, .. } => ("mixed", first),
    };
    put("rope_type", json!(kind));
    put("rope_temperature", number(rotary.theta()));
    put("rope_rotate_half", json!(kind == "dinov3"));
    put("rope_grid_indexing", json!(if first == Axis::Rows { "ij" } else { "xy" }));
    if let Rotary::Axial { offset, reference, .. } = rotary {
        put("rope_grid_offset", number(offset));
        if let Some(reference) = reference {
            put("ref_feat_shape", side(reference));
        }
    }
}

/// timm's `config.json` of a BiT ResNet; what timm cannot express is found by reading it back.
fn of_resnet(model: &ExportSource<'_>, resnet: &ResNetV2) -> Value {
    let config = model.vit.config();
    let known =
        [("50", &[3, 4, 6, 3][..], &[1, 3][..]), ("101", &[3, 4, 23, 3], &[1, 3]), ("152", &[3, 8, 36, 3], &[2, 4])];
    // The architecture sets the number of blocks per stage; fewer stages and other widths can be given as arguments.
    let (depth, layers, factors) =
        known.into_iter().find(|(_, layers, _)| layers.starts_with(&resnet.layers)).unwrap_or(known[0]);
    let whole = layers == resnet.layers;
    let own = factors.iter().find(|&&factor| factor as f32 == resnet.width_factor && whole);
    let architecture = format!("resnetv2_{depth}x{}_bit", own.unwrap_or(&factors[0]));
    let pool = match config.pooling {
        Pooling::Max => "max",
        Pooling::AverageMax => "avgmax",
        _ => "avg",
    };
    let mut arguments = json!({
        "in_chans": config.channels,
        "num_classes": config.classes,
        "global_pool": pool,
    });
    let size = config.image_size;
    let pretrained = Map::from_iter([
        ("input_size".to_owned(), json!([config.channels, size.height, size.width])),
        ("first_conv".to_owned(), json!("stem.conv")),
        ("classifier".to_owned(), json!("head.fc")),
    ]);
    if own.is_none() {
        let factor = factors[0];
        let channels: Vec<usize> =
            (0..resnet.layers.len()).map(|stage| resnet.stage_channels(stage) / factor).collect();
        arguments["stem_chs"] = json!(resnet.root_channels() / factor);
        arguments["channels"] = json!(channels);
    }
    folder(model, &architecture, pool, arguments, pretrained)
}
