//! Images given on the command line: files, folders, patterns, standard input.

mod notes;

use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use vitral::Model;
use vitral::files::{IMAGE_ENDINGS, images_in, passed_over};
use vitral::image::{DecodeOptions, Decoded, ImageError, Limits, RgbImage, SampleRange, decode_with, open_with};
use vitral::pipeline::{Batch, BatchOptions, batches};
use vitral_train::data::ArchivedImages;

use notes::Notes;

use crate::fault::{self, Usage};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Bytes that decoding takes for each pixel, at most: so many are allowed when more pixels are.
const BYTES_PER_PIXEL: u64 = 12;

/// Which images, and how many at a time.
#[derive(Args, Debug)]
pub(crate) struct InputArgs {
    /// Images: files, folders (searched recursively, in order of name), tar or zip archives, quoted patterns such as
    /// `'photos/**/*.jpg'`, or `-` for one image from standard input
    #[arg(value_name = "IMAGE", required_unless_present = "files_from")]
    images: Vec<PathBuf>,
    /// A text file with one path per line, after those on the command line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    /// Batch size; it does not affect the results
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Largest image to decode, in pixels
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.max_pixels)]
    max_pixels: u64,
    /// What becomes black to white in images with more than 8 bits per sample: `full` (all that the file declares), a
    /// number of bits such as `12`, or `auto` (as many bits as each image's largest sample needs)
    #[arg(long, value_name = "RANGE", default_value = "full")]
    sample_range: SampleRange,
}

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

    fn read(&self, options: &DecodeOptions) -> Result<Decoded, ImageError> {
        match self {
            Source::File(path) => open_with(path, options),
            Source::Member(archive, index) => {
                let within =
                    |source| ImageError::InFile { path: archive.name(*index).into(), source: Box::new(source) };
                let bytes = archive
                    .bytes(*index)
                    .map_err(|source| ImageError::Read { path: archive.name(*index).into(), source })?;
                decode_with(&bytes, options).map_err(within)
            }
            Source::StandardInput(bytes) => decode_with(bytes, options),
        }
    }
}

impl InputArgs {
    /// Finds all images, preprocesses them ahead of the model and passes them on in batches, with the name of each.
    /// Images that cannot be read are reported and counted; the outcome reflects them.
    pub(crate) fn each_batch(
        &self,
        model: &Model,
        settings: &Settings,
        printer: &Printer,
        mut each: impl FnMut(&[String], &Batch) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let preprocess = model.preprocess()?;
        let Found { sources, mut skipped } = self.sources(printer)?;
        let count = sources.len() + skipped;
        let batch = NonZero::new(usize::from(self.batch)).unwrap_or(NonZero::<usize>::MIN);
        let options = BatchOptions { batch, threads: settings.threads() };
        let (mut notes, decoding) = (Notes::default(), self.decoding());
        let kept = notes.kept();
        let read = |source: &Source| Ok(kept.keep(&source.name(), source.read(&decoding)?));
        printer.start_progress(sources.len(), "images");
        batches(&sources, &preprocess, options, &settings.device, read, |batch| -> anyhow::Result<()> {
            for (index, error) in &batch.faults {
                skip(&sources[*index].name(), &in_flags(error), printer);
            }
            skipped += batch.faults.len();
            let names: Vec<String> = batch.indices.iter().map(|&index| sources[index].name()).collect();
            names.iter().for_each(|name| notes.print(name, printer));
            if !names.is_empty() {
                each(&names, &batch)?;
            }
            Ok(printer.advance(batch.indices.len() + batch.faults.len())?)
        })?;
        printer.finish_progress();
        summarize(skipped, count, printer)
    }

    /// Finds all images and passes them on unprocessed, one by one, with their names. Images that cannot be read, or
    /// for which `each` returns an error of the image itself, are reported and counted; the outcome reflects them.
    pub(crate) fn each_image(
        &self,
        printer: &Printer,
        mut each: impl FnMut(&str, &RgbImage) -> anyhow::Result<Result<(), vitral::Error>>,
    ) -> anyhow::Result<Outcome> {
        let Found { sources, mut skipped } = self.sources(printer)?;
        let count = sources.len() + skipped;
        let (mut notes, decoding) = (Notes::default(), self.decoding());
        for source in &sources {
            let fault = match source.read(&decoding) {
                Ok(decoded) => {
                    let image = notes.kept().keep(&source.name(), decoded);
                    notes.print(&source.name(), printer);
                    each(&source.name(), &image)?.err().map(anyhow::Error::from)
                }
                Err(error) => Some(in_flags(&error)),
            };
            printer.flush()?;
            if let Some(fault) = fault {
                skipped += 1;
                skip(&source.name(), &fault, printer);
            }
        }
        summarize(skipped, count, printer)
    }

    /// Refuses to write to a file that is one of the images, the list of them, or a part of the model.
    pub(crate) fn refuse_output(&self, output: &Path, model: Option<&Path>) -> anyhow::Result<()> {
        let Ok(place) = output.canonicalize() else { return Ok(()) };
        let same = |given: &&PathBuf| given.canonicalize().is_ok_and(|given| given == place);
        if let Some(given) = self.images.iter().chain(&self.files_from).find(same) {
            bail!(Usage(format!("`{}` is both input and output; choose another output", given.display())));
        }
        if model.is_some_and(|model| model.canonicalize().is_ok_and(|model| place.starts_with(model))) {
            bail!(Usage(format!("`{}` belongs to the model; choose another output", output.display())));
        }
        Ok(())
    }

    /// Number of images that go through the model together.
    pub(crate) fn batch(&self) -> usize {
        usize::from(self.batch)
    }

    /// How images are decoded. Whoever allows more pixels allows their bytes too.
    fn decoding(&self) -> DecodeOptions {
        let bytes = self.max_pixels.saturating_mul(BYTES_PER_PIXEL).max(Limits::DEFAULT.max_bytes);
        let limits = Limits::DEFAULT.max_pixels(self.max_pixels).max_bytes(bytes);
        DecodeOptions::default().limits(limits).sample_range(self.sample_range)
    }

    /// All images, in the order given. What could not be looked at is reported and counted.
    fn sources(&self, printer: &Printer) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let listed = self.files_from.as_deref().map(listed).transpose()?.unwrap_or_default();
        for image in self.images.iter().chain(&listed) {
            if image.as_os_str() == "-" {
                if self.files_from.as_deref() == Some(Path::new("-")) {
                    bail!(Usage("standard input cannot be both an image and the list of files".into()));
                }
                if found.sources.iter().any(|source| matches!(source, Source::StandardInput(_))) {
                    bail!(Usage("`-` was given twice, but there is only one standard input".into()));
                }
                found.sources.push(Source::StandardInput(standard_input()?));
            } else if image.is_dir() {
                found.add_folder(image, printer)?;
            } else if ArchivedImages::is_archive(image) && image.is_file() {
                found.add_archive(image, printer)?;
            } else if !image.exists() && is_pattern(image) {
                found.add_pattern(image, printer)?;
            } else {
                found.sources.push(Source::File(image.clone()));
            }
        }
        Ok(found)
    }
}

/// The images on the command line.
#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    /// How many files and folders could not be looked at.
    skipped: usize,
}

impl Found {
    /// Adds all images in a folder and its sub-folders, in order of name.
    fn add_folder(&mut self, folder: &Path, printer: &Printer) -> anyhow::Result<()> {
        let found =
            images_in(folder).with_context(|| format!("`{}`: the folder could not be read", folder.display()))?;
        for (path, why) in found.faults() {
            printer.fault(format_args!("skipped: `{}`: {why}", path.display()));
        }
        self.skipped += found.faults().len();
        let others = passed_over(found.others());
        if found.images().is_empty() && found.faults().is_empty() {
            let (folder, endings) = (folder.display(), IMAGE_ENDINGS.join(", ."));
            let instead = others.map_or(String::new(), |others| format!(", only {others}"));
            bail!("`{folder}`: no images in this folder{instead}; expected files ending in .{endings}");
        }
        if let Some(others) = others {
            printer.note(format_args!("`{}`: passed over {others}", folder.display()));
        }
        self.sources.extend(found.into_images().into_iter().map(Source::File));
        Ok(())
    }

    /// Adds all images in an archive, in order of name.
    fn add_archive(&mut self, archive: &Path, printer: &Printer) -> anyhow::Result<()> {
        let images = Arc::new(ArchivedImages::open(archive)?);
        if images.is_empty() {
            bail!(
                "`{}`: no images in this archive; expected files ending in .{}",
                archive.display(),
                IMAGE_ENDINGS.join(", .")
            );
        }
        if let Some(others) = passed_over(images.others()) {
            printer.note(format_args!("`{}`: passed over {others}", archive.display()));
        }
        self.sources.extend((0..images.len()).map(|index| Source::Member(Arc::clone(&images), index)));
        Ok(())
    }

    /// Adds everything that a pattern matches, including the contents of matched folders.
    fn add_pattern(&mut self, pattern: &Path, printer: &Printer) -> anyhow::Result<()> {
        let text = pattern.to_string_lossy();
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let found =
            glob::glob_with(&text, options).map_err(|fault| Usage(format!("`{text}`: invalid pattern: {fault}")))?;
        let before = self.sources.len() + self.skipped;
        for path in found {
            let path = path.with_context(|| format!("`{text}`"))?;
            if path.is_dir() {
                // A matched folder without images is not an error.
                let _ = self.add_folder(&path, printer);
            } else {
                self.sources.push(Source::File(path));
            }
        }
        if self.sources.len() + self.skipped == before {
            bail!("`{text}`: no such file, and no match as a pattern");
        }
        Ok(())
    }
}

/// An error of an image, with the flag in place of the library's option.
fn in_flags(error: &ImageError) -> anyhow::Error {
    let text = error.to_string();
    let flags = ["`Limits::max_pixels`", "`Limits::max_bytes`"];
    anyhow::anyhow!(flags.iter().fold(text, |text, option| text.replace(option, "`--max-pixels`")))
}

/// Reports an image that could not be used.
fn skip(name: &str, error: &anyhow::Error, printer: &Printer) {
    let line = fault::line(error);
    // Errors of files contain the file name; those of standard input do not.
    let line = if line.contains(name) { line } else { format!("`{name}`: {line}") };
    printer.fault(format_args!("skipped: {line}"));
}

/// Reports how many images were skipped, and returns the resulting outcome.
fn summarize(skipped: usize, count: usize, printer: &Printer) -> anyhow::Result<Outcome> {
    if skipped == 0 {
        return Ok(Outcome::Done);
    }
    printer.flush()?;
    let noun = if count == 1 { "image" } else { "images" };
    printer.fault(format_args!("{skipped} of {count} {noun} could not be used"));
    Ok(Outcome::Incomplete)
}

/// The paths in a file, one per line.
fn listed(file: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()).context("standard input could not be read")?,
        false => std::fs::read_to_string(file).with_context(|| format!("`{}` could not be read", file.display()))?,
    };
    let lines = text.trim_start_matches('\u{FEFF}').lines().map(|line| line.trim_end_matches('\r'));
    Ok(lines.filter(|line| !line.trim().is_empty()).map(PathBuf::from).collect())
}

fn standard_input() -> anyhow::Result<Vec<u8>> {
    let limit = Limits::default().max_bytes;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).context("standard input could not be read")?;
    if bytes.len() as u64 > limit {
        bail!("standard input: expected an image of at most {limit} bytes, found more");
    }
    Ok(bytes)
}

fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?', '[']))
}
