//! The description that travels with the weights, in each library's own form.
//!
//! What a library cannot say is found by reading back: a description is written, read by the reader that everybody's files
//! go through, and compared field by field.

mod huggingface;
mod timm;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::invert::Tensor;
use super::{Difference, Outgoing, Target, preprocess};
use crate::config::{Activation, ModelConfig, NormKind, Pooling, Positions, Size};
use crate::weights::{Dialect, WeightsError};

/// How tensors are named beside the description.
pub(super) struct Naming {
    pub(super) dialect: Dialect,
    /// What stands before every name but those of heads.
    prefix: &'static str,
    /// Whether blocks are stacked, where the dialect knows both.
    pub(super) stacked: bool,
    /// Tensors that the library's class has and this model has no use for, by their whole names.
    pub(super) idle: BTreeMap<String, Tensor>,
}

/// Names that stand beside the base model.
const HEADS: [&str; 4] = ["classifier.", "cls_classifier.", "distillation_classifier.", "visual_projection."];

impl Naming {
    /// The names of a dialect as they are.
    fn plain(dialect: &str) -> Result<Self, WeightsError> {
        Ok(Naming { dialect: Dialect::named(dialect)?, prefix: "", stacked: false, idle: BTreeMap::new() })
    }

    /// The name as it is written.
    pub(super) fn full(&self, name: &str) -> String {
        let head = HEADS.iter().any(|head| name.starts_with(head));
        if head { name.to_owned() } else { format!("{}{name}", self.prefix) }
    }
}

/// Writes the description into the folder.
pub(super) fn describe(model: &Outgoing<'_>, target: Target, folder: &Path) -> Result<Naming, WeightsError> {
    let config = model.vit.config();
    let plain = Naming::plain;
    match target {
        Target::HuggingFace => huggingface::describe(model, folder),
        Target::Timm => timm::describe(model, folder),
        Target::Jax if !config.embeds_patches() => Ok(Naming { prefix: "resnet/", ..plain("bit")? }),
        Target::Jax => {
            let big_vision = !config.class_token
                || config.pooling == Pooling::Attention
                || !matches!(config.positions, Positions::LearnedAll);
            plain(if big_vision { "big-vision" } else { "jax" })
        }
        Target::BigVision => Ok(Naming { stacked: true, ..plain("big-vision")? }),
        Target::Torchvision => {
            let pooled = torchvision(config);
            let value = json!({ "name": model.name, "dialect": "torchvision", "model": pooled });
            write(folder, "config.json", &with_rest(value, model))?;
            plain("torchvision")
        }
        Target::Bundle => {
            let value = json!({ "format": 1, "name": model.name, "model": config });
            write(folder, "vitral.json", &with_rest(value, model))?;
            plain("vitral")
        }
    }
}

/// Adds preprocessing, labels and licence in our own form.
fn with_rest(mut value: Value, model: &Outgoing<'_>) -> Value {
    if let Some(preprocess) = &model.preprocess {
        value["preprocess"] = json!(preprocess);
    }
    if let Some(labels) = model.labels {
        value["labels"] = json!(labels);
    }
    if let Some(licence) = model.licence {
        value["licence"] = json!(licence);
    }
    value
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<(), WeightsError> {
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(value).map_err(|error| WeightsError::description(&path, error))?;
    std::fs::write(&path, text + "\n").map_err(|source| WeightsError::io(&path, source))
}

/// Fields that say how a library treats a model, not what the model is.
const BEHAVIOUR: [&str; 3] = ["other_sizes", "relative_resample", "drop"];

/// Fields that two configurations have otherwise.
pub(super) fn differences(ours: &ModelConfig, theirs: &ModelConfig) -> Vec<Difference> {
    // Through text, which writes 32-bit numbers as short as they are.
    let fields =
        |config| serde_json::to_string(config).and_then(|text| serde_json::from_str::<Map<String, Value>>(&text));
    let (Ok(ours), Ok(theirs)) = (fields(ours), fields(theirs)) else { return Vec::new() };
    let differs = |(field, value): (&String, &Value)| {
        let other = theirs.get(field).unwrap_or(&Value::Null);
        // LayerScale's number only says how training began.
        let same = value == other || (field == "layer_scale" && value.is_null() == other.is_null());
        let behaviour = BEHAVIOUR.contains(&field.as_str());
        (!same && !behaviour).then(|| Difference {
            field: field.clone(),
            ours: value.to_string(),
            theirs: other.to_string(),
        })
    };
    ours.iter().filter_map(differs).collect()
}

/// A size as these libraries write it.
fn side(size: Size) -> Value {
    if size.height == size.width { json!(size.height) } else { json!([size.height, size.width]) }
}

/// A 32-bit number as short as a person writes it.
fn number(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

/// The MLP's width as a ratio, such that the library's product, rounded down, gives the width again.
fn ratio(width: usize, hidden: usize, gated: bool) -> Value {
    // DINOv2 takes two thirds of a gated MLP's width and rounds up to eight.
    let hidden = if gated { hidden * 3 / 2 } else { hidden };
    let mut ratio = hidden as f64 / width as f64;
    if ((width as f64 * ratio) as usize) < hidden {
        ratio = ratio.next_up();
    }
    if ratio.fract() == 0.0 { json!(ratio as u64) } else { json!(ratio) }
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::QuickGelu => "quick_gelu",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
        Activation::Tanh => "tanh",
    }
}

/// What torchvision's constructor makes of the arguments it has.
fn torchvision(config: &ModelConfig) -> ModelConfig {
    ModelConfig {
        image_size: Size::square(config.image_size.height),
        patch_size: Size::square(config.patch_size.height),
        classes: config.classes,
        width: config.width,
        depth: config.depth,
        heads: config.heads,
        head_width: config.width / config.heads.max(1),
        mlp_width: config.mlp_width,
        norm: NormKind::Layer,
        norm_epsilon: 1e-6,
        activation: Activation::Gelu,
        pre_logits: config.pre_logits,
        ..ModelConfig::default()
    }
}
