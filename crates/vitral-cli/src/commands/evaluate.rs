//! `vitral evaluate`: measure a classifier.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use vitral::Model;
use vitral::text::TextLabels;
use vitral_train::data::{Split, ValidationSplit, open_part};
use vitral_train::evaluate::{ModelEvaluation, evaluate_model};

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::settings::{ImageModelArgs, Settings};

/// Measure a classifier on labeled images
///
/// Top-1, balanced and top-5 accuracy, loss, calibration error, per-class precision, recall and F1 (classes with the most
/// images first), and a confusion matrix; for
/// images with several labels, average precision and F1; for a regression, its errors. The data's classes are matched to the model's by name, and
/// images of classes that the model does not know are left out and reported. Only if no name fits are classes matched by
/// number, or in order if there are as many.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral evaluate --model runs/flowers/best flowers/
  vitral evaluate --model vit-base-patch16-224 imagenet/val --batch 32 --mirror
  vitral evaluate --model runs/flowers/best flowers/ --five-crops --mirror
  vitral evaluate --model clip-vit-base-patch32 flowers/ --template 'a photo of a {}, a type of flower.'
  vitral evaluate --model runs/flowers/best flowers/ --json | jq .top1

Images: a folder with one sub-folder per class, optionally inside `train` and `test` (or `val`) folders, a tar of such a \
folder, a list (.csv, .jsonl), Parquet as on the Hugging Face hub, idx or CIFAR files.")]
pub(crate) struct EvaluateArgs {
    /// The labeled images
    data: PathBuf,
    #[command(flatten)]
    model: ImageModelArgs,
    /// The text for a class, whose name takes the place of `{}`, such as 'a photo of a {}.': measures a model of images and
    /// texts (CLIP, SigLIP) on the classes of the images; given several times, the mean of the texts is used
    #[arg(long, value_name = "TEXT")]
    template: Vec<String>,
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
    let model = load(args, settings)?;
    model.check_classifies().map_err(|fault| match fault {
        vitral::Error::Projects { .. } => in_words(&model),
        other => other.into(),
    })?;
    let options = ModelEvaluation { mirror: args.mirror, five_crops: args.five_crops, ..ModelEvaluation::default() };
    let options = options.split(args.split.into()).batch(args.batch.into());
    let report =
        Progress::of(printer, |watcher| evaluate_model(&model, &args.data, &options, &settings.ranks, watcher))?;
    if settings.json {
        printer.json(&Computed { precision: model.precision().name(), report: &report })?;
    } else {
        printer.line(&report)?;
        printer.line(format_args!("computed in {}", model.precision()))?;
    }
    Ok(if report.skipped() > 0 { Outcome::Incomplete } else { Outcome::Done })
}

/// What to do with a model that may know classes in words.
fn in_words(model: &Model) -> anyhow::Error {
    let name = model.name();
    Usage(format!(
        "the model `{name}` has no classes of its own; if it is one of images and texts, give a text for those of the images \
         with `--template 'a photo of a {{}}.'`"
    ))
    .into()
}

/// Loads the model; with templates, the classes are those of the images, in words.
fn load(args: &EvaluateArgs, settings: &Settings) -> anyhow::Result<Model> {
    if args.template.is_empty() {
        return args.model.load(settings);
    }
    let all = ValidationSplit { fraction: 1.0, ..ValidationSplit::default() };
    let data = open_part(&args.data, args.split.into(), all)?.dataset;
    let names = TextLabels::of_names(data.classes().iter().map(String::as_str));
    args.model.load_with(settings, |options| options.labels(names.templates(args.template.clone())))
}

/// A report, and the precision that it was computed in.
#[derive(Serialize)]
struct Computed<'a, R: Serialize> {
    precision: &'static str,
    #[serde(flatten)]
    report: &'a R,
}
