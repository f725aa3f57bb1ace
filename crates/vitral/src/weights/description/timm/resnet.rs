//! timm's `ResNetV2` in the form of BiT: arguments of its constructor.

use serde_json::Value;

use super::super::fields::Fields;
use crate::config::{Border, DropRates, ModelConfig, Pooling, ResNetV2, Root, Size};
use crate::weights::WeightsError;

/// Arguments that we read or that change nothing in a forward pass.
const KNOWN: [&str; 30] = [
    "class",
    "layers",
    "channels",
    "num_classes",
    "in_chans",
    "global_pool",
    "output_stride",
    "width_factor",
    "stem_chs",
    "stem_type",
    "avg_down",
    "preact",
    "basic",
    "bottle_ratio",
    "act_layer",
    "norm_layer",
    "conv_layer",
    "drop_rate",
    "drop_path_rate",
    "zero_init_last",
    "img_size",
    "device",
    "dtype",
    "features_only",
    "out_indices",
    "pretrained",
    "weight_init",
    "fix_init",
    "strict_img_size",
    "drop_block_rate",
];

/// The configuration given by the arguments.
pub(super) fn config(fields: &Fields<'_>) -> Result<ModelConfig, WeightsError> {
    if let Some(key) = fields.keys().filter(|key| fields.has(key)).find(|key| !KNOWN.contains(key)) {
        return Err(fields.fault(key, "this argument of timm's ResNetV2 is not supported"));
    }
    for (key, expected) in [("avg_down", false), ("preact", true), ("basic", false)] {
        if fields.truth(key)?.unwrap_or(expected) != expected {
            return Err(fields.fault(key, format!("expected {expected}: only BiT's ResNets are supported")));
        }
    }
    for (key, expected) in [("output_stride", 32.0), ("bottle_ratio", 0.25)] {
        if fields.number(key)?.unwrap_or(expected) != expected {
            return Err(fields.fault(key, format!("expected {expected}: other values are not supported")));
        }
    }
    if !matches!(fields.text("act_layer")?, None | Some("relu" | "ReLU")) {
        return Err(fields.fault("act_layer", "expected relu: other activations are not supported"));
    }
    let (convolution, standardization_epsilon) = layer(fields, "conv_layer", "eps", 1e-6)?;
    let padding = match (fields.text("stem_type")?.unwrap_or_default(), convolution.as_deref()) {
        ("fixed", None | Some("StdConv2d")) => Border::Fixed,
        ("", None | Some("StdConv2d")) => Border::Symmetric,
        ("same", Some("StdConv2dSame")) => Border::Same,
        (stem, convolution) => {
            let convolution = convolution.unwrap_or("StdConv2d");
            return Err(fields.fault("stem_type", format!("`{stem}` with `{convolution}` is not supported")));
        }
    };
    let (norm, norm_epsilon) = layer(fields, "norm_layer", "eps", 1e-5)?;
    let (_, groups) = layer(fields, "norm_layer", "num_groups", 32.0)?;
    if !matches!(norm.as_deref(), None | Some("GroupNormAct" | "groupnorm" | "groupnormact")) {
        return Err(fields.fault("norm_layer", "expected a group norm: other norms are not supported"));
    }
    let pooling = match fields.text("global_pool")?.unwrap_or("avg") {
        "avg" => Pooling::Mean,
        "max" => Pooling::Max,
        "avgmax" => Pooling::AverageMax,
        other => return Err(fields.fault("global_pool", format!("`{other}` is not supported"))),
    };
    let (layers, base) = stages(fields)?;
    let resnet = ResNetV2 {
        layers,
        width_factor: (fields.number("width_factor")?.unwrap_or(1.0) * base as f64 / 64.0) as f32,
        root: Root::Large,
        padding,
        groups: groups as usize,
        standardization_epsilon: standardization_epsilon as f32,
        norm_epsilon: norm_epsilon as f32,
    };
    let rate = |key: &str| Ok::<_, WeightsError>(fields.number(key)?.unwrap_or(0.0) as f32);
    Ok(ModelConfig {
        image_size: fields.size("img_size")?.unwrap_or(Size::square(224)),
        channels: fields.count("in_chans")?.unwrap_or(3),
        pooling,
        drop: DropRates { head: rate("drop_rate")?, path: rate("drop_path_rate")?, ..DropRates::default() },
        ..resnet.classifier(fields.count("num_classes")?.unwrap_or(1000))
    })
}

/// A layer's name, if given, and one of its numeric arguments.
fn layer(fields: &Fields<'_>, key: &str, number: &str, default: f64) -> Result<(Option<String>, f64), WeightsError> {
    match fields.value(key) {
        None => Ok((None, default)),
        Some(Value::String(name)) => Ok((Some(name.clone()), default)),
        Some(_) => {
            let layer = fields.object(key)?;
            let name = layer.as_ref().map(|layer| layer.text("name")).transpose()?.flatten().map(str::to_owned);
            let number = layer.as_ref().map(|layer| layer.number(number)).transpose()?.flatten();
            Ok((name, number.unwrap_or(default)))
        }
    }
}

/// Blocks of each stage, and channels of the root, which must determine those of the stages.
fn stages(fields: &Fields<'_>) -> Result<(Vec<usize>, usize), WeightsError> {
    let counts = |key: &str| match fields.value(key) {
        None => Ok::<_, WeightsError>(None),
        Some(value) => {
            let counts = value.as_array().map(|all| all.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
            let counts = counts.flatten().ok_or_else(|| fields.fault(key, "expected a list of whole numbers"))?;
            Ok(Some(counts.into_iter().map(|count| count as usize).collect::<Vec<_>>()))
        }
    };
    let mut layers = counts("layers")?.ok_or_else(|| fields.fault("layers", "missing"))?;
    let root = fields.count("stem_chs")?.unwrap_or(64);
    let channels = counts("channels")?.unwrap_or_else(|| vec![256, 512, 1024, 2048]);
    // timm uses as many stages as both lists have.
    layers.truncate(channels.len());
    let follows = |(stage, &channels): (usize, &usize)| {
        4usize.checked_shl(stage as u32).and_then(|factor| root.checked_mul(factor)) == Some(channels)
    };
    if !channels.iter().take(layers.len()).enumerate().all(follows) {
        let fault = format!(
            "{channels:?} with a root of {root}: expected four times the root, then twice as many in each stage"
        );
        return Err(fields.fault("channels", fault));
    }
    Ok((layers, root))
}
