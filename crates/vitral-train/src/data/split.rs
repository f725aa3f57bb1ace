//! Splits of a data set, and their names.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A split of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// For training.
    Train,
    /// For choosing hyperparameters and epochs; the test set if there is no validation set.
    Validation,
    /// For the reported result; the validation set if there is no test set.
    Test,
}

impl Split {
    /// The split that a folder or file name denotes.
    pub fn of_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" | "dev" => Some(Split::Validation),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }

    /// The split that a folder in a path denotes.
    pub(super) fn of_path(path: &Path) -> Option<Self> {
        path.parent()?.iter().find_map(|part| Split::of_name(&part.to_string_lossy()))
    }

    /// This split, or its replacement if it is missing.
    pub(super) fn among(self, found: &BTreeSet<Split>) -> Option<Split> {
        let order: &[Split] = match self {
            Split::Train => &[Split::Train],
            Split::Validation => &[Split::Validation, Split::Test],
            Split::Test => &[Split::Test, Split::Validation],
        };
        order.iter().copied().find(|split| found.contains(split))
    }
}
