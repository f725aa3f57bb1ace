//! A folder that holds the splits of a data set: as folders, archives or lists named after them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use vitral::files::{is_hidden, is_image};

use super::fault;
use super::folder::{class_folders, entries};
use super::members::is_archive;
use super::parquet::is_parquet;
use super::rows::{is_labeled, is_list};
use super::split::Split;
use crate::error::TrainError;

/// The splits in a folder.
pub(super) struct Parts {
    /// Where each is.
    pub(super) places: BTreeMap<Split, PathBuf>,
    /// What was left out.
    pub(super) notes: Vec<String>,
}

impl Parts {
    /// Finds the splits among the contents of a folder; `None` if it is not divided into splits.
    ///
    /// # Errors
    /// If a split is there twice.
    pub(super) fn among(inside: &[PathBuf]) -> Result<Option<Self>, TrainError> {
        let mut sources: BTreeMap<Split, Vec<&PathBuf>> = BTreeMap::new();
        let mut notes = Vec::new();
        let mut sorted: Vec<&PathBuf> = inside.iter().filter(|path| !is_hidden(path)).collect();
        sorted.sort();
        let mut others = 0;
        for path in sorted {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !(path.is_dir() || is_archive(path) || is_list(path)) {
                continue;
            }
            match Split::of_name(name.split('.').next().unwrap_or_default()) {
                Some(_) if is_list(path) && !is_labeled(path) => {
                    notes.push(format!("left out: `{}`, which has no column of labels", path.display()));
                }
                Some(split) => sources.entry(split).or_default().push(path),
                None => others += usize::from(path.is_dir()),
            }
        }
        // Without a training split, folders called `test` or `val` are splits only if there is nothing else.
        if sources.is_empty() || !sources.contains_key(&Split::Train) && others > 0 || sources.len() == 1 && others > 0
        {
            return Ok(None);
        }
        let mut places = BTreeMap::new();
        for (split, found) in sources {
            match one_of(split, &found, &mut notes)? {
                Some(place) => drop(places.insert(split, place)),
                None => notes.push(format!("left out: the {} images, which have no labels", split.name())),
            }
        }
        Ok(Some(Parts { places, notes }))
    }

    /// The splits that there are.
    pub(super) fn found(&self) -> BTreeSet<Split> {
        self.places.keys().copied().collect()
    }
}

/// The one source of a split among those found; `None` if it is a folder of images without labels.
fn one_of(split: Split, found: &[&PathBuf], notes: &mut Vec<String>) -> Result<Option<PathBuf>, TrainError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match found {
        [one] if one.is_dir() && is_unlabeled(one)? => Ok(None),
        [one] => Ok(Some((*one).clone())),
        [folder, file] if folder.is_dir() && !file.is_dir() => {
            let classes = !class_folders(folder)?.classes.is_empty();
            if is_list(file) && !classes {
                // The list names the images that are in the folder.
                return Ok(Some((*file).clone()));
            }
            if is_archive(file) && classes && name(folder) == name(file).split('.').next().unwrap_or_default() {
                notes.push(format!("left out: `{}`, since `{}` is beside it", file.display(), folder.display()));
                return Ok(Some((*folder).clone()));
            }
            Err(twice(split, found))
        }
        _ => Err(twice(split, found)),
    }
}

/// Whether a folder holds images, and nothing that says what they are.
fn is_unlabeled(folder: &Path) -> Result<bool, TrainError> {
    let inside = entries(folder)?;
    let labeled = inside.iter().any(|path| is_list(path) || is_archive(path) || is_parquet(path));
    Ok(!labeled && inside.iter().any(|path| is_image(path)) && class_folders(folder)?.classes.is_empty())
}

fn twice(split: Split, found: &[&PathBuf]) -> TrainError {
    let named: Vec<String> =
        found.iter().map(|path| format!("`{}`", path.file_name().unwrap_or_default().to_string_lossy())).collect();
    let place = found.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
    let problem = format!("expected one source of the {} images, found {}", split.name(), named.join(" and "));
    fault(place, problem, "move all but one elsewhere, or give the one to use by its path")
}
