//! `vitral classify`: ranked labels for every image.

use clap::Args;
use serde::Serialize;
use vitral::config::Problem;
use vitral::labels::{Ranked, top};
use vitral::pipeline::Batch;

use crate::fault::plain;
use crate::inputs::{InputArgs, Records};
use crate::labels::LabelArgs;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{ImageModelArgs, Settings};

/// Classify images
///
/// Prints the most likely labels of each image, in the order the images were given. An image that cannot be read is
/// reported on standard error and skipped; the exit code is then 1.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral classify digit.png
  vitral classify --model vit-base-patch16-224 --top 3 photos/
  vitral classify --model vit-base-patch16-224 'photos/**/*.jpg' --csv > labels.csv
  vitral classify --model clip-vit-base-patch32 cat.jpg --labels 'a photo of a cat,a photo of a dog'
  vitral classify --model clip-vit-base-patch32 photos/ --labels cat,dog,horse --template 'a photo of a {}.'
  curl -s https://example.org/cat.jpg | vitral classify -m vit-base-patch16-224 - --json

With --json, one line per image:
  {\"image\": \"cat.jpg\", \"problem\": \"single-label\", \"precision\": \"f32\", \"labels\": [{\"class\": 281, \"label\": \"tabby\", \"probability\": 0.93, …}, …]}
An image that cannot be read has, in its place:
  {\"image\": \"cat.jpg\", \"error\": \"…\"}
With --csv, one row per label: image,rank,class,label,probability,logit

Probabilities are a softmax over the classes; for a model whose files say that several classes can apply, a sigmoid of \
each, and for a regression there is none: the number itself is shown.")]
pub(crate) struct ClassifyArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    model: ImageModelArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// Maximum number of labels to print for each image
    #[arg(long, aliases = ["topk", "top-k", "top_k"], value_name = "K", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Print results as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    image: &'a str,
    /// What the logits say: `single-label`, `multi-label` or `regression`.
    problem: &'static str,
    /// What the products were computed in.
    precision: &'static str,
    labels: Vec<Label<'a>>,
}

#[derive(Serialize)]
struct Label<'a> {
    class: usize,
    label: &'a str,
    /// In a regression there is none; the number is `logit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    logit: f32,
}

impl<'a> Label<'a> {
    fn of(ranked: &'a Ranked, problem: Problem) -> Self {
        let probability = (problem != Problem::Regression).then_some(ranked.probability);
        Label { class: ranked.class, label: &ranked.label, probability, logit: ranked.logit }
    }
}

pub(crate) fn run(args: &ClassifyArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let model = args.model.load_with_labels(&args.labels, settings)?;
    model.check_classifies()?;
    let problem = model.vit().config().problem;
    printer.note_precision(&model);
    let show = |image: &str, ranked: &[Ranked]| -> anyhow::Result<()> {
        if settings.json {
            let labels = ranked.iter().map(|ranked| Label::of(ranked, problem)).collect();
            printer.json_line(&Answer { image, problem: problem.name(), precision: model.precision().name(), labels })
        } else if args.csv {
            rows(printer, image, ranked, problem)
        } else {
            lines(printer, image, ranked, problem)
        }
    };
    if args.csv {
        printer.line("image,rank,class,label,probability,logit")?;
    }
    let records = if settings.json { Records::Json } else { Records::None };
    let found = args.inputs.find(printer)?.with(records);
    let rank = |_: &[String], batch: &Batch| -> anyhow::Result<Vec<Vec<Ranked>>> {
        let logits = model.logits(&batch.pixels)?;
        let classes = logits.shape().last();
        let ranked = |logits: &[f32]| top(logits, args.top as usize, model.labels(), problem);
        Ok(logits.to_vec()?.chunks_exact(classes).map(ranked).collect())
    };
    args.inputs.each_row(found, &model, settings, printer, rank, |name, ranked| show(name, &ranked))
}

fn rows(printer: &Printer, image: &str, ranked: &[Ranked], problem: Problem) -> anyhow::Result<()> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    for (rank, label) in ranked.iter().enumerate() {
        let Label { class, label, probability, logit } = Label::of(label, problem);
        rows.serialize((image, rank + 1, class, label, probability, logit))?;
    }
    Ok(printer.bytes(&rows.into_inner()?)?)
}

/// Character cells of a full bar.
const BAR: usize = 20;

fn lines(printer: &Printer, image: &str, ranked: &[Ranked], problem: Problem) -> anyhow::Result<()> {
    let mut text = printer.heading(plain(image));
    for Ranked { label, probability, .. } in ranked {
        if problem == Problem::Regression {
            text.push_str(&format!("\n  {probability:10.4}  {label}"));
            continue;
        }
        let bar = if printer.is_terminal() { format!("{}  ", bar(*probability)) } else { String::new() };
        text.push_str(&format!("\n  {:6.2} %  {bar}{label}", 100.0 * probability));
    }
    Ok(printer.line(text)?)
}

/// A bar in eighths of a character cell.
fn bar(share: f32) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share * (8 * BAR) as f32).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(PARTS[eighths % 8]);
    }
    format!("{bar:BAR$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_length_follows_the_fraction() {
        assert_eq!(bar(0.0), " ".repeat(BAR));
        assert_eq!(bar(1.0), "█".repeat(BAR));
        assert_eq!(bar(0.53125), format!("{:BAR$}", "██████████▋"));
    }
}
