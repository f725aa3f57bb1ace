//! Opens data sets, detecting their format.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::folder::{class_folders, entries};
use super::parquet::is_parquet;
use super::shards::{FilePredicate, Shards};
use super::split::Split;
use super::{Archive, Cifar, Dataset, Idx, ImageFolder, List, Parquet, Subset, fault, is_image};
use crate::error::TrainError;

/// How a data set without a test split is split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationSplit {
    /// Fraction of every class used for validation and test.
    pub fraction: f32,
    /// Seed for the selection.
    pub seed: u64,
}

impl Default for ValidationSplit {
    fn default() -> Self {
        ValidationSplit { fraction: 0.1, seed: 0 }
    }
}

/// Opens a data set: a folder with one sub-folder per class, a tar of such a folder or a folder of tars, MNIST's idx
/// files, CIFAR's binary files, Parquet as on the Hugging Face hub, or a list (CSV or JSON Lines). If there are `train`
/// and `test` (or `val`) splits, `split` selects one of them; otherwise a fraction of every class is split off, the
/// same for the same seed.
///
/// # Errors
/// If the format is unknown, a class is empty, or the requested split has no images.
pub fn open(path: &Path, split: Split, validation_split: ValidationSplit) -> Result<Arc<dyn Dataset>, TrainError> {
    Ok(open_part(path, split, validation_split)?.dataset)
}

/// An opened split of a data set.
#[derive(Debug)]
pub struct Part {
    /// Its images.
    pub dataset: Arc<dyn Dataset>,
    /// The splits that the data set comes in; empty if it is not split.
    pub parts: BTreeSet<Split>,
}

/// Opens a data set like [`open`], and returns the splits it comes in.
///
/// # Errors
/// As [`open`].
pub fn open_part(path: &Path, split: Split, validation_split: ValidationSplit) -> Result<Part, TrainError> {
    let (dataset, parts) = find(path, split)?;
    if !parts.is_empty() {
        return Ok(Part { dataset, parts });
    }
    let (some, rest) = Subset::parted(&dataset, validation_split.fraction, validation_split.seed);
    let part = if split == Split::Train { rest } else { some };
    if part.is_empty() {
        let found = format!(
            "expected enough images to split off {} of each class, found {} of {} classes",
            validation_split.fraction,
            dataset.len(),
            dataset.classes().len()
        );
        return Err(fault(path, found, "add images, or give a `test` folder next to `train`"));
    }
    Ok(Part { dataset: Arc::new(part), parts })
}

/// The data set at a path, reduced to `split` if it comes in splits, and these splits.
type Found = (Arc<dyn Dataset>, BTreeSet<Split>);

fn find(path: &Path, split: Split) -> Result<Found, TrainError> {
    if !path.is_dir() {
        return whole_file(path, split);
    }
    let inside = entries(path)?;
    if let Some(Divided { train, wanted, parts }) = divided(&inside, split) {
        // The training split determines the classes, so that class numbers agree.
        let train = find_whole(&train)?;
        let dataset = match wanted {
            None => train,
            Some(wanted) => with_classes(&wanted, train.classes())?,
        };
        return Ok((dataset, parts));
    }
    let named = |test: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut found: Vec<PathBuf> = inside.iter().filter(|path| test(&name(path))).cloned().collect();
        found.sort();
        found
    };
    let is_test = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        name.starts_with("t10k") || name.starts_with("test")
    };
    let idx = named(&|name| name.contains("images") && name.contains("idx") && !name.contains("labels"));
    let cifar = named(&|name| {
        name.starts_with("data_batch_") && name.ends_with(".bin")
            || ["test_batch.bin", "train.bin", "test.bin"].contains(&name)
    });
    for (found, of_idx) in [(idx, true), (cifar, false)] {
        if found.is_empty() {
            continue;
        }
        let (test, train): (Vec<_>, Vec<_>) = found.into_iter().partition(is_test);
        let divided = !test.is_empty() && !train.is_empty();
        let parts = if divided { BTreeSet::from([Split::Train, Split::Test]) } else { BTreeSet::new() };
        let part = if train.is_empty() || divided && split != Split::Train { test } else { train };
        let dataset: Arc<dyn Dataset> = match of_idx {
            true => Arc::new(Idx::open(&part[0])?),
            false => Arc::new(Cifar::open(&part)?),
        };
        return Ok((dataset, parts));
    }
    for (is_kind, opened) in KINDS {
        let Some(Shards { files, train, parts }) = shards(path, split, is_kind)? else { continue };
        if let [file] = &files[..]
            && parts.is_empty()
        {
            return whole_file(file, split);
        }
        let known = if files == train || train.is_empty() { None } else { Some(opened(&train, None)?) };
        return Ok((opened(&files, known.as_ref().map(|known| known.classes()))?, parts));
    }
    let lists = named(&|name| is_list(Path::new(name)));
    if let [list] = &lists[..]
        && class_folders(path)?.is_empty()
            | list.file_name().is_some_and(|name| name.to_string_lossy().starts_with("metadata."))
    {
        return whole_file(list, split);
    }
    if inside.iter().any(|file| is_image(file)) && class_folders(path)?.is_empty() {
        let hint = "put the images of each class into a separate folder, or list them in `metadata.csv`";
        return Err(fault(path, "expected a sub-folder for each class, found images without one", hint));
    }
    Ok((Arc::new(ImageFolder::open(path, None)?), BTreeSet::new()))
}

/// Files of a kind that make up a split of a folder. Tars next to class folders are ignored, as their contents were
/// unpacked.
fn shards(folder: &Path, split: Split, is_kind: FilePredicate) -> Result<Option<Shards>, TrainError> {
    let found = Shards::find(folder, split, is_kind)?;
    let unpacked = |shards: &Shards| -> Result<bool, TrainError> {
        let beside = |file: &PathBuf| is_archive(file) && file.parent() == Some(folder);
        Ok(shards.files.iter().any(beside) && !class_folders(folder)?.is_empty())
    };
    match found {
        Some(shards) if unpacked(&shards)? => Ok(None),
        found => Ok(found),
    }
}

/// A folder that contains splits.
struct Divided {
    train: PathBuf,
    /// The requested split, if it is not the training split.
    wanted: Option<PathBuf>,
    parts: BTreeSet<Split>,
}

fn divided(inside: &[PathBuf], split: Split) -> Option<Divided> {
    let mut parts = std::collections::BTreeMap::new();
    for path in inside {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = path.is_dir() || is_archive(path) || is_list(path);
        if let Some(split) = Split::of_name(name.split('.').next().unwrap_or_default()).filter(|_| known) {
            parts.insert(split, path.clone());
        }
    }
    let train = parts.get(&Split::Train)?.clone();
    let found = parts.keys().copied().collect::<BTreeSet<_>>();
    let other = split.among(&found).and_then(|split| parts.remove(&split));
    let wanted = other.filter(|_| split != Split::Train);
    (found.len() > 1).then_some(Divided { train, wanted, parts: found })
}

fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|ending| name.ends_with(ending))
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "csv" || ending == "tsv" || ending == "jsonl")
}

/// All of the data at a path.
fn find_whole(path: &Path) -> Result<Arc<dyn Dataset>, TrainError> {
    match path.is_dir() {
        true => folder_with_classes(path, None),
        false => with_classes_or_own(path, None, None),
    }
}

fn with_classes(path: &Path, classes: &[String]) -> Result<Arc<dyn Dataset>, TrainError> {
    match path.is_dir() {
        true => folder_with_classes(path, Some(classes)),
        false => with_classes_or_own(path, None, Some(classes)),
    }
}

/// All of a folder that is one split of a data set: images in folders, or shards.
fn folder_with_classes(path: &Path, classes: Option<&[String]>) -> Result<Arc<dyn Dataset>, TrainError> {
    for (is_kind, opened) in KINDS {
        if let Some(Shards { files, parts, .. }) = shards(path, Split::Train, is_kind)?
            && parts.is_empty()
        {
            return opened(&files, classes);
        }
    }
    Ok(Arc::new(ImageFolder::open(path, classes)?))
}

/// Opens the files of a data set, with given classes or with those found in it.
type Opened = fn(&[PathBuf], Option<&[String]>) -> Result<Arc<dyn Dataset>, TrainError>;

/// Kinds of files that come in shards.
const KINDS: [(FilePredicate, Opened); 2] = [
    (is_parquet, |files, classes| Ok(Arc::new(Parquet::open(files, classes)?))),
    (is_archive, |files, classes| Ok(Arc::new(Archive::open(files, None, classes)?))),
];

fn with_classes_or_own(
    path: &Path,
    split: Option<Split>,
    classes: Option<&[String]>,
) -> Result<Arc<dyn Dataset>, TrainError> {
    match is_list(path) {
        true => Ok(Arc::new(List::open(path, split, classes)?)),
        false => Ok(Arc::new(Archive::open(&[path.to_path_buf()], split, classes)?)),
    }
}

/// A data set in one file.
fn whole_file(path: &Path, split: Split) -> Result<Found, TrainError> {
    // A single split is the whole set.
    let several = |parts: BTreeSet<Split>| if parts.len() > 1 { parts } else { BTreeSet::new() };
    if !path.exists() {
        return Err(fault(
            path,
            "expected a folder, a tar, a list, Parquet, idx or CIFAR files, found nothing",
            "check the path",
        ));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if is_list(path) {
        return Ok((with_classes_or_own(path, Some(split), None)?, several(List::parts(path)?)));
    }
    if is_archive(path) {
        return Ok((with_classes_or_own(path, Some(split), None)?, several(Archive::parts(path)?)));
    }
    if is_parquet(path) {
        return Ok((Arc::new(Parquet::open(&[path.to_path_buf()], None)?), BTreeSet::new()));
    }
    if name.contains("idx") {
        return Ok((Arc::new(Idx::open(path)?), BTreeSet::new()));
    }
    if name.ends_with(".bin") {
        return Ok((Arc::new(Cifar::open(&[path.to_path_buf()])?), BTreeSet::new()));
    }
    let hint = "give a folder with one sub-folder per class, a `.tar` or `.tar.gz` of one, a `.csv` or `.jsonl` list, \
                Parquet, idx or CIFAR files";
    Err(fault(path, "expected a data set, found a file of another kind", hint))
}
