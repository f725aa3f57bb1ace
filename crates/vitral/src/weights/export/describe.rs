//! The description that accompanies the weights, in each library's own format.
//!
//! We find what a library cannot express by reading back: a description is written, read by the regular reader, and
//! compared field by field.

mod huggingface;
mod timm;
mod words;

use std::path::Path;

use serde_json::{Value, json};
use vitral_engine::Precision;

use super::naming::Naming;
use super::source::ExportSource;
use super::target::Target;
use crate::config::{Activation, ModelConfig, NormKind, Pooling, Positions, Size};
use crate::weights::WeightsError;
use crate::weights::description::{FORMAT, INT8_FORMAT};
pub(super) use huggingface::reads_class_and_mean;
use words::write;

/// Writes the description into the folder.
pub(super) fn describe(model: &ExportSource<'_>, target: Target, folder: &Path) -> Result<Naming, WeightsError> {
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
            let value = json!({ "format": FORMAT, "name": model.name, "model": config });
            write(folder, "vitral.json", &with_rest(value, model))?;
            plain("vitral")
        }
    }
}

/// Writes the description of a bundle in 8 bits.
pub(super) fn int8_bundle(model: &ExportSource<'_>, folder: &Path) -> Result<(), WeightsError> {
    let precision = Precision::Int8.name();
    let value =
        json!({ "format": INT8_FORMAT, "name": model.name, "precision": precision, "model": model.vit.config() });
    write(folder, "vitral.json", &with_rest(value, model))
}

/// Adds preprocessing, labels and license in our own format.
fn with_rest(mut value: Value, model: &ExportSource<'_>) -> Value {
    if let Some(preprocess) = &model.preprocess {
        value["preprocess"] = json!(preprocess);
    }
    if let Some(labels) = model.labels {
        value["labels"] = json!(labels);
    }
    if let Some(license) = model.license {
        value["license"] = json!(license);
    }
    value
}

/// The model that torchvision's constructor builds from its arguments.
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
        problem: config.problem,
        ..ModelConfig::default()
    }
}
