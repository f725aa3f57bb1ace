//! How a library names tensors.

use std::collections::BTreeMap;

use super::tensor::Tensor;
use crate::weights::{Dialect, WeightsError};

/// How tensors are named beside the description.
pub(super) struct Naming {
    pub(super) dialect: Dialect,
    /// What stands before every name but those of heads.
    pub(super) prefix: &'static str,
    /// Whether blocks are stacked, where the dialect knows both.
    pub(super) stacked: bool,
    /// Tensors that the library's class has and this model has no use for, by their whole names.
    pub(super) idle: BTreeMap<String, Tensor>,
}

/// Names that stand beside the base model.
const HEADS: [&str; 4] = ["classifier.", "cls_classifier.", "distillation_classifier.", "visual_projection."];

impl Naming {
    /// The names of a dialect as they are.
    pub(super) fn plain(dialect: &str) -> Result<Self, WeightsError> {
        Ok(Naming { dialect: Dialect::named(dialect)?, prefix: "", stacked: false, idle: BTreeMap::new() })
    }

    /// The name as it is written.
    pub(super) fn full(&self, name: &str) -> String {
        let head = HEADS.iter().any(|head| name.starts_with(head));
        if head { name.to_owned() } else { format!("{}{name}", self.prefix) }
    }
}
