//! A folder with one sub-folder per class.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vitral::files::{images_in, is_array, is_hidden, passed_over};
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, Image, open_for};

use super::classes::{Classes, listed, ordered, spelled};
use super::split::Split;
use super::{Dataset, fault};
use crate::error::TrainError;

/// A folder with one sub-folder per class. Class names that are all whole numbers are sorted as numbers, other names by
/// their characters; images are sorted by path. Damaged images are only noticed when they are read.
#[derive(Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    images: Vec<(PathBuf, usize)>,
    notes: Vec<String>,
}

impl ImageFolder {
    /// Lists a folder. With `classes` given, as for a test set, its sub-folders must be among them and some may be
    /// missing; without, every sub-folder is a class and must contain images. Hidden folders and what Vitral itself has
    /// written there are left out.
    ///
    /// # Errors
    /// If the folder cannot be listed, contains no class, or a class is empty or unknown.
    pub fn open(path: &Path, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let Folders { classes: found, places, mut notes } = class_folders(path)?;
        if found.is_empty() {
            let hint = "put the images of each class into a separate folder";
            return Err(fault(path, "expected a sub-folder for each class, found none", hint));
        }
        let of_splits: Vec<String> = found.iter().filter(|name| Split::of_name(name).is_some()).cloned().collect();
        if of_splits.len() == found.len() {
            let problem =
                format!("expected folders of classes in the splits, found images alone in {}", listed(&found));
            return Err(fault(path, problem, "put the images of each class into a folder, or add a list of labels"));
        }
        if classes.is_none() && !of_splits.is_empty() {
            notes.push(format!("among the classes are {}, which is the name of a split", listed(&of_splits)));
        }
        let mut images = Vec::new();
        let (mut of_arrays, mut of_images) = (None, false);
        let mut others: BTreeMap<String, usize> = BTreeMap::new();
        let known = Classes::new(classes.unwrap_or(&found));
        for (name, folder) in found.iter().zip(&places) {
            let label = known.named(name, folder)?;
            let inside = images_in(folder).map_err(TrainError::file(folder, "listing a folder"))?;
            notes.extend(inside.faults().iter().map(|(path, why)| format!("left out: `{}`: {why}", path.display())));
            if inside.images().is_empty() && classes.is_none() {
                let instead = passed_over(inside.others()).unwrap_or_else(|| "none".to_owned());
                let problem = format!("expected images of a class, found {instead}");
                return Err(fault(folder, problem, "add images to it, or move the folder out of the data"));
            }
            match inside.images().first() {
                Some(file) if is_array(file) => of_arrays = Some(folder),
                Some(_) => of_images = true,
                None => {}
            }
            inside.others().iter().for_each(|(ending, count)| *others.entry(ending.clone()).or_default() += count);
            images.extend(inside.into_images().into_iter().map(|file| (file, label)));
        }
        // Beside images, arrays are something else: features, or a model's weights.
        if let Some(folder) = of_arrays.filter(|_| of_images) {
            let problem = "expected images of a class, as the other classes have, found arrays only";
            return Err(fault(folder, problem, "move the folder out of the data"));
        }
        if images.is_empty() {
            return Err(fault(path, "expected images, found none", "add images to the class folders"));
        }
        notes.extend(passed_over(&others).map(|others| format!("skipped {others}")));
        notes.extend(same_inside(path, &found, &places)?);
        Ok(ImageFolder { classes: classes.map_or(found, <[String]>::to_vec), images, notes })
    }

    /// The file of an image.
    pub fn path(&self, index: usize) -> &Path {
        &self.images[index].0
    }
}

/// The classes of images by their paths below a folder, with `/` between folders: the name of the first folder, below those
/// that are splits if all are. `None` for an image that is in no folder.
pub fn classes_by_folder(names: &[String]) -> Vec<Option<String>> {
    let folder = |name: &str, depth: usize| -> Option<String> {
        let parts: Vec<&str> = name.split('/').collect();
        parts.get(depth).filter(|_| depth + 1 < parts.len()).map(|part| spelled(part))
    };
    let of_split = |name: &String| folder(name, 0).is_some_and(|first| Split::of_name(&first).is_some());
    let depth = usize::from(!names.is_empty() && names.iter().all(of_split));
    names.iter().map(|name| folder(name, depth)).collect()
}

/// The sub-folders that are classes.
pub(super) struct Folders {
    /// Their names, in order.
    pub(super) classes: Vec<String>,
    /// Where they are, in the same order: a name need not be one that can be written.
    pub(super) places: Vec<PathBuf>,
    /// What was left out.
    pub(super) notes: Vec<String>,
}

/// A folder's sub-folders that are classes.
pub(super) fn class_folders(path: &Path) -> Result<Folders, TrainError> {
    let (mut found, mut notes, mut loose) = (BTreeMap::new(), Vec::new(), 0);
    for entry in entries(path)? {
        if is_hidden(&entry) {
            continue;
        }
        if entry.is_symlink() && !entry.exists() {
            notes.push(format!("left out: `{}`: a link to nothing", entry.display()));
        } else if !entry.is_dir() {
            loose += usize::from(vitral::files::is_image(&entry));
        } else if let Some(what) = own_output(&entry) {
            notes.push(format!("left out: `{}`: {what}, not a class", entry.display()));
        } else {
            let name = spelled(&entry.file_name().unwrap_or_default().to_string_lossy());
            if let Some(other) = found.insert(name.clone(), entry.clone()) {
                let problem = format!("expected every class once, found two folders that both read `{name}`");
                return Err(fault(&other, problem, "rename one of them, or put their images together"));
            }
        }
    }
    if loose > 0 && !found.is_empty() {
        let verb = if loose == 1 { "image is" } else { "images are" };
        notes.push(format!("left out: {loose} {verb} in `{}` itself, in no class folder", path.display()));
    }
    notes.sort();
    let classes = ordered(found.keys().cloned().collect());
    let places = classes.iter().map(|name| found[name].clone()).collect();
    Ok(Folders { classes, places, notes })
}

/// What a folder is if Vitral wrote it.
fn own_output(folder: &Path) -> Option<&'static str> {
    let has = |name: &str| folder.join(name).exists();
    if has("recipe.toml") && (has("checkpoints") || has("best")) {
        Some("a training run")
    } else if has("model.safetensors") && (has("vitral.json") || has("config.json")) {
        Some("a model")
    } else if has("figures.safetensors") || has("gallery.png") {
        Some("written by `vitral explain`")
    } else {
        None
    }
}

/// A note if all class folders hold nothing but folders of the same names, which may be the classes that were meant.
///
/// # Errors
/// If these are names of splits: images for testing would be trained on.
fn same_inside(path: &Path, classes: &[String], places: &[PathBuf]) -> Result<Option<String>, TrainError> {
    let mut shared: Option<Vec<String>> = None;
    for folder in places {
        if entries(folder)?.iter().any(|entry| vitral::files::is_image(entry) && entry.is_file()) {
            return Ok(None);
        }
        let inside = class_folders(folder)?.classes;
        shared = Some(match shared {
            None => inside,
            Some(before) => before.into_iter().filter(|name| inside.contains(name)).collect(),
        });
    }
    let shared = shared.filter(|shared| shared.len() > 1).unwrap_or_default();
    if !shared.is_empty() && shared.iter().all(|name| Split::of_name(name).is_some()) {
        let problem = format!("expected splits around the classes, found {} in every class folder", listed(&shared));
        return Err(fault(path, problem, "move them outwards, as in `train/cat` and `test/cat`"));
    }
    Ok((classes.len() > 1 && !shared.is_empty()).then(|| {
        format!(
            "the classes are {}, each of which holds folders {}: if these are the classes, give one of the outer folders, \
             or name the outer folders `train` and `test`",
            listed(classes),
            listed(&shared)
        )
    }))
}

/// The contents of a folder.
pub(super) fn entries(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let listing = std::fs::read_dir(path).map_err(TrainError::file(path, "listing a folder"))?;
    listing.map(|entry| entry.map(|entry| entry.path()).map_err(TrainError::file(path, "listing a folder"))).collect()
}

impl Dataset for ImageFolder {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> usize {
        self.images[index].1
    }

    fn name(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        let decoded = open_for(self.path(index), channels, &DecodeOptions::default());
        Ok(decoded.map_err(vitral::Error::from)?.into_image())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
