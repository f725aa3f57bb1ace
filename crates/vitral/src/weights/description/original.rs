//! The original files of DeiT, DINO, DINOv2 and MAE published by Meta: only tensors, with the names that timm adopted.
//!
//! What shapes do not show is the same in all of these code bases: the number of heads for a width, the exact GELU, layer
//! norms with an epsilon of 1e-6. The file does not say how images are preprocessed, and we do not guess.

use std::path::{Path, PathBuf};

use super::contents::{Description, PreprocessSource};
use super::imagenet::LabelSet;
use crate::config::{Activation, MlpKind, ModelConfig, OtherSizes, Pooling, PositionResample, Positions, Size};
use crate::weights::{Container, WeightsError};

/// Widths of these models with their numbers of heads: Ti, S, B, L, H, g of DINOv2, and timm's g and G. Shapes do not
/// show it, and a wrong number would go unnoticed, so other widths are not read without a configuration.
const HEADS: [(usize, usize); 8] =
    [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (1536, 24), (1408, 16), (1664, 16)];

/// A name in OpenAI's CLIP, whose files do not say which GELU they were trained with.
const CLIP: &str = "visual.transformer.resblocks.0.ln_1.weight";

/// Describes a checkpoint by its tensors; `None` if their names do not match.
pub(super) fn file(path: &Path, stem: String, container: &Container) -> Result<Option<Description>, WeightsError> {
    if container.contains(CLIP) {
        let fault = "a CLIP model, whose file does not say whether it was trained with OpenAI's quick GELU or the exact \
                     one; describe it with `--config FILE` (dialect `openai-clip`)";
        return Err(WeightsError::NoModel { path: path.to_owned(), fault: fault.into() });
    }
    // Whatever a project calls the module around the model; of two models in one file, none is meant.
    let mut prefixes = container.names().filter_map(|name| name.strip_suffix("cls_token")).filter(|prefix| {
        let has = |name: &str| container.contains(&format!("{prefix}{name}"));
        has("pos_embed") && has("patch_embed.proj.weight") && has("blocks.0.attn.qkv.weight")
    });
    let Some(prefix) = prefixes.next().filter(|_| prefixes.next().is_none()) else { return Ok(None) };
    let shape = |name: &str| container.shape(&format!("{prefix}{name}"));
    let has = |name: &str| shape(name).is_some();
    let unknown = |fault: String| WeightsError::NoModel { path: path.to_owned(), fault };
    let &[width, channels, patch_height, patch_width] = shape("patch_embed.proj.weight").unwrap_or_default() else {
        return Ok(None);
    };
    let Some((_, heads)) = HEADS.into_iter().find(|(known, _)| *known == width) else {
        let known: Vec<String> = HEADS.iter().map(|(width, _)| width.to_string()).collect();
        return Err(unknown(format!(
            "expected a known width ({}), found {width}, for which the number of heads is not known; describe the model with \
             `--config FILE`",
            known.join(", ")
        )));
    };
    let gated = has("blocks.0.mlp.w12.weight");
    let up = if gated { "blocks.0.mlp.w12.weight" } else { "blocks.0.mlp.fc1.weight" };
    let hidden = shape(up).and_then(<[usize]>::first).copied().unwrap_or(0);
    let rows = |name: &str| shape(name).and_then(|shape| shape.iter().rev().nth(1)).copied().unwrap_or(0);
    let (registers, distilled, mean) = (rows("register_tokens"), has("dist_token"), has("fc_norm.weight"));
    let patches = rows("pos_embed").saturating_sub(1 + usize::from(distilled));
    let side = patches.isqrt();
    if side == 0 || side * side != patches {
        return Err(unknown(format!(
            "{patches} positions do not form a square grid; describe the model with `--config FILE`"
        )));
    }
    let config = ModelConfig {
        image_size: Size { height: side * patch_height, width: side * patch_width },
        patch_size: Size { height: patch_height, width: patch_width },
        channels,
        classes: shape("head.weight").filter(|shape| shape.len() == 2).map_or(0, |shape| shape[0]),
        width,
        depth: (0..).take_while(|i: &usize| has(&format!("blocks.{i}.norm1.weight"))).count(),
        heads,
        head_width: width / heads,
        mlp_width: if gated { hidden / 2 } else { hidden },
        mlp: if gated { MlpKind::Gated } else { MlpKind::Plain },
        activation: if gated { Activation::Silu } else { Activation::Gelu },
        qkv_bias: has("blocks.0.attn.qkv.bias"),
        layer_scale: has("blocks.0.ls1.gamma").then_some(1.0),
        distillation_token: distilled,
        distillation_head: distilled && has("head_dist.weight"),
        registers,
        positions: if registers > 0 { Positions::LearnedWithoutRegisters } else { Positions::LearnedAll },
        // DINO and DINOv2 resample with an offset; with registers they antialias instead. DeiT and MAE resample to a size: they
        // are known by their heads, and by widths that DINO does not have. MAE's B without a head looks like DINO's.
        other_sizes: OtherSizes::Resample {
            kernel: match registers > 0 {
                true => PositionResample::BicubicAntialias,
                false if has("blocks.0.ls1.gamma") => PositionResample::BicubicOffset,
                false if mean || distilled || has("head.weight") || width > 768 => PositionResample::Bicubic,
                false => PositionResample::BicubicOffset,
            },
            pad: false,
        },
        pooling: if mean { Pooling::Mean } else { Pooling::Class },
        final_norm: !mean,
        pooled_norm: mean,
        ..ModelConfig::default()
    };
    let labels = LabelSet::of_original(&stem, config.classes).map(LabelSet::names);
    Ok(Some(Description {
        name: stem,
        config,
        preprocess: PreprocessSource::Absent,
        labels,
        license: None,
        precision: None,
        dialect: Some("timm".into()),
        names: Vec::new(),
        files: vec![PathBuf::from(path)],
    }))
}
