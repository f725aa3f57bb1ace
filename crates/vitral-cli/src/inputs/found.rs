//! The images that a command line leads to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use vitral::files::{IMAGE_ENDINGS, images_in, is_array, passed_over};
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, Decoded, Image, ImageError, decode_for, open_for};
use vitral_train::data::ArchivedImages;

use super::skipped::{Records, Skipped};
use crate::fault::Usage;
use crate::printer::Printer;

/// One image.
pub(crate) enum Source {
    File(PathBuf),
    /// An image in an archive, by its place there.
    Member(Arc<ArchivedImages>, usize),
    StandardInput(Vec<u8>),
}

impl Source {
    /// Its name in results.
    pub(crate) fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Member(archive, index) => archive.name(*index),
            Source::StandardInput(_) => "-".into(),
        }
    }

    /// Reads it for a model that takes these channels.
    pub(super) fn read(&self, channels: Channels, options: &DecodeOptions) -> Result<Decoded<Image>, ImageError> {
        match self {
            Source::File(path) => open_for(path, channels, options),
            Source::Member(archive, index) => {
                let within =
                    |source| ImageError::InFile { path: archive.name(*index).into(), source: Box::new(source) };
                let bytes = archive
                    .bytes(*index)
                    .map_err(|source| ImageError::Read { path: archive.name(*index).into(), source })?;
                decode_for(&bytes, channels, options).map_err(within)
            }
            Source::StandardInput(bytes) => decode_for(bytes, channels, options),
        }
    }
}

/// The images on the command line.
#[derive(Default)]
pub(crate) struct Found {
    pub(super) sources: Vec<Source>,
    archives: Vec<PathBuf>,
    pub(super) records: Records,
    /// Files and folders that could not be looked at.
    pub(super) skipped: Vec<Skipped>,
}

impl Found {
    /// With records of images that cannot be used, or without.
    pub(crate) fn with(mut self, records: Records) -> Self {
        self.records = records;
        self
    }

    /// Whether there is nothing at all, not even what could not be looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.skipped.is_empty()
    }

    /// How many images there are, those that could not be looked at among them.
    pub(super) fn count(&self) -> usize {
        self.sources.len() + self.skipped.len()
    }

    /// The images' names in results, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.sources.iter().map(Source::name)
    }

    /// The files that images are read from, archives among them.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = self.sources.iter().filter_map(|source| match source {
            Source::File(path) => Some(path),
            Source::Member(..) | Source::StandardInput(_) => None,
        });
        files.chain(&self.archives).map(PathBuf::as_path)
    }

    /// Adds all images in a folder and its sub-folders, in order of name.
    pub(super) fn add_folder(&mut self, folder: &Path, printer: &Printer) -> anyhow::Result<()> {
        let found =
            images_in(folder).with_context(|| format!("`{}`: the folder could not be read", folder.display()))?;
        let skip = |(path, why): &(PathBuf, _)| {
            Skipped::new(path.display().to_string(), &anyhow::anyhow!("`{}`: {why}", path.display()), printer)
        };
        let of_model = ["config.json", "vitral.json"].iter().any(|name| folder.join(name).is_file());
        // Arrays may be images of bands beside somebody's `config.json`.
        let weights = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("model") || name.starts_with("pytorch_model")
        };
        let arrays = found.images().iter().all(|file| is_array(file));
        if of_model && arrays && found.images().iter().any(weights) {
            let folder = folder.display();
            bail!("`{folder}`: expected images, found a model's files; did you mean `--model {folder}`?");
        }
        self.skipped.extend(found.faults().iter().map(skip));
        let others = passed_over(found.others());
        if found.images().is_empty() && found.faults().is_empty() {
            let (folder, endings) = (folder.display(), IMAGE_ENDINGS.join(", ."));
            let instead = others.map_or(String::new(), |others| format!(", only {others}"));
            bail!("`{folder}`: no images in this folder{instead}; expected files ending in .{endings}");
        }
        if let Some(others) = others {
            printer.note(format_args!("`{}`: skipped {others}", folder.display()));
        }
        self.sources.extend(found.into_images().into_iter().map(Source::File));
        Ok(())
    }

    /// Adds all images in an archive, in order of name.
    pub(super) fn add_archive(&mut self, archive: &Path, printer: &Printer) -> anyhow::Result<()> {
        let images = Arc::new(ArchivedImages::open(archive)?);
        if images.is_empty() {
            bail!(
                "`{}`: no images in this archive; expected files ending in .{}",
                archive.display(),
                IMAGE_ENDINGS.join(", .")
            );
        }
        if let Some(others) = passed_over(images.others()) {
            printer.note(format_args!("`{}`: skipped {others}", archive.display()));
        }
        self.archives.push(archive.to_owned());
        self.sources.extend((0..images.len()).map(|index| Source::Member(Arc::clone(&images), index)));
        Ok(())
    }

    /// Adds everything that a pattern matches, including the contents of matched folders.
    pub(super) fn add_pattern(&mut self, pattern: &Path, printer: &Printer) -> anyhow::Result<()> {
        let text = pattern.to_string_lossy();
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let found =
            glob::glob_with(&text, options).map_err(|fault| Usage(format!("`{text}`: invalid pattern: {fault}")))?;
        let before = self.sources.len() + self.skipped.len();
        for path in found {
            let path = path.with_context(|| format!("`{text}`"))?;
            if path.is_dir() {
                // A matched folder without images is not an error.
                let _ = self.add_folder(&path, printer);
            } else {
                self.sources.push(Source::File(path));
            }
        }
        if self.sources.len() + self.skipped.len() == before {
            bail!("`{text}`: no such file, and no match as a pattern");
        }
        Ok(())
    }
}
