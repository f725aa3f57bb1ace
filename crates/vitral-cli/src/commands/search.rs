//! `vitral search`: an index of images, and what can be asked of it.

mod copies;
mod index;
mod map;
mod opened;
mod outliers;
mod page;
mod query;
mod suspects;

use clap::{Args, Subcommand};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Find images by their features: neighbors, duplicates, wrong labels, outliers
///
/// `index` computes the features of a folder of images and keeps them in one file; the other commands ask that file. Search
/// is exact: every image is compared.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral search index photos/ --model dinov2-small --out photos.safetensors
  vitral search query photos.safetensors cat.jpg --gallery cat.html
  vitral search duplicates photos.safetensors
  vitral search labels flowers.safetensors --gallery suspects.html
  vitral search map flowers.safetensors --method tsne --out flowers.html")]
pub(crate) struct SearchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Index(index::IndexArgs),
    Query(query::QueryArgs),
    Duplicates(copies::DuplicatesArgs),
    Labels(suspects::LabelsArgs),
    Outliers(outliers::OutliersArgs),
    Map(map::MapArgs),
}

pub(crate) fn run(args: &SearchArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    match &args.what {
        What::Index(args) => index::run(args, settings, printer),
        What::Query(args) => query::run(args, settings, printer),
        What::Duplicates(args) => copies::run(args, settings, printer),
        What::Labels(args) => suspects::run(args, settings, printer),
        What::Outliers(args) => outliers::run(args, settings, printer),
        What::Map(args) => map::run(args, settings, printer),
    }
}
