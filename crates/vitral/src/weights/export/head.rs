//! Classifiers that libraries read from different features: transformers' DINOv2 concatenates the class token and the mean
//! of the patches, all others take one of the two. A classifier of one is a classifier of both with zeros for the other, and
//! the other way around.

use std::borrow::Cow;

use vitral_engine::ParameterSpec;

use super::describe::reads_class_and_mean;
use super::source::ExportSource;
use super::target::Target;
use crate::config::{Head, ModelConfig, Pooling};
use crate::model::Vit;
use crate::weights::WeightsError;

/// The classifier's matrix.
const WEIGHT: &str = "head.weight";

/// A model whose classifier reads other features than the source's, with the same logits.
pub(super) struct Rewritten {
    vit: Vit,
    change: Change,
}

/// What happens to each row of the classifier. `first` is whether it belongs to the class token.
#[derive(Clone, Copy)]
enum Change {
    /// Zeros are added for the other feature.
    Widened { first: bool },
    /// Only one half is kept; the other is zero.
    Narrowed { first: bool },
}

/// The model as the target can express its classifier; `None` if it can as it is, or cannot at all.
pub(super) fn rewritten(model: &ExportSource<'_>, target: Target) -> Result<Option<Rewritten>, WeightsError> {
    let config = model.vit.config();
    if config.classes == 0 || config.head != Head::Linear || config.pre_logits.is_some() || config.pooled_norm {
        return Ok(None);
    }
    let both = match target {
        Target::HuggingFace => reads_class_and_mean(config),
        Target::Bundle => return Ok(None),
        Target::Timm | Target::Torchvision | Target::Jax | Target::BigVision => false,
    };
    let (pooling, change) = match (config.pooling, both) {
        (Pooling::Class, true) => (Pooling::ClassAndMean, Change::Widened { first: true }),
        (Pooling::Mean, true) => (Pooling::ClassAndMean, Change::Widened { first: false }),
        (Pooling::ClassAndMean, false) => match used_half(model)? {
            Some(true) => (Pooling::Class, Change::Narrowed { first: true }),
            Some(false) => (Pooling::Mean, Change::Narrowed { first: false }),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let config = ModelConfig { pooling, ..config.clone() };
    // A model that has both tokens and patches can be pooled either way.
    Ok(Vit::new(config).ok().map(|vit| Rewritten { vit, change }))
}

/// Which half of a classifier of both features is used, if the other is zero: the first belongs to the class token.
fn used_half(model: &ExportSource<'_>) -> Result<Option<bool>, WeightsError> {
    let declarations = model.vit.declarations();
    let Some(id) = declarations.find(WEIGHT) else { return Ok(None) };
    let values = (model.read)(declarations.spec(id))?;
    let width = model.vit.config().width;
    let zero = |half: usize| {
        values.chunks_exact(2 * width).all(|row| row[half * width..][..width].iter().all(|&value| value == 0.0))
    };
    Ok(match (zero(0), zero(1)) {
        (_, true) => Some(true),
        (true, false) => Some(false),
        (false, false) => None,
    })
}

impl Rewritten {
    /// The model to write in place of the source.
    pub(super) fn source<'a>(&'a self, model: &'a ExportSource<'_>) -> ExportSource<'a> {
        let width = model.vit.config().width;
        let read = move |spec: &ParameterSpec| -> Result<Cow<'a, [f32]>, WeightsError> {
            let declarations = model.vit.declarations();
            let own = declarations.find(&spec.name).map(|id| declarations.spec(id));
            let Some(own) = own.filter(|_| spec.name == WEIGHT) else { return (model.read)(spec) };
            let values = (model.read)(own)?;
            Ok(match self.change {
                Change::Widened { first } => {
                    let zeros = vec![0.0; width];
                    let rows = values.chunks_exact(width);
                    rows.flat_map(|row| if first { [row, &zeros].concat() } else { [&zeros, row].concat() }).collect()
                }
                Change::Narrowed { first } => {
                    let start = if first { 0 } else { width };
                    values.chunks_exact(2 * width).flat_map(|row| row[start..start + width].to_vec()).collect()
                }
            })
        };
        ExportSource {
            name: model.name,
            vit: &self.vit,
            preprocess: model.preprocess.clone(),
            labels: model.labels,
            license: model.license,
            storage: model.storage,
            read: Box::new(read),
        }
    }
}
