//! Models that a library says in another way, with the same outputs.
//!
//! Positions: DINOv2 with registers has one for its class token; timm adds it to the token itself, once and for all.
//!
//! Classifiers that libraries read from different features: transformers' DINOv2 concatenates the class token and the mean
//! of the patches, all others take one of the two. A classifier of one is a classifier of both with zeros for the other, and
//! the other way around.

use std::borrow::Cow;

use vitral_engine::ParameterSpec;

use super::describe::reads_class_and_mean;
use super::source::ExportSource;
use super::target::Target;
use crate::config::{Head, Pooling, Positions};
use crate::model::Vit;
use crate::weights::WeightsError;

/// The classifier's matrix.
const WEIGHT: &str = "head.weight";
/// The class token.
const CLASS: &str = "tokens.class";
/// The positions, the class token's first.
const POSITIONS: &str = "positions";

/// A model of another form than the source's, with the same outputs.
pub(super) struct Rewritten {
    vit: Vit,
    /// What happens to the classifier.
    head: Option<Change>,
    /// Whether the class token takes its position in.
    folded: bool,
}

/// What happens to each row of the classifier. `first` is whether it belongs to the class token.
#[derive(Clone, Copy)]
enum Change {
    /// Zeros are added for the other feature.
    Widened { first: bool },
    /// Only one half is kept; the other is zero.
    Narrowed { first: bool },
}

/// The model as the target can express it; `None` if it can as it is, or not in any way that is known here.
pub(super) fn rewritten(model: &ExportSource<'_>, target: Target) -> Result<Option<Rewritten>, WeightsError> {
    let mut config = model.vit.config().clone();
    let folded = target == Target::Timm
        && config.positions == Positions::LearnedWithoutRegisters
        && config.class_token
        && !config.distillation_token;
    if folded {
        config.positions = Positions::LearnedPatches;
    }
    let head = head(model, target)?;
    if let Some((pooling, _)) = head {
        config.pooling = pooling;
    }
    if !folded && head.is_none() {
        return Ok(None);
    }
    // A model that has both tokens and patches can be pooled either way.
    Ok(Vit::new(config).ok().map(|vit| Rewritten { vit, head: head.map(|(_, change)| change), folded }))
}

/// The features that the target's classifier reads instead, and what becomes of the classifier.
fn head(model: &ExportSource<'_>, target: Target) -> Result<Option<(Pooling, Change)>, WeightsError> {
    let config = model.vit.config();
    if config.classes == 0 || config.head != Head::Linear || config.pre_logits.is_some() || config.pooled_norm {
        return Ok(None);
    }
    let both = match target {
        Target::HuggingFace => reads_class_and_mean(config),
        Target::Bundle => return Ok(None),
        Target::Timm | Target::Torchvision | Target::Jax | Target::BigVision => false,
    };
    Ok(match (config.pooling, both) {
        (Pooling::Class, true) => Some((Pooling::ClassAndMean, Change::Widened { first: true })),
        (Pooling::Mean, true) => Some((Pooling::ClassAndMean, Change::Widened { first: false })),
        (Pooling::ClassAndMean, false) => used_half(model)?
            .map(|first| (if first { Pooling::Class } else { Pooling::Mean }, Change::Narrowed { first })),
        _ => None,
    })
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
            let Some(own) = declarations.find(&spec.name).map(|id| declarations.spec(id)) else {
                return (model.read)(spec);
            };
            let values = (model.read)(own)?;
            if self.folded && spec.name == POSITIONS {
                return Ok(values[width..].to_vec().into());
            }
            if self.folded && spec.name == CLASS {
                let positions = declarations.find(POSITIONS).map(|id| (model.read)(declarations.spec(id)));
                let positions = positions.transpose()?.unwrap_or_default();
                return Ok(values.iter().zip(positions.iter()).map(|(token, position)| token + position).collect());
            }
            let Some(change) = self.head.filter(|_| spec.name == WEIGHT) else { return Ok(values) };
            Ok(match change {
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
