//! Images given on the command line: files, folders, patterns, standard input.

mod dealt;
mod found;
mod notes;
mod reading;
mod skipped;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use vitral::Model;
use vitral::image::preprocess::Channels;
use vitral::image::{Image, ImageError, Limits};
use vitral::pipeline::{Batch, BatchOptions, batches};
use vitral_train::data::ArchivedImages;

pub(crate) use found::{Found, Source};
use notes::Notes;
pub(crate) use reading::ReadingArgs;
pub(crate) use skipped::{Records, Skipped};

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Which images, and how many at a time. Without `REQUIRED`, there may be none.
#[derive(Args, Debug)]
pub(crate) struct InputArgs<const REQUIRED: bool = true> {
    /// Images: files, folders (searched recursively, in order of name), tar or zip archives, quoted patterns such as
    /// `'photos/**/*.jpg'`, or `-` for one image from standard input
    #[arg(value_name = "IMAGE", required_unless_present_any = if REQUIRED { &["files_from"][..] } else { &[] })]
    images: Vec<PathBuf>,
    /// A text file with one path per line, after those on the command line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// Images that some uses of a command need and others do not; the command checks.
pub(crate) type OptionalInputArgs = InputArgs<false>;

impl<const REQUIRED: bool> InputArgs<REQUIRED> {
    /// Finds all images, preprocesses them ahead of the model and passes them on in batches, with the name of each.
    /// Images that cannot be read are reported and counted; the outcome reflects them.
    pub(crate) fn each_batch(
        &self,
        model: &Model,
        settings: &Settings,
        printer: &Printer,
        mut each: impl FnMut(&[String], &Batch) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let found = self.find(printer)?;
        let count = found.count();
        let skipped = self.take_batches(found, model, settings, printer, |batch, names, _| {
            if names.is_empty() { Ok(()) } else { each(names, batch) }
        })?;
        summarize(skipped, count, printer)
    }

    /// Like [`InputArgs::each_batch`], for results of which each is printed: `each` returns a row of results for every
    /// image, `show` prints one, and images that cannot be used get a record in their place if `found` says so.
    pub(crate) fn each_row<R>(
        &self,
        found: Found,
        model: &Model,
        settings: &Settings,
        printer: &Printer,
        mut each: impl FnMut(&[String], &Batch) -> anyhow::Result<Vec<R>>,
        mut show: impl FnMut(&str, R) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let records = found.records;
        let record = |skipped: &Skipped| if records == Records::Json { skipped.print(printer) } else { Ok(()) };
        found.skipped.iter().try_for_each(record)?;
        let count = found.count();
        let skipped = self.take_batches(found, model, settings, printer, |batch, names, skipped| {
            let rows = if names.is_empty() { vec![] } else { each(names, batch)? };
            let mut skipped = skipped.into_iter().peekable();
            for ((index, name), row) in batch.indices.iter().zip(names).zip(rows) {
                while let Some((_, before)) = skipped.next_if(|(place, _)| place < index) {
                    record(&before)?;
                }
                show(name, row)?;
            }
            skipped.try_for_each(|(_, after)| record(&after))
        })?;
        summarize(skipped, count, printer)
    }

    /// Passes images on in batches, with their names, and those between them that cannot be used, with their places. Gives
    /// the number of those that cannot be used.
    fn take_batches(
        &self,
        found: Found,
        model: &Model,
        settings: &Settings,
        printer: &Printer,
        mut each: impl FnMut(&Batch, &[String], Vec<(usize, Skipped)>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let preprocess = model.preprocess()?;
        let Found { sources, skipped, .. } = found;
        let mut skipped = skipped.len();
        let options = BatchOptions { batch: self.reading.batch(), threads: settings.threads() };
        let (mut notes, decoding) = (Notes::default(), self.reading.decoding());
        let kept = notes.kept();
        let channels = preprocess.channels;
        let read = |source: &Source| Ok(kept.keep(&source.name(), source.read(channels, &decoding)?));
        printer.start_progress(sources.len(), "images");
        batches(&sources, &preprocess, options, &settings.device, read, |batch| -> anyhow::Result<()> {
            let skip = |(index, error): &(usize, ImageError)| {
                (*index, Skipped::new(sources[*index].name(), &in_flags(error), printer))
            };
            let faults: Vec<(usize, Skipped)> = batch.faults.iter().map(skip).collect();
            skipped += faults.len();
            let names: Vec<String> = batch.indices.iter().map(|&index| sources[index].name()).collect();
            names.iter().for_each(|name| notes.print(name, printer));
            each(&batch, &names, faults)?;
            Ok(printer.advance(batch.indices.len() + batch.faults.len())?)
        })?;
        printer.finish_progress();
        Ok(skipped)
    }

    /// Passes images on unprocessed, decoded to these channels, one by one, with their names. Those that cannot be read, or for which `each` returns
    /// an error of the image itself, are reported and counted, and passed on as such; the outcome reflects them.
    pub(crate) fn each_image(
        &self,
        found: Found,
        channels: Channels,
        printer: &Printer,
        mut each: impl FnMut(Seen<'_>) -> anyhow::Result<Result<(), vitral::Error>>,
    ) -> anyhow::Result<Outcome> {
        let Found { sources, skipped, .. } = found;
        let (mut count, mut missed) = (sources.len(), 0);
        let mut leave = |skipped: Skipped, each: &mut dyn FnMut(Seen<'_>) -> _| -> anyhow::Result<()> {
            missed += 1;
            Ok(each(Seen::Skipped(skipped))??)
        };
        for skipped in skipped {
            count += 1;
            leave(skipped, &mut each)?;
        }
        let (mut notes, decoding) = (Notes::default(), self.reading.decoding());
        for source in &sources {
            let name = source.name();
            let fault = match source.read(channels, &decoding) {
                Ok(decoded) => {
                    let image = notes.kept().keep(&name, decoded);
                    notes.print(&name, printer);
                    each(Seen::Image(&name, &image))?.err().map(anyhow::Error::from)
                }
                Err(error) => Some(in_flags(&error)),
            };
            printer.flush()?;
            if let Some(fault) = fault {
                leave(Skipped::new(name, &fault, printer), &mut each)?;
                printer.flush()?;
            }
        }
        summarize(missed, count, printer)
    }

    /// Whether no image is named, directly or by a list.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty() && self.files_from.is_none()
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
        self.reading.batch().get()
    }

    /// How images are read.
    pub(crate) fn reading(&self) -> &ReadingArgs {
        &self.reading
    }

    /// All images, in the order given. What could not be looked at is reported and counted.
    pub(crate) fn find(&self, printer: &Printer) -> anyhow::Result<Found> {
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
            } else if is_address(image) {
                let fault = anyhow::anyhow!(
                    "addresses are not fetched; pipe the image in, with `-` in its place: `curl -s ADDRESS | vitral … -`"
                );
                found.skipped.push(Skipped::new(image.display().to_string(), &fault, printer));
            } else if !image.exists() && is_pattern(image) {
                found.add_pattern(image, printer)?;
            } else {
                found.sources.push(Source::File(image.clone()));
            }
        }
        Ok(found)
    }
}

/// An error of an image, with the flag in place of the library's option.
pub(crate) fn in_flags(text: &impl std::fmt::Display) -> anyhow::Error {
    let text = text.to_string();
    let flags = ["`Limits::max_pixels`", "`Limits::max_bytes`"];
    anyhow::anyhow!(flags.iter().fold(text, |text, option| text.replace(option, "`--max-pixels`")))
}

/// One image of the command line.
pub(crate) enum Seen<'a> {
    /// Its name and pixels.
    Image(&'a str, &'a Image),
    /// It could not be used.
    Skipped(Skipped),
}

/// Reports how many images were skipped, and returns the resulting outcome.
pub(crate) fn summarize(skipped: usize, count: usize, printer: &Printer) -> anyhow::Result<Outcome> {
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

fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)))
}

fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?', '[']))
}
