//! Predicted masks in a folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use vitral::atomic::{self, AtomicFile};
use vitral::config::Size;
use vitral::image::Image;

use super::drawn;
use super::pairs::{Pair, Pairs};
use crate::error::TrainError;

/// Images on the sheet.
const SHOWN: usize = 8;
/// The name of the sheet.
const SHEET: &str = "sheet.png";

/// Predicted masks on their way to a folder.
pub(super) struct Files<'a> {
    folder: Option<&'a Path>,
    /// Images and masks, which must not be replaced.
    inputs: HashSet<PathBuf>,
    rows: Vec<drawn::Row>,
    written: Vec<String>,
}

impl<'a> Files<'a> {
    pub(super) fn new(folder: Option<&'a Path>, pairs: &Pairs) -> Result<Self, TrainError> {
        let mut inputs = HashSet::new();
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(TrainError::file(folder, "creating the folder"))?;
            // Whether it can be written to.
            drop(AtomicFile::create(&folder.join(SHEET)).map_err(TrainError::file(folder, "writing to the folder"))?);
            let given = pairs.train.iter().chain(&pairs.test).flat_map(|pair| [&pair.image, &pair.mask]);
            inputs.extend(given.filter_map(|path| path.canonicalize().ok()));
        }
        let files = Files { folder, inputs, rows: Vec::new(), written: Vec::new() };
        if let Some(folder) = folder {
            let stems =
                pairs.test.iter().map(|pair| pair.image.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            stems.map(|stem| folder.join(format!("{stem}.png"))).try_for_each(|path| files.refuse(&path))?;
        }
        Ok(files)
    }

    /// Refuses to replace an image or a mask.
    fn refuse(&self, path: &Path) -> Result<(), TrainError> {
        match path.canonicalize().is_ok_and(|path| self.inputs.contains(&path)) {
            false => Ok(()),
            true => {
                let fault = "this is one of the images and masks, and would be replaced by a predicted mask".to_owned();
                Err(TrainError::Data { path: path.to_owned(), fault, hint: "choose another folder with `--output`" })
            }
        }
    }

    /// Writes the predicted mask of an image.
    pub(super) fn add(
        &mut self,
        pair: &Pair,
        image: Image,
        size: Size,
        truth: &[Option<usize>],
        predicted: &[usize],
        classes: &[u16],
    ) -> Result<(), TrainError> {
        let Some(folder) = self.folder else { return Ok(()) };
        let stem = pair.image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut path = folder.join(format!("{stem}.png"));
        let mut times = 1;
        while self.written.contains(&path.display().to_string()) {
            times += 1;
            path = folder.join(format!("{stem}-{times}.png"));
        }
        self.refuse(&path)?;
        let values: Vec<u16> = predicted.iter().map(|&class| classes[class]).collect();
        write(&path, drawn::mask(size, &values))?;
        self.written.push(path.display().to_string());
        if self.rows.len() < SHOWN {
            self.rows.push(drawn::Row::new(&image.into_rgb(), truth, predicted));
        }
        Ok(())
    }

    /// Writes the sheet; gives the files that were written.
    pub(super) fn finish(mut self) -> Result<Vec<String>, TrainError> {
        if let Some(folder) = self.folder {
            let own = folder.join(SHEET);
            let taken = self.written.contains(&own.display().to_string());
            let path = if taken { folder.join("sheet-of-all.png") } else { own };
            self.refuse(&path)?;
            write(&path, drawn::sheet(&self.rows))?;
            self.written.push(path.display().to_string());
        }
        Ok(self.written)
    }
}

fn write(path: &Path, png: Result<Vec<u8>, image::ImageError>) -> Result<(), TrainError> {
    let doing = "writing a predicted mask";
    let png = png.map_err(|fault| TrainError::file(path, doing)(std::io::Error::other(fault)))?;
    atomic::write(path, &png).map_err(TrainError::file(path, doing))
}
