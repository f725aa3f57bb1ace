//! A folder with one sub-folder per class.

use std::path::{Path, PathBuf};

use vitral::image::{Limits, RgbImage};

use super::{Dataset, class_of, fault, is_image};
use crate::error::TrainError;

/// A folder with one sub-folder per class; classes and images are sorted by name. Damaged images are only noticed when
/// they are read.
#[derive(Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    images: Vec<(PathBuf, usize)>,
}

impl ImageFolder {
    /// Lists a folder. With `classes` given, as for a test set, its sub-folders must be among them and some may be
    /// missing; without, every sub-folder is a class and must contain images.
    ///
    /// # Errors
    /// If the folder cannot be listed, contains no class, or a class is empty or unknown.
    pub fn open(path: &Path, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let found = class_folders(path)?;
        if found.is_empty() {
            let hint = "put the images of each class into a separate folder";
            return Err(fault(path, "expected a sub-folder for each class, found none", hint));
        }
        let mut images = Vec::new();
        for (label, name) in found.iter().enumerate() {
            let label = classes.map_or(Ok(label), |classes| class_of(classes, name, &path.join(name)))?;
            let before = images.len();
            let mut files = Vec::new();
            collect(&path.join(name), &mut files)?;
            files.sort();
            images.extend(files.into_iter().map(|file| (file, label)));
            if images.len() == before && classes.is_none() {
                let hint = "add images to it, or remove the folder";
                return Err(fault(&path.join(name), "expected images of a class, found none", hint));
            }
        }
        if images.is_empty() {
            return Err(fault(path, "expected images, found none", "add images to the class folders"));
        }
        Ok(ImageFolder { classes: classes.map_or(found, <[String]>::to_vec), images })
    }

    /// The file of an image.
    pub fn path(&self, index: usize) -> &Path {
        &self.images[index].0
    }
}

/// Names of a folder's sub-folders, sorted, without hidden ones.
pub(super) fn class_folders(path: &Path) -> Result<Vec<String>, TrainError> {
    let mut names = Vec::new();
    for entry in entries(path)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The contents of a folder.
pub(super) fn entries(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let listing = std::fs::read_dir(path).map_err(TrainError::file(path, "listing a folder"))?;
    listing.map(|entry| entry.map(|entry| entry.path()).map_err(TrainError::file(path, "listing a folder"))).collect()
}

/// Collects the images in a folder and its sub-folders.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), TrainError> {
    for entry in entries(path)? {
        // Links to folders are not followed, as they could form a cycle.
        if entry.is_dir() && !entry.is_symlink() {
            collect(&entry, files)?;
        } else if is_image(&entry) {
            files.push(entry);
        }
    }
    Ok(())
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

    fn image(&self, index: usize) -> Result<RgbImage, TrainError> {
        Ok(vitral::image::open(self.path(index), &Limits::default()).map_err(vitral::Error::from)?)
    }
}
