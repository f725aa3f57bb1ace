//! How a library names tensors.

use std::collections::BTreeMap;

use super::tensor::Tensor;
use crate::weights::{Dialect, WeightsError};

/// How tensors are named, in addition to the dialect.
pub(super) struct Naming {
    pub(super) dialect: Dialect,
    /// The prefix of every name except those of heads.
    pub(super) prefix: &'static str,
    /// Whether blocks are stacked, if the dialect has both forms.
    pub(super) stacked: bool,
    /// Tensors that the library's class has but this model does not use, by full name.
    pub(super) idle: BTreeMap<String, Tensor>,
}

/// Names outside the base model.
const HEADS: [&str; 4] = ["classifier.", "cls_classifier.", "distillation_classifier.", "visual_projection."];

impl Naming {
    /// The unmodified names of a dialect.
    pub(super) fn plain(dialect: &str) -> Result<Self, WeightsError> {
        Ok(Naming { dialect: Dialect::named(dialect)?, prefix: "", stacked: false, idle: BTreeMap::new() })
    }

    /// The name as written to the file.
    pub(super) fn full(&self, name: &str) -> String {
        let head = HEADS.iter().any(|head| name.starts_with(head));
        if head { name.to_owned() } else { format!("{}{name}", self.prefix) }
    }
}
