//! Opens data sets, detecting their format.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vitral::files::{images_in, is_image};
use vitral::message::count;

use super::folder::{class_folders, entries};
use super::members::is_archive;
use super::parquet::is_parquet;
use super::parts::Parts;
use super::rows::{is_labeled, is_list};
use super::shards::{FilePredicate, Shards};
use super::split::Split;
use super::{Archive, Cifar, Dataset, Idx, ImageFolder, List, Numbers, Parquet, Subset, fault, listed};
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

/// Opens a data set: a folder with one sub-folder per class, a tar or zip of such a folder or a folder of those, MNIST's
/// idx files, CIFAR's binary files, Parquet as on the Hugging Face hub, or a list (CSV or JSON Lines). If there are
/// `train` and `test` (or `val`) splits, `split` selects one of them; otherwise a fraction of every class is split off,
/// the same for the same seed.
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
    /// What was left out or decided, a sentence each.
    pub notes: Vec<String>,
}

/// Opens a data set like [`open`], and returns the splits it comes in.
///
/// # Errors
/// As [`open`].
pub fn open_part(path: &Path, split: Split, validation_split: ValidationSplit) -> Result<Part, TrainError> {
    opened(find(path, split)?, path, split, validation_split)
}

/// Opens a data set like [`open_part`], with labels that are numbers. Splits that are separate files or folders must have
/// the same numbers; a list with a column `split` need not.
///
/// # Errors
/// As [`open_part`], and if a label is no number.
pub fn open_numbers(path: &Path, split: Split, validation_split: ValidationSplit) -> Result<Part, TrainError> {
    let found = find(path, split)?;
    let dataset = Arc::new(Numbers::of(found.dataset)?);
    opened(Part { dataset, ..found }, path, split, validation_split)
}

fn opened(found: Part, path: &Path, split: Split, validation_split: ValidationSplit) -> Result<Part, TrainError> {
    let Part { dataset, parts, mut notes } = found;
    notes.extend(dataset.notes());
    if !parts.is_empty() {
        return Ok(Part { dataset, parts, notes });
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
    Ok(Part { dataset: Arc::new(part), parts, notes })
}

/// A data set that does not come in splits.
fn undivided(dataset: impl Dataset + 'static) -> Part {
    Part { dataset: Arc::new(dataset), parts: BTreeSet::new(), notes: Vec::new() }
}

/// Files without those that stand beside as `.gz`, too.
fn unpacked(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let plain = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "gz").then(|| path.with_extension(""));
    let twice = |path: &PathBuf| plain(path).is_some_and(|plain| files.contains(&plain));
    files.iter().filter(|path| !twice(path)).cloned().collect()
}

/// The data set at a path, reduced to `split` if it comes in splits.
fn find(path: &Path, split: Split) -> Result<Part, TrainError> {
    if !path.is_dir() {
        return whole_file(path, split);
    }
    let inside = entries(path)?;
    if let Some(parts) = Parts::among(&inside)? {
        if parts.places.len() > 1 {
            return divided(path, parts, split);
        }
        // Training images beside others that have no labels.
        if let Some(train) = parts.places.get(&Split::Train).filter(|_| !parts.notes.is_empty()) {
            let mut found = find(train, split)?;
            found.notes.extend(parts.notes);
            return Ok(found);
        }
    }
    let named = |test: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut found: Vec<PathBuf> = inside.iter().filter(|path| test(&name(path))).cloned().collect();
        found.sort();
        found
    };
    // As in MNIST's `t10k-images…`, EMNIST's `emnist-balanced-test-images…` and CIFAR's `test_batch.bin`.
    let is_test = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| matches!(word, "t10k" | "test" | "testing"))
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
            true => match &unpacked(part)[..] {
                [only] => Arc::new(Idx::open(only)?),
                several => {
                    let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
                    let found =
                        format!("expected one set of images in idx files, found {}: {}", names.len(), listed(&names));
                    return Err(fault(path, found, "put each set into a folder of its own"));
                }
            },
            false => Arc::new(Cifar::open(&part)?),
        };
        return Ok(Part { dataset, parts, notes: Vec::new() });
    }
    for (is_kind, opened) in KINDS {
        let Some(Shards { files, train, parts }) = shards(path, split, is_kind)? else { continue };
        if let [file] = &files[..]
            && parts.is_empty()
        {
            return whole_file(file, split);
        }
        let known = if files == train || train.is_empty() { None } else { Some(opened(&train, None)?) };
        let dataset = opened(&files, known.as_ref().map(|known| known.classes()))?;
        return Ok(Part { dataset, parts, notes: Vec::new() });
    }
    if let Some(list) = list_in(path, &inside)? {
        return described(path, &list, split);
    }
    let folders = class_folders(path)?;
    let loose = inside.iter().any(|file| is_image(file));
    match &folders.classes[..] {
        [] if loose => {
            let hint = "put the images of each class into a separate folder, or list them in `metadata.csv`";
            Err(fault(path, "expected a sub-folder for each class, found images without one", hint))
        }
        // A folder around the data, as archives are often unpacked.
        [_] if !loose && holds_folders_alone(&folders.places[0])? => {
            let only = &folders.places[0];
            let mut found = find(only, split)?;
            found.notes.insert(0, format!("the data is the folder inside, `{}`", only.display()));
            found.notes.extend(folders.notes);
            Ok(found)
        }
        _ => Ok(undivided(ImageFolder::open(path, None)?)),
    }
}

/// Whether a folder holds data: folders of classes or splits, or a list, and no images of its own.
fn holds_folders_alone(path: &Path) -> Result<bool, TrainError> {
    let inside = entries(path)?;
    Ok(!inside.iter().any(|file| is_image(file)) && !class_folders(path)?.classes.is_empty())
}

/// The list that describes a folder's images: `metadata.csv` or `metadata.jsonl` as on the Hugging Face hub, or the only
/// list there is, if there are no class folders or its rows name the images in them.
fn list_in(path: &Path, inside: &[PathBuf]) -> Result<Option<PathBuf>, TrainError> {
    let lists: Vec<&PathBuf> = inside.iter().filter(|file| is_list(file) && is_labeled(file)).collect();
    let stem = |list: &Path| list.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case("metadata"));
    let described: Vec<&PathBuf> = lists.iter().copied().filter(|list| stem(list)).collect();
    if let [list] = described[..] {
        return Ok(Some(list.clone()));
    }
    match &lists[..] {
        [list] if class_folders(path)?.classes.is_empty() || List::finds_images(list) => Ok(Some((*list).clone())),
        _ => Ok(None),
    }
}

/// A folder's images as its list describes them.
fn described(folder: &Path, list: &Path, split: Split) -> Result<Part, TrainError> {
    let mut found = whole_file(list, split)?;
    found.notes.push(format!("labels are those of `{}`", list.display()));
    let named: BTreeSet<PathBuf> = List::open(list, None, None)?.files().map(Path::to_path_buf).collect();
    let inside = images_in(folder).map_err(TrainError::file(folder, "listing a folder"))?;
    let more = inside.images().iter().filter(|image| !named.contains(*image)).count();
    if more > 0 {
        let verb = if more == 1 { "is" } else { "are" };
        found.notes.push(format!("left out: {} that {verb} not in the list", count(more, "image")));
    }
    Ok(found)
}

/// One of a data set's splits.
fn divided(path: &Path, parts: Parts, split: Split) -> Result<Part, TrainError> {
    let found = parts.found();
    // The training split determines the classes, so that class numbers agree.
    let train = parts.places.get(&Split::Train).map(|train| find_whole(train, None)).transpose()?;
    let wanted = split.among(&found).and_then(|split| Some((split, parts.places.get(&split)?)));
    let dataset = match (wanted, train) {
        (Some((Split::Train, _)), Some(train)) => train,
        (Some((_, place)), train) => find_whole(place, train.as_ref().map(|train| train.classes()))?,
        (None, _) => {
            let names: Vec<String> = found.iter().map(|split| format!("{} images", split.name())).collect();
            let problem = format!("expected {} images, found only {}", split.name(), names.join(" and "));
            return Err(fault(path, problem, "add a folder `train`, or give other data"));
        }
    };
    Ok(Part { dataset, parts: found, notes: parts.notes })
}

/// Files of a kind that make up a split of a folder. Tars next to class folders are ignored, as their contents were
/// unpacked.
fn shards(folder: &Path, split: Split, is_kind: FilePredicate) -> Result<Option<Shards>, TrainError> {
    let found = Shards::find(folder, split, is_kind)?;
    let unpacked = |shards: &Shards| -> Result<bool, TrainError> {
        let beside = |file: &PathBuf| is_archive(file) && file.parent() == Some(folder);
        Ok(shards.files.iter().any(beside) && !class_folders(folder)?.classes.is_empty())
    };
    match found {
        Some(shards) if unpacked(&shards)? => Ok(None),
        found => Ok(found),
    }
}

/// All of the data at a path, with given classes or with those found in it: images in folders, a list, or shards.
fn find_whole(path: &Path, classes: Option<&[String]>) -> Result<Arc<dyn Dataset>, TrainError> {
    if !path.is_dir() {
        return with_classes_or_own(path, None, classes);
    }
    for (is_kind, opened) in KINDS {
        if let Some(Shards { files, parts, .. }) = shards(path, Split::Train, is_kind)?
            && parts.is_empty()
        {
            return opened(&files, classes);
        }
    }
    if let Some(list) = list_in(path, &entries(path)?)? {
        return with_classes_or_own(&list, None, classes);
    }
    // A folder around the classes, as in `train/train/cat`.
    let folders = class_folders(path)?;
    if let ([name], [only]) = (&folders.classes[..], &folders.places[..])
        && classes.is_none_or(|classes| !classes.contains(name))
        && !entries(path)?.iter().any(|file| is_image(file))
        && holds_folders_alone(only)?
    {
        return find_whole(only, classes);
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
fn whole_file(path: &Path, split: Split) -> Result<Part, TrainError> {
    // A single split is the whole set.
    let several = |parts: BTreeSet<Split>| if parts.len() > 1 { parts } else { BTreeSet::new() };
    if !path.exists() {
        return Err(fault(
            path,
            "expected a folder, an archive, a list, Parquet, idx or CIFAR files, found nothing",
            "check the path",
        ));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let divided = |parts| -> Result<Part, TrainError> {
        let dataset = with_classes_or_own(path, Some(split), None)?;
        Ok(Part { dataset, parts: several(parts), notes: Vec::new() })
    };
    if is_list(path) {
        return divided(List::parts(path)?);
    }
    if is_archive(path) {
        return divided(Archive::parts(path)?);
    }
    if is_parquet(path) {
        return Ok(undivided(Parquet::open(&[path.to_path_buf()], None)?));
    }
    if name.contains("idx") {
        return Ok(undivided(Idx::open(path)?));
    }
    if name.ends_with(".bin") {
        return Ok(undivided(Cifar::open(&[path.to_path_buf()])?));
    }
    let hint = "give a folder with one sub-folder per class, a `.tar`, `.tar.gz` or `.zip` of one, a `.csv` or `.jsonl` list, \
                Parquet, idx or CIFAR files";
    Err(fault(path, "expected a data set, found a file of another kind", hint))
}
