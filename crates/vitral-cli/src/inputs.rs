//! Images given on the command line: files, folders, patterns, standard input.

use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use vitral::Model;
use vitral::image::{ImageError, Limits, RgbImage, decode, open};
use vitral::pipeline::{Batch, BatchOptions, batches};

use crate::fault::{self, Usage};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Extensions of image files in a folder. A file that is given by name may have any name.
const EXTENSIONS: [&str; 11] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff"];

/// Which images, and how many at a time.
#[derive(Args, Debug)]
pub(crate) struct InputArgs {
    /// Images: files, folders (searched recursively, in order of name), quoted patterns such as `'photos/**/*.jpg'`, or
    /// `-` for one image from standard input
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Batch size; it does not affect the results
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
}

/// One image.
pub(crate) enum Source {
    File(PathBuf),
    StandardInput(Vec<u8>),
}

impl Source {
    /// Its name in results.
    pub(crate) fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::StandardInput(_) => "-".into(),
        }
    }

    fn read(&self) -> Result<RgbImage, ImageError> {
        match self {
            Source::File(path) => open(path, &Limits::default()),
            Source::StandardInput(bytes) => decode(bytes, &Limits::default()),
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
        let sources = self.sources()?;
        let batch = NonZero::new(usize::from(self.batch)).unwrap_or(NonZero::<usize>::MIN);
        let options = BatchOptions { batch, threads: settings.threads() };
        let mut skipped = 0;
        printer.start_progress(sources.len(), "images");
        batches(&sources, &preprocess, options, &settings.device, Source::read, |batch| -> anyhow::Result<()> {
            for (index, error) in &batch.faults {
                skip(&sources[*index].name(), &anyhow::anyhow!("{error}"), printer);
            }
            skipped += batch.faults.len();
            let names: Vec<String> = batch.indices.iter().map(|&index| sources[index].name()).collect();
            if !names.is_empty() {
                each(&names, &batch)?;
            }
            Ok(printer.advance(batch.indices.len() + batch.faults.len())?)
        })?;
        printer.finish_progress();
        summarize(skipped, sources.len(), printer)
    }

    /// Finds all images and passes them on unprocessed, one by one, with their names. Images that cannot be read, or
    /// for which `each` returns an error of the image itself, are reported and counted; the outcome reflects them.
    pub(crate) fn each_image(
        &self,
        printer: &Printer,
        mut each: impl FnMut(&str, &RgbImage) -> anyhow::Result<Result<(), vitral::Error>>,
    ) -> anyhow::Result<Outcome> {
        let sources = self.sources()?;
        let mut skipped = 0;
        for source in &sources {
            let fault = match source.read() {
                Ok(image) => each(&source.name(), &image)?.err().map(anyhow::Error::from),
                Err(error) => Some(anyhow::anyhow!("{error}")),
            };
            printer.flush()?;
            if let Some(fault) = fault {
                skipped += 1;
                skip(&source.name(), &fault, printer);
            }
        }
        summarize(skipped, sources.len(), printer)
    }

    /// Number of images that go through the model together.
    pub(crate) fn batch(&self) -> usize {
        usize::from(self.batch)
    }

    /// All images, in the order given.
    fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for image in &self.images {
            if image.as_os_str() == "-" {
                if sources.iter().any(|source| matches!(source, Source::StandardInput(_))) {
                    bail!(Usage("`-` was given twice, but there is only one standard input".into()));
                }
                sources.push(Source::StandardInput(standard_input()?));
            } else if image.is_dir() {
                add_folder(image, &mut sources)?;
            } else if !image.exists() && is_pattern(image) {
                add_pattern(image, &mut sources)?;
            } else {
                sources.push(Source::File(image.clone()));
            }
        }
        Ok(sources)
    }
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

/// Adds all images in a folder and its sub-folders, in order of name.
fn add_folder(folder: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    let before = sources.len();
    let shown = |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    for entry in walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(shown) {
        let entry = entry.with_context(|| format!("`{}`: the folder could not be read", folder.display()))?;
        let extension = entry.path().extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if entry.file_type().is_file() && extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) {
            sources.push(Source::File(entry.into_path()));
        }
    }
    if sources.len() == before {
        bail!("`{}`: no images in this folder; expected files ending in .{}", folder.display(), EXTENSIONS.join(", ."));
    }
    Ok(())
}

/// Adds everything that a pattern matches, including the contents of matched folders.
fn add_pattern(pattern: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    let text = pattern.to_string_lossy();
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let found =
        glob::glob_with(&text, options).map_err(|fault| Usage(format!("`{text}`: invalid pattern: {fault}")))?;
    let before = sources.len();
    for path in found {
        let path = path.with_context(|| format!("`{text}`"))?;
        if path.is_dir() {
            // A matched folder without images is not an error.
            let _ = add_folder(&path, sources);
        } else {
            sources.push(Source::File(path));
        }
    }
    if sources.len() == before {
        bail!("`{text}`: no such file, and no match as a pattern");
    }
    Ok(())
}
