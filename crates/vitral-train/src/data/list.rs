//! Lists of images: CSV with a header, or JSON Lines.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use vitral::files::{IMAGE_ENDINGS, is_hidden};
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, Image, open_for};
use vitral::message;

use super::classes::{Classes, class_names, of_labels};
use super::folder::entries;
use super::rows::{HINT, Row, read};
use super::split::Split;
use super::{Dataset, fault};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// A file with an image's path and its label or labels on every line; paths are relative to the file.
#[derive(Debug)]
pub struct List {
    classes: Vec<String>,
    images: Vec<(PathBuf, Vec<usize>)>,
    labeling: Labeling,
    notes: Vec<String>,
}

impl List {
    /// Reads a list. The classes are those given, or the lines of `classes.txt` next to the list, or the labels found,
    /// sorted; whole numbers from 0 on count the classes if at least half of them are in use, and are names otherwise.
    /// If there is a column `split` (or `is_train`), or if the paths begin with folders of splits, only the rows of
    /// `split` are used. An image's path is relative to the list or to a folder beside it; its ending may be missing.
    ///
    /// # Errors
    /// If a line is malformed, or a label is not a class.
    pub fn open(path: &Path, split: Option<Split>, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let mut notes = Vec::new();
        let rows = merged(read(path)?, &mut notes);
        let named = path.with_file_name("classes.txt");
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None if named.exists() => class_names(&named)?,
            None => of_labels(rows.iter().flat_map(|row| &row.labels).cloned().collect()),
        };
        if classes.is_empty() {
            return Err(fault(path, "expected labels, found none in any row", HINT));
        }
        let divided = splits(&rows);
        let wanted = split.and_then(|split| split.among(&divided)).filter(|_| divided.len() > 1);
        let kept = |row: &&Row| wanted.is_none() || row.split == wanted;
        let (known, places) = (Classes::new(&classes), places(path));
        let found = |row: &Row| -> Result<_, TrainError> {
            let place = format!("line {}", row.line);
            let labels = row.labels.iter().map(|label| known.labeled(label, &place, path));
            Ok((located(&places, &row.path), labels.collect::<Result<Vec<_>, _>>()?))
        };
        let images = rows.iter().filter(kept).map(found).collect::<Result<Vec<_>, _>>()?;
        if images.is_empty() {
            return Err(fault(path, "expected images, found no lines", HINT));
        }
        // Decided over all rows, so that training and test sets agree.
        let several = rows.iter().any(|row| row.labels.len() != 1);
        let labeling = if several { Labeling::Several } else { Labeling::One };
        Ok(List { classes, images, labeling, notes })
    }

    /// The splits that the list's rows belong to.
    pub(super) fn parts(path: &Path) -> Result<BTreeSet<Split>, TrainError> {
        Ok(splits(&read(path)?))
    }

    /// Whether the first rows of a list name files that exist.
    pub(super) fn finds_images(path: &Path) -> bool {
        const FIRST: usize = 5;
        let places = places(path);
        let rows = read(path).unwrap_or_default();
        !rows.is_empty() && rows.iter().take(FIRST).all(|row| located(&places, &row.path).is_file())
    }

    /// The images' files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.images.iter().map(|(path, _)| path.as_path())
    }
}

fn splits(rows: &[Row]) -> BTreeSet<Split> {
    rows.iter().filter_map(|row| row.split).collect()
}

/// Puts rows about the same image together, as in lists with a row for each label of an image.
fn merged(rows: Vec<Row>, notes: &mut Vec<String>) -> Vec<Row> {
    let count = rows.len();
    let mut places: HashMap<(String, Option<Split>), usize> = HashMap::new();
    let mut paths: HashSet<String> = HashSet::new();
    let mut again = 0;
    let mut merged: Vec<Row> = Vec::with_capacity(count);
    for row in rows {
        let key = (row.path.clone(), row.split);
        match places.get(&key) {
            Some(&place) => {
                let known = &mut merged[place].labels;
                row.labels.into_iter().for_each(|label| {
                    if !known.contains(&label) {
                        known.push(label)
                    }
                });
            }
            None => {
                again += usize::from(!paths.insert(row.path.clone()));
                places.insert(key, merged.len());
                merged.push(row);
            }
        }
    }
    if merged.len() < count {
        let more = count - merged.len();
        let (rows, verb) = (message::count(more, "row"), if more == 1 { "names" } else { "name" });
        notes.push(format!("{rows} {verb} an image that is listed before: the labels of its rows were put together"));
    }
    if again > 0 {
        let (images, verb) = (message::count(again, "image"), if again == 1 { "is" } else { "are" });
        notes.push(format!("{images} {verb} in more than one split: what is tested on was trained on"));
    }
    merged
}

/// The folders that a list's paths may be relative to: its own, then those beside it, first the one with its name. Folders
/// of another split are left out.
fn places(list: &Path) -> Vec<PathBuf> {
    let beside = list.parent().unwrap_or(Path::new(""));
    let stem = list.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let own = Split::of_name(&stem).unwrap_or(Split::Train);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut inner: Vec<PathBuf> = entries(beside).unwrap_or_default();
    inner.retain(|path| path.is_dir() && !is_hidden(path));
    inner.retain(|path| Split::of_name(&name(path)).is_none_or(|split| split == own));
    inner.sort_by_key(|path| (name(path) != stem, Split::of_name(&name(path)).is_none(), name(path)));
    std::iter::once(beside.to_owned()).chain(inner).collect()
}

/// The file that a list's path means. If there is none, the path as it was given.
fn located(places: &[PathBuf], given: &str) -> PathBuf {
    // Lists written on Windows have backslashes.
    let forward = given.replace('\\', "/");
    let spellings = if forward == given { vec![given] } else { vec![given, &forward] };
    for place in places {
        if let Some(found) = spellings.iter().map(|spelling| place.join(spelling)).find(|path| path.is_file()) {
            return found;
        }
    }
    if Path::new(&forward).extension().is_none() {
        for place in places {
            let with = |ending: &&str| place.join(format!("{forward}.{ending}"));
            if let Some(found) = IMAGE_ENDINGS.iter().map(with).find(|path| path.is_file()) {
                return found;
            }
        }
    }
    places[0].join(given)
}

impl Dataset for List {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> usize {
        self.images[index].1.first().copied().unwrap_or(0)
    }

    fn labeling(&self) -> Labeling {
        self.labeling
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.images[index].1.clone()
    }

    fn name(&self, index: usize) -> String {
        self.images[index].0.display().to_string()
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        let decoded = open_for(&self.images[index].0, channels, &DecodeOptions::default());
        Ok(decoded.map_err(vitral::Error::from)?.into_image())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
