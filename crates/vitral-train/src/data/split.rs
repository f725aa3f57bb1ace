//! Parts of a data set, and the names they go by.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What is trained on.
    Train,
    /// What choices are made on; the test set, where there is no other.
    Validation,
    /// What a result is told on; the validation set, where there is no other.
    Test,
}

impl Split {
    /// The split that a folder's or file's name stands for.
    pub fn of_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" | "dev" => Some(Split::Validation),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }

    /// The split that one of the folders of a path stands for.
    pub(super) fn of_path(path: &Path) -> Option<Self> {
        path.parent()?.iter().find_map(|part| Split::of_name(&part.to_string_lossy()))
    }

    /// This split, or what stands for it where there is none.
    pub(super) fn among(self, found: &BTreeSet<Split>) -> Option<Split> {
        let order: &[Split] = match self {
            Split::Train => &[Split::Train],
            Split::Validation => &[Split::Validation, Split::Test],
            Split::Test => &[Split::Test, Split::Validation],
        };
        order.iter().copied().find(|split| found.contains(split))
    }
}
