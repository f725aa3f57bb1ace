//! What there is to say about a model: architecture, parameters, cost, preprocessing, labels.

mod words;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{ModelConfig, Size};
use crate::error::Error;
use crate::load::Model;
use crate::model::Vit;
use crate::model::cost::Macs;
use crate::weights::{Container, load_description};

/// A description of a model. Serialized, it is what `vitral info --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Where the weights come from; absent for an architecture without weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Its license, if its files state one.
    pub license: Option<String>,
    /// The architecture in words: what, and which.
    pub architecture: Vec<(&'static str, String)>,
    /// The architecture.
    pub config: ModelConfig,
    /// Tokens of an image.
    pub tokens: usize,
    /// Parameters by part.
    pub parameters: ParameterCounts,
    /// Multiply-accumulates by part, for an image of the size of its positions.
    pub macs: Macs,
    /// All of them.
    pub macs_total: u64,
    /// Its preprocessing in words, or why it cannot be used.
    pub preprocess: Option<String>,
    /// The size of preprocessed images; `config.image_size` is that of the positions.
    pub preprocessed_size: Option<Size>,
    /// The names of its classes.
    pub labels: Option<Vec<String>>,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// Bytes of its weights in memory.
    pub memory_bytes: usize,
}

/// Where weights come from.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    /// The path or name that was given; none for the built-in model.
    pub path: Option<PathBuf>,
    /// Whose names the tensors have.
    pub dialect: String,
    /// The types of the stored tensors.
    pub stored_as: Vec<String>,
}

/// Numbers of parameters.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ParameterCounts {
    /// All.
    pub total: usize,
    /// Patch embedding, stem, tokens and positions.
    pub embedding: usize,
    /// Attention, with its LayerScale.
    pub attention: usize,
    /// MLPs, with their LayerScale.
    pub mlp: usize,
    /// Norms.
    pub norms: usize,
    /// Pooling and the classifier.
    pub head: usize,
}

/// Parameters of one name and shape.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// The name; `{i}` stands for the numbers of the blocks that have it.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// How many there are.
    pub count: usize,
}

impl Info {
    /// Describes an architecture without weights.
    ///
    /// # Errors
    /// If it does not take images of its own size.
    pub fn of_architecture(name: impl Into<String>, vit: &Vit) -> Result<Self, Error> {
        let config = vit.config().clone();
        let macs = vit.macs(config.image_size)?;
        let mut parameters = ParameterCounts::default();
        let mut layers: Vec<Layer> = Vec::new();
        for spec in vit.declarations().specs() {
            // Statistics are buffers, which nobody counts.
            let count = if vit.is_statistic(&spec.name) { 0 } else { spec.count() };
            parameters.total += count;
            *parameters.part(&spec.name) += count;
            let layer = Layer { name: without_number(&spec.name), shape: spec.shape.clone(), count: 1 };
            match layers.iter_mut().find(|known| known.name == layer.name && known.shape == layer.shape) {
                Some(known) => known.count += 1,
                None => layers.push(layer),
            }
        }
        Ok(Info {
            name: name.into(),
            origin: None,
            license: None,
            architecture: words::in_words(&config),
            tokens: config.tokens(),
            config,
            memory_bytes: 4 * parameters.total,
            parameters,
            macs,
            macs_total: macs.total(),
            preprocess: None,
            preprocessed_size: None,
            labels: None,
            layers,
        })
    }

    /// Describes a loaded model; `given` is the path or the name that it was asked for by (none for the built-in model),
    /// and `config` the file that describes it, if it had one of its own.
    ///
    /// # Errors
    /// If its files cannot be opened again.
    pub fn of_model(model: &Model, given: Option<&Path>, config: Option<&Path>) -> Result<Self, Error> {
        let stored_as = match given {
            // A name on the hub was located when the model was loaded.
            Some(_) => stored_types(&load_description(model.path(), config)?.open()?),
            #[cfg(feature = "embedded-model")]
            None => stored_types(&Model::embedded_weights()?),
            #[cfg(not(feature = "embedded-model"))]
            None => Vec::new(),
        };
        let dialect = model.dialect().to_owned();
        Ok(Info {
            origin: Some(Origin { path: given.map(Path::to_owned), dialect, stored_as }),
            license: model.license().map(str::to_owned),
            // Missing preprocessing does not prevent describing the model.
            preprocess: match model.preprocess() {
                Ok(steps) => Some(steps.to_string()),
                Err(Error::NoPreprocessing { .. }) => None,
                Err(fault) => Some(format!("cannot be used: {fault}")),
            },
            labels: model.labels().names().map(<[String]>::to_vec),
            memory_bytes: model.parameters().bytes(),
            preprocessed_size: model.preprocess().ok().and_then(|preprocess| preprocess.output_size()),
            ..Info::of_architecture(model.name(), model.vit())?
        })
    }
}

fn stored_types(container: &Container) -> Vec<String> {
    let mut types: Vec<String> =
        container.names().filter_map(|name| container.data_type(name)).map(|kind| format!("{kind:?}")).collect();
    types.sort();
    types.dedup();
    types
}

impl ParameterCounts {
    fn part(&mut self, name: &str) -> &mut usize {
        if name.contains("norm") {
            &mut self.norms
        } else if !name.starts_with("blocks.") {
            match name.split('.').next() {
                Some("patches" | "stem" | "tokens" | "positions" | "relative_positions") => &mut self.embedding,
                _ => &mut self.head,
            }
        } else if name.contains(".mlp.") || name.contains("scale2") {
            &mut self.mlp
        } else {
            &mut self.attention
        }
    }
}

/// `blocks.3.norm1.weight` as `blocks.{i}.norm1.weight`.
fn without_number(name: &str) -> String {
    match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("blocks.{{i}}.{rest}"),
        None => name.to_owned(),
    }
}
