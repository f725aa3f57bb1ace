//! Files that together form one data set.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folder::entries;
use super::split::Split;
use crate::error::TrainError;

/// Whether a file is of some kind, according to its name.
pub(super) type FilePredicate = fn(&Path) -> bool;

/// Files of one split of a data set.
pub(super) struct Shards {
    pub(super) files: Vec<PathBuf>,
    /// Files of the training split, which determine the classes; may be the same files.
    pub(super) train: Vec<PathBuf>,
    /// The splits that occur in file names; empty if all files belong together.
    pub(super) parts: BTreeSet<Split>,
}

impl Shards {
    /// The files of a kind that make up `split` in a folder, or in its `data` folder, by how their names begin:
    /// `train-00000…`, `test.0…`. All files if the names contain no splits, `None` if there are no files.
    pub(super) fn find(folder: &Path, split: Split, is_kind: FilePredicate) -> Result<Option<Self>, TrainError> {
        let files = |folder: &Path| -> Result<Vec<PathBuf>, TrainError> {
            let mut found = entries(folder)?;
            found.retain(|path| is_kind(path) && path.is_file());
            found.sort();
            Ok(found)
        };
        let mut found = files(folder)?;
        if found.is_empty() && folder.join("data").is_dir() {
            found = files(&folder.join("data"))?;
        }
        if found.is_empty() {
            return Ok(None);
        }
        let split_of = |path: &PathBuf| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Split::of_name(name.split(['-', '.', '_']).next()?)
        };
        let splits: BTreeSet<Split> = found.iter().filter_map(split_of).collect();
        let of = |wanted| found.iter().filter(|path| split_of(path) == Some(wanted)).cloned().collect::<Vec<_>>();
        Ok(Some(match split.among(&splits) {
            Some(wanted) if splits.len() > 1 => Shards { files: of(wanted), train: of(Split::Train), parts: splits },
            _ => Shards { train: found.clone(), files: found, parts: BTreeSet::new() },
        }))
    }
}
