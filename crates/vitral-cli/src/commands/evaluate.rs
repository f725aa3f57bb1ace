//! `vitral evaluate`: measure a classifier.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;
use vitral::config::Problem;
use vitral::image::Preprocess;
use vitral::{Model, Tensor};
use vitral_train::data::{
    Corner, Dataset, Loader, LoaderOptions, Match, Relabeled, Split, ValidationSplit, View, open_numbers, open_part,
};
use vitral_train::evaluate::{Features, evaluate, features, mirrored};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{ModelArgs, Settings};

/// Measure a classifier on labeled images
///
/// Top-1 and top-5 accuracy, loss, calibration error, per-class precision, recall and F1, and a confusion matrix; for
/// images with several labels, average precision and F1; for a regression, its errors. The data's classes are matched to the model's by name, and
/// images of classes that the model does not know are left out and reported. Only if no name fits are classes matched by
/// number, or in order if there are as many.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral evaluate --model runs/flowers/best flowers/
  vitral evaluate --model vit-base-patch16-224 imagenet/val --batch 32 --mirror
  vitral evaluate --model runs/flowers/best flowers/ --five-crops --mirror
  vitral evaluate --model runs/flowers/best flowers/ --json | jq .top1

Images: a folder with one sub-folder per class, optionally inside `train` and `test` (or `val`) folders, a tar of such a \
folder, a list (.csv, .jsonl), Parquet as on the Hugging Face hub, idx or CIFAR files.")]
pub(crate) struct EvaluateArgs {
    /// The labeled images
    data: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Which split of the data to use, if it has splits
    #[arg(long, value_enum, default_value_t)]
    split: Part,
    /// Batch size; it does not affect the results
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Average the logits of each image and its mirror image
    #[arg(long)]
    mirror: bool,
    /// Average the logits of the center and four corner crops of each image; with `--mirror`, of ten views
    #[arg(long)]
    five_crops: bool,
}

/// A split of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    #[value(alias = "training")]
    Train,
    #[value(aliases = ["val", "valid", "dev"])]
    Validation,
    #[default]
    Test,
}

impl From<Part> for Split {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Split::Train,
            Part::Validation => Split::Validation,
            Part::Test => Split::Test,
        }
    }
}

pub(crate) fn run(args: &EvaluateArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let model = args.model.load(settings)?;
    model.check_classifies()?;
    // Data without splits is evaluated whole.
    let whole =
        ValidationSplit { fraction: if args.split == Part::Train { 0.0 } else { 1.0 }, ..ValidationSplit::default() };
    let regression = model.vit().config().problem == Problem::Regression;
    let open = if regression { open_numbers } else { open_part };
    let opened = open(&args.data, args.split.into(), whole)?;
    let count = opened.dataset.len();
    if opened.parts.is_empty() {
        printer.note(format_args!("the data is not split: evaluating all of its {count} images"));
    } else if !opened.parts.contains(&args.split.into()) {
        let name = format!("{:?}", Split::from(args.split)).to_lowercase();
        printer.note(format_args!("the data has no {name} split: evaluating the {count} images of another one"));
    }
    let data = opened.dataset;
    opened.notes.iter().for_each(|note| printer.note(note));
    let preprocess = model.preprocess()?;
    let matched = match regression {
        true => None,
        false => {
            Some(Arc::new(Relabeled::to(Arc::clone(&data), model.vit().config().classes, model.labels().names())?))
        }
    };
    let data: Arc<dyn Dataset> = matched.clone().map_or(data, |matched| matched);
    let views = if args.five_crops { corners(&data, &preprocess)? } else { Vec::new() };
    let loader =
        Loader::new(Arc::clone(&data), LoaderOptions::evaluation(preprocess, args.batch.into()), &settings.device)?;
    printer.start_progress((1 + views.len()) * data.len(), "images");
    let shown = |pixels: &Tensor| {
        let logits = logits(&model, pixels, args.mirror)?;
        // A closed output is noticed when the report is printed.
        let _ = printer.advance(pixels.extent(0));
        Ok(logits)
    };
    let evaluated = || {
        let batch = usize::from(args.batch);
        let view = |(view, after): (View, Preprocess)| {
            features(&Loader::new(Arc::new(view), LoaderOptions::evaluation(after, batch), &settings.device)?, shown)
        };
        let views: Vec<Features> = views.into_iter().map(view).collect::<Result<_, _>>()?;
        let mut seen = 0;
        evaluate(&loader, |pixels| {
            let middle = shown(pixels)?;
            let first = seen;
            seen += pixels.extent(0);
            Ok(averaged(&model, &middle, &views, first)?)
        })
    };
    let report = evaluated();
    printer.finish_progress();
    let mut report = report?;
    if let Some(matched) = matched.filter(|matched| matched.how() != Match::Names || !matched.unknown().is_empty()) {
        report.note_matching(&matched);
    }
    for skipped in loader.skipped() {
        printer.fault(format_args!("skipped: {}", skipped.fault));
    }
    if settings.json {
        printer.json(&Computed { precision: model.precision().name(), report: &report })?;
    } else {
        printer.line(&report)?;
        printer.line(format_args!("computed in {}", model.precision()))?;
    }
    Ok(if report.skipped() > 0 { Outcome::Incomplete } else { Outcome::Done })
}

/// A report, and the precision that it was computed in.
#[derive(Serialize)]
struct Computed<'a, R: Serialize> {
    precision: &'static str,
    #[serde(flatten)]
    report: &'a R,
}

/// Views of the data at the four corners of each image, each with the preprocessing that remains to be done.
fn corners(data: &Arc<dyn Dataset>, preprocess: &Preprocess) -> anyhow::Result<Vec<(View, Preprocess)>> {
    let views = Corner::ALL.map(|corner| View::of(Arc::clone(data), preprocess, corner));
    let all: Option<Vec<_>> = views.into_iter().collect();
    all.context(
        "this model's preprocessing does not end in a crop, so all views would be the same: leave `--five-crops` out",
    )
}

/// Logits of the center crops, averaged with those of the other views, whose rows begin at `first`.
fn averaged(model: &Model, middle: &Tensor, views: &[Features], first: usize) -> Result<Tensor, vitral::Error> {
    if views.is_empty() {
        return Ok(middle.clone());
    }
    let share = 1.0 / (1 + views.len()) as f32;
    let (mut logits, classes) = (middle.to_vec()?, middle.shape().last());
    for (row, logits) in logits.chunks_exact_mut(classes).enumerate() {
        for (class, logit) in logits.iter_mut().enumerate() {
            *logit = share * views.iter().fold(*logit, |sum, view| sum + view.row(first + row)[class]);
        }
    }
    Ok(model.parameters().device().upload(middle.shape(), &logits)?)
}

/// Logits of pixels, averaged with those of their mirror image if requested.
fn logits(model: &Model, pixels: &Tensor, mirror: bool) -> Result<Tensor, vitral::Error> {
    let plain = model.logits(pixels)?;
    if !mirror {
        return Ok(plain);
    }
    let device = model.parameters().device();
    let other = model.logits(&mirrored(device, pixels))?;
    let mut mean = plain.to_vec()?;
    mean.iter_mut().zip(other.to_vec()?).for_each(|(mean, other)| *mean = 0.5 * (*mean + other));
    Ok(device.upload(plain.shape(), &mean)?)
}
