//! Images without labels.

use std::path::{Path, PathBuf};

use vitral::files::{images_in, passed_over};
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, Image, open_for};

use super::{Dataset, fault};
use crate::error::TrainError;

/// All images of a folder and its sub-folders, sorted by path, whatever the sub-folders mean. There is one class, without a
/// meaning.
#[derive(Debug)]
pub struct Unlabeled {
    classes: [String; 1],
    images: Vec<PathBuf>,
    notes: Vec<String>,
}

impl Unlabeled {
    /// Lists a folder.
    ///
    /// # Errors
    /// If it cannot be listed or has no images.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let found = images_in(folder).map_err(TrainError::file(folder, "listing a folder"))?;
        let left_out = |(path, why): &(PathBuf, String)| format!("left out: `{}`: {why}", path.display());
        let mut notes: Vec<String> = found.faults().iter().map(left_out).collect();
        let passed = passed_over(found.others());
        if found.images().is_empty() {
            let instead = passed.unwrap_or_else(|| "none".to_owned());
            return Err(fault(folder, format!("expected images, found {instead}"), "give a folder of images"));
        }
        notes.extend(passed.map(|passed| format!("left out: {passed}")));
        Ok(Unlabeled { classes: ["image".to_owned()], images: found.into_images(), notes })
    }
}

impl Dataset for Unlabeled {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, _index: usize) -> usize {
        0
    }

    fn name(&self, index: usize) -> String {
        self.images[index].display().to_string()
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        let decoded = open_for(&self.images[index], channels, &DecodeOptions::default());
        Ok(decoded.map_err(vitral::Error::from)?.into_image())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
