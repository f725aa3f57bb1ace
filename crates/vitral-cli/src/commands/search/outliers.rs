//! `vitral search outliers`: images unlike all others.

use clap::Args;
use vitral::message::count;
use vitral_train::curate::{Card, Gallery, Outlier, Section, outliers};

use super::opened::IndexFile;
use super::page::{PageArgs, card};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Find images unlike all others of an index
///
/// By the mean of 1 − cosine to the nearest images. Listed are those at least 3.5 deviations beyond the median, the farthest
/// first; the deviation is robust (1.4826 times the median distance from the median). Labels are not used.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral search outliers photos.safetensors
  vitral search outliers photos.safetensors --neighbors 5 --gallery outliers.html

Columns: the mean distance; deviations beyond the median; the image, and the nearest one.")]
pub(super) struct OutliersArgs {
    #[command(flatten)]
    index: IndexFile,
    /// Nearest images that the distance is measured to
    #[arg(long, value_name = "K", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    neighbors: u16,
    #[command(flatten)]
    page: PageArgs,
}

pub(super) fn run(args: &OutliersArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    args.page.check(&args.index.index)?;
    let index = args.index.open(printer)?;
    printer.start_progress(index.len(), "images");
    let found = outliers(&index, args.neighbors.into(), &settings.device, &mut |images| {
        // A closed output is noticed when the result is printed.
        let _ = printer.advance(images);
    });
    printer.finish_progress();
    let found = found?;
    if settings.json {
        printer.json(&found)?;
    } else {
        let wide = found.iter().map(|outlier| outlier.image.chars().count()).max().unwrap_or(0).min(60);
        for Outlier { image, distance, deviations, nearest, .. } in &found {
            printer.line(format_args!("{distance:.4}  {deviations:>5.1}  {image:<wide$}  nearest: {nearest}"))?;
        }
        printer.note(format_args!("{} among {}", count(found.len(), "outlier"), count(index.len(), "image")));
    }
    let shown = |outlier: &Outlier| Card {
        value: format!("{:.4}", outlier.distance),
        note: outlier.label.clone().unwrap_or_default(),
        ..card(&index, outlier.row)
    };
    let about = format!(
        "{} among {}, by their mean distance (1 − cosine) to the {} nearest; the farthest first.",
        count(found.len(), "outlier"),
        count(index.len(), "image"),
        args.neighbors
    );
    let cards = found.iter().map(shown).collect();
    let sections = vec![Section { title: String::new(), cards }];
    args.page.write(
        &Gallery { title: "Outliers".to_owned(), about, sections, channels: index.origin().channels() },
        printer,
    )?;
    Ok(Outcome::Done)
}
