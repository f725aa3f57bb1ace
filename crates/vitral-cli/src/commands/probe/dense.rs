//! `vitral probe --dense`: patch tokens, on images with masks.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use clap::Args;
use vitral::Model;
use vitral::message::count;
use vitral_train::evaluate::{DenseOptions, DenseReport, probe_dense};

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::settings::Settings;

/// Classes that are listed.
const LISTED: usize = 30;

#[derive(Args, Debug)]
pub(super) struct DenseArgs {
    /// Measure patch tokens on images with masks, by the mean intersection over union
    #[arg(long, conflicts_with_all = ["neighbors", "shots", "pool"])]
    dense: bool,
    /// Values of masks that belong to no class, separated by commas, or `none` [default: 255]
    #[arg(long, value_name = "VALUE,…", requires = "dense", value_parser = ignored)]
    ignore_index: Option<Ignored>,
    /// The short side that images are resized to, in pixels [default: that of the model's input]
    #[arg(long, value_name = "PIXELS", requires = "dense")]
    short_side: Option<NonZero<u16>>,
    /// Steps of fitting the classifier
    #[arg(long, value_name = "N", default_value = "2000", requires = "dense", value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// A folder for the predicted masks, and for a sheet of the first beside the true ones
    #[arg(long, short, alias = "out", value_name = "FOLDER", requires = "dense")]
    output: Option<PathBuf>,
}

/// Values that belong to no class.
#[derive(Clone, Debug)]
struct Ignored(Vec<u16>);

fn ignored(text: &str) -> Result<Ignored, String> {
    if text.trim() == "none" {
        return Ok(Ignored(vec![]));
    }
    let values: Result<Vec<u16>, _> = text.split(',').map(|value| value.trim().parse()).collect();
    values.map(Ignored).map_err(|_| "expected numbers from 0 to 65535, separated by commas, or `none`".into())
}

impl DenseArgs {
    /// What was asked for, if patch tokens are to be measured.
    pub(super) fn options(&self) -> Option<DenseOptions> {
        let mut options = DenseOptions::default();
        if let Some(Ignored(values)) = &self.ignore_index {
            options.ignored = values.clone();
        }
        options.short_side = self.short_side.map(|side| usize::from(side.get()));
        options.steps = self.steps as usize;
        options.output = self.output.clone();
        self.dense.then_some(options)
    }
}

pub(super) fn run(
    model: &Model,
    data: &Path,
    options: &DenseOptions,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    if settings.ranks.is_several() {
        return Err(Usage("`--dense` works in one process; leave out the launcher".into()).into());
    }
    printer.note_precision(model);
    let found = Progress::of(printer, |watcher| probe_dense(model, data, options, watcher))?;
    if settings.json {
        printer.json(&found)?;
    } else {
        show(&found, printer)?;
    }
    Ok(if found.skipped > 0 { Outcome::Incomplete } else { Outcome::Done })
}

fn show(found: &DenseReport, printer: &Printer) -> anyhow::Result<()> {
    let DenseReport { train, patches, test, width, overlap, files, .. } = found;
    printer.line(format_args!(
        "tokens of width {width}; fitted on {} of {}, tested on {}",
        format_args!("{patches} patches"),
        count(*train, "image"),
        count(*test, "image")
    ))?;
    printer.line(format_args!("{:<22} {:6.2} %", "mean IoU", 100.0 * overlap.mean_iou))?;
    printer.line(format_args!("{:<22} {:6.2} %", "mean recall", 100.0 * overlap.mean_recall))?;
    printer.line(format_args!("{:<22} {:6.2} %", "pixel accuracy", 100.0 * overlap.pixel_accuracy))?;
    let mut classes: Vec<_> = overlap.classes.iter().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.pixels));
    let total: u64 = classes.iter().map(|class| class.pixels).sum();
    printer.line(printer.heading(format_args!("{:<22} {:>8} {:>8} {:>8}", "class", "IoU", "recall", "of all")))?;
    let share = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{:.1} %", 100.0 * value));
    for class in classes.iter().take(LISTED) {
        let of_all = share((total > 0).then(|| class.pixels as f64 / total as f64));
        printer.line(format_args!(
            "{:<22} {:>8} {:>8} {:>8}",
            class.name,
            share(class.iou),
            share(class.recall),
            of_all
        ))?;
    }
    if classes.len() > LISTED {
        printer.line(format_args!("and {} more, with --json", classes.len() - LISTED))?;
    }
    if let Some((last, others)) = files.split_last() {
        let last = Path::new(last);
        let (folder, name) = (last.parent().unwrap_or(last), last.file_name().unwrap_or_default());
        let written = count(others.len() + 1, "file");
        printer.line(format_args!("wrote {written} to `{}`, `{}` last", folder.display(), name.display()))?;
    }
    Ok(())
}
