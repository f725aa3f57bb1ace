//! `vitral search labels`: labels that are likely wrong.

use clap::Args;
use vitral::message::count;
use vitral::search::Index;
use vitral_train::curate::{Card, Gallery, LabelOptions, LabelReport, Section, Suspect, suspects};

use super::opened::IndexFile;
use super::page::{PageArgs, card};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Find labels that are likely wrong
///
/// A linear classifier of the features, fitted on the other images (cross-validation), judges each image. Listed are images
/// that confident learning (arXiv:1911.00068) counts as errors, and those where both the classifier and the nearest images
/// disagree with the label. The least likely label is first.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral search labels flowers.safetensors
  vitral search labels flowers.safetensors --gallery suspects.html
  vitral search labels flowers.safetensors --json | jq -r '.suspects[] | select(.confident) | .image'

Columns: the probability of the label; the part of the nearest images that have it; `*` where confident learning counts an \
error; the image; the label, and the one that is more likely.")]
pub(super) struct LabelsArgs {
    #[command(flatten)]
    index: IndexFile,
    /// Nearest images that are asked
    #[arg(long, value_name = "K", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    neighbors: u16,
    /// Parts of the cross-validation
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(2..=100))]
    folds: u16,
    /// Seed that draws the parts
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u32,
    #[command(flatten)]
    page: PageArgs,
}

pub(super) fn run(args: &LabelsArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    args.page.check(&args.index.index)?;
    let index = args.index.open(printer)?;
    let options =
        LabelOptions::default().neighbors(args.neighbors.into()).folds(args.folds.into()).seed(args.seed.into());
    printer.start_progress(index.len(), "images");
    let found = suspects(&index, &options, &settings.device, &mut |images| {
        // A closed output is noticed when the result is printed.
        let _ = printer.advance(images);
    });
    printer.finish_progress();
    let report = found?;
    if !report.single.is_empty() {
        let (classes, noun) =
            (report.single.len(), if report.single.len() == 1 { "class has" } else { "classes have" });
        printer.note(format_args!("{classes} {noun} a single image, which nothing can be said about"));
    }
    if settings.json {
        printer.json(&report)?;
    } else {
        let wide = report.suspects.iter().map(|suspect| suspect.image.chars().count()).max().unwrap_or(0).min(60);
        for suspect in &report.suspects {
            let Suspect { image, label, suggested, probability, neighbors, confident, .. } = suspect;
            let mark = if *confident { '*' } else { ' ' };
            let neighbors = 100.0 * neighbors;
            printer.line(format_args!(
                "{probability:.4}  {neighbors:>3.0} %  {mark}  {image:<wide$}  {label} → {suggested}"
            ))?;
        }
        printer.note(summary(&report));
    }
    args.page.write(&gallery(&index, &report), printer)?;
    Ok(Outcome::Done)
}

fn summary(report: &LabelReport) -> String {
    let agree = 100.0 * report.agreement;
    let confident = report.suspects.iter().filter(|suspect| suspect.confident).count();
    let suspects = count(report.suspects.len(), "label");
    format!(
        "{suspects} of {} to look at, {confident} marked as {} by confident learning (*); the classifier agrees with \
         {agree:.1} % of the labels",
        report.images,
        if confident == 1 { "an error" } else { "errors" }
    )
}

fn gallery(index: &Index, report: &LabelReport) -> Gallery {
    let shown = |suspect: &Suspect| Card {
        value: format!("{:.4}", suspect.probability),
        warning: format!("{} → {}", suspect.label, suspect.suggested),
        note: format!("{:.0} % of its neighbors agree", 100.0 * suspect.neighbors),
        first: suspect.confident,
        ..card(index, suspect.row)
    };
    let cards = report.suspects.iter().map(shown).collect();
    let about = format!(
        "{}. Each with the probability of its label according to a classifier fitted on other images, and the label that is \
         more likely; in frames, those that confident learning counts as errors.",
        summary(report)
    );
    Gallery {
        title: "Labels to look at".to_owned(),
        about,
        sections: vec![Section { title: String::new(), cards }],
        channels: index.origin().channels(),
    }
}
