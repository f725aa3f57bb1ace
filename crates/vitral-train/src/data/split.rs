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

/// Words that say nothing about which split a folder is, as in `training_set` or `seg_test`.
const BESIDE: [&str; 15] = [
    "labels", "label", "set", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "seg",
    "folder", "full", "x",
];

impl Split {
    /// The split that a folder or file name denotes: `train`, `Training`, `training_set`, `seg_test`, `valset`.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        // A year: `train2017`. After a mark, digits are the number of a shard.
        let trimmed = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let name = if trimmed.ends_with(|c: char| c.is_alphabetic()) { trimmed } else { &name };
        let name = name.strip_suffix("set").filter(|rest| !rest.is_empty()).unwrap_or(name);
        let mut words = name.split(['-', '_', ' ']).filter(|word| !word.is_empty() && !BESIDE.contains(word));
        let split = match words.next()? {
            "train" | "training" => Split::Train,
            "val" | "valid" | "validation" | "dev" | "eval" | "evaluation" => Split::Validation,
            "test" | "testing" => Split::Test,
            _ => return None,
        };
        words.next().is_none().then_some(split)
    }

    /// The usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Split::Train => "training",
            Split::Validation => "validation",
            Split::Test => "test",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_splits() {
        let (train, val, test) = (Some(Split::Train), Some(Split::Validation), Some(Split::Test));
        for (name, expected) in [
            ("train", train),
            ("Training", train),
            ("training_set", train),
            ("trainset", train),
            ("seg_train", train),
            ("train images", train),
            ("train2017", train),
            ("X_train", train),
            ("eval", val),
            ("train_labels", train),
            ("VAL", val),
            ("valid", val),
            ("dev_set", val),
            ("test-set", test),
            ("seg_test", test),
            ("set", None),
            ("bullet train", None),
            ("train_station", None),
            ("test_train", None),
            ("trainer", None),
            ("train-00001", None),
            ("", None),
        ] {
            assert_eq!(Split::of_name(name), expected, "{name}");
        }
    }
}
