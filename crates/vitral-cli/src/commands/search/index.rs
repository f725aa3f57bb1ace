//! `vitral search index`: the features of a folder of images in one file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use vitral::Model;
use vitral::features::FeatureKind;
use vitral::files::{IMAGE_ENDINGS, images_in, passed_over};
use vitral::message::count;
use vitral::search::{BuildOptions, Builder, Done, Ended, Index, Listed, Origin, SearchError, Stored};
use vitral_train::data::classes_by_folder;

use crate::fault::{self, Usage};
use crate::inputs::{ReadingArgs, in_flags, summarize};
use crate::interrupt;
use crate::outcome::Outcome;
use crate::output::OutputFile;
use crate::pool::vectors;
use crate::printer::Printer;
use crate::settings::{ImageModelArgs, Settings};

/// Compute the features of a folder of images, or bring them up to date
///
/// Images are searched in the folder and its sub-folders. If the index exists, only images that are new or whose files have
/// changed are computed; those that are gone are left out. Interrupted work goes on where it stopped when the same command
/// runs again. An image's label is the name of the folder that it is in, below folders of splits such as `train`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral search index photos/ --model dinov2-small --out photos.safetensors
  vitral search index flowers/ --model dinov2-small --pool class-and-mean --f16 --out flowers.safetensors

The file is safetensors: `features` [images, width] as `vitral embed` gives them, `names` (UTF-8, each ended by a zero \
byte), `labels`, `small` [images, 32, 32] in gray, and what is needed to notice changes.")]
pub(super) struct IndexArgs {
    /// The folder of the images
    folder: PathBuf,
    /// The index
    #[arg(long, short, alias = "output", value_name = "FILE.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    model: ImageModelArgs,
    /// Which features to compute
    #[arg(long, value_name = "POOL", value_parser = vectors(), default_value = "pooled")]
    pool: FeatureKind,
    /// Store features in 16 bits: half the size; cosines change by less than 0.001
    #[arg(long)]
    f16: bool,
    /// Compute all images again, whatever the index holds
    #[arg(long)]
    rebuild: bool,
    #[command(flatten)]
    reading: ReadingArgs,
}

pub(super) fn run(args: &IndexArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let (out, stored) = (&args.out, if args.f16 { Stored::F16 } else { Stored::F32 });
    if out.extension().is_none_or(|ending| ending != "safetensors") {
        bail!(Usage(format!("`--out {}`: expected a name that ends in .safetensors", out.display())));
    }
    // A place that cannot be written is found out before the work.
    drop(OutputFile::create(out)?);
    let (listed, mut skipped) = listed(&args.folder, printer)?;
    let previous = previous(args)?;
    let chosen = args.model.chosen();
    let model = args.model.load(settings)?;
    printer.note_precision(&model);
    // A name on a hub stays as it is; a path must lead there from anywhere.
    let location = chosen.map(|path| path.canonicalize().unwrap_or(path).display().to_string());
    let origin = Origin::of(&model, args.pool, args.reading.sample_range(), location)?;
    let folder = args.folder.canonicalize().unwrap_or_else(|_| args.folder.clone());
    let total = listed.len() + skipped;
    let (before, of) = previous.as_ref().map_or((0, None), |old| (old.len(), Some(old.folder().to_owned())));
    let builder = Builder::new(origin, &folder, listed, previous.as_ref()).map_err(|fault| match fault {
        SearchError::OtherModel { .. } => {
            let made_with = previous.as_ref().map(|old| old.origin()).filter(|old| old.model() != model.name());
            let remedy = made_with.map_or(String::new(), |old| match old.location() {
                Some(place) => format!("it was made with `{place}`: give `--model {place}`, "),
                None => "it was made with the built-in model: leave out `--model`, ".to_owned(),
            });
            anyhow::anyhow!("`{}`: {fault}; {remedy}choose another `--out`, or add `--rebuild`", out.display())
        }
        fault => fault.into(),
    })?;
    drop(previous);
    if let Some(of) = of.filter(|of| before > 0 && builder.kept() == 0 && *of != folder) {
        bail!(
            "`{}`: expected an index of `{}`, found one of `{}`; choose another `--out`, or add `--rebuild`",
            out.display(),
            folder.display(),
            of.display()
        );
    }
    let (kept, gone) = (builder.kept(), builder.gone());
    if kept > 0 {
        printer.note(format_args!("{} already in the index", count(kept, "image")));
    }
    let (index, ended, faults) = build(builder, args, &model, stored, settings, printer)?;
    skipped += faults;
    if index.is_empty() && gone == 0 {
        // Nothing could be read: an empty file would look like a result.
        return summarize(skipped, total, printer);
    }
    index.write(out, stored)?;
    let computed = index.len() - kept;
    if settings.json {
        printer.json(&serde_json::json!({
            "output": out.display().to_string(),
            "images": index.len(),
            "computed": computed,
            "kept": kept,
            "removed": gone,
            "missing": index.missing(),
            "width": index.width(),
            "model": model.name(),
            "precision": model.precision().name(),
        }))?;
    } else {
        let gone = if gone > 0 { format!(", {gone} no longer there") } else { String::new() };
        let images = count(index.len(), "image");
        printer.note(format_args!("{images} in `{}`: {computed} computed{gone}", out.display()));
    }
    if ended == Ended::Stopped {
        printer.fault(format_args!("interrupted: run the same command again to compute {} more", index.missing()));
        return Ok(Outcome::Interrupted);
    }
    summarize(skipped, total, printer)
}

/// The index that is there already.
fn previous(args: &IndexArgs) -> anyhow::Result<Option<Index>> {
    if !args.out.exists() {
        return Ok(None);
    }
    // What is no index is not written over, whatever is asked.
    Ok(Some(Index::read(&args.out)?).filter(|_| !args.rebuild))
}

/// The images of a folder with their labels, and how many files could not be looked at.
fn listed(folder: &Path, printer: &Printer) -> anyhow::Result<(Vec<Listed>, usize)> {
    let place = folder.display();
    let found = images_in(folder).with_context(|| format!("`{place}`: the folder could not be read"))?;
    let mut skipped = found.faults().len();
    for (path, why) in found.faults() {
        printer.fault(format_args!("skipped: `{}`: {why}", path.display()));
    }
    let others = passed_over(found.others());
    if found.images().is_empty() && skipped == 0 {
        let instead = others.map_or(String::new(), |others| format!(", only {others}"));
        bail!("`{place}`: no images in this folder{instead}; expected files ending in .{}", IMAGE_ENDINGS.join(", ."));
    }
    if let Some(others) = others {
        printer.note(format_args!("`{place}`: skipped {others}"));
    }
    let mut names = Vec::with_capacity(found.images().len());
    for path in found.images() {
        let inside = path.strip_prefix(folder).unwrap_or(path);
        let parts: Option<Vec<&str>> = inside.iter().map(|part| part.to_str()).collect();
        match parts {
            Some(parts) => names.push(parts.join("/")),
            None => {
                skipped += 1;
                printer.fault(format_args!(
                    "skipped: `{}`: expected a name in UTF-8, found other bytes; rename the file",
                    path.display()
                ));
            }
        }
    }
    let labels = classes_by_folder(&names);
    Ok((names.into_iter().zip(labels).map(|(name, label)| Listed { name, label }).collect(), skipped))
}

/// Time between two saves of an unfinished index, at least.
const SAVING: Duration = Duration::from_secs(60);

/// Computes what is to be done, and how many images could not be used.
fn build(
    builder: Builder,
    args: &IndexArgs,
    model: &Model,
    stored: Stored,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<(Index, Ended, usize)> {
    let options = BuildOptions::new(settings.threads()).batch(args.reading.batch()).decode(args.reading.decoding());
    let interrupted = interrupt::gracefully();
    let (mut faults, mut saved, mut pause) = (0, Instant::now(), SAVING);
    printer.start_progress(builder.todo(), "images");
    let mut each = |index: &Index, done: Done| -> anyhow::Result<ControlFlow<()>> {
        for (name, note) in &done.notes {
            printer.note(format_args!("note: `{name}`: {note}"));
        }
        for (_, fault) in &done.faults {
            printer.fault(format_args!("skipped: {}", fault::line(&in_flags(fault))));
        }
        faults += done.faults.len();
        printer.advance(done.images + done.faults.len())?;
        if saved.elapsed() > pause {
            let start = Instant::now();
            index.write(&args.out, stored)?;
            // Of a large index, saving takes a while itself.
            pause = SAVING.max(20 * start.elapsed());
            saved = Instant::now();
        }
        let stop = interrupted.load(Ordering::Relaxed);
        Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let built = builder.run(model, &options, &mut each);
    printer.finish_progress();
    let (index, ended) = built?;
    Ok((index, ended, faults))
}
