//! `vitral search duplicates`: images that are in an index more than once.

use clap::Args;
use serde::Serialize;
use vitral::message::count;
use vitral::search::{Alike, Group, Index, Relation, duplicates, rounds};
use vitral_train::curate::{Card, Gallery, Section};

use super::opened::IndexFile;
use super::page::{PageArgs, card};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Find images that are in an index more than once
///
/// By default, files that show the same image: with equal pixels, encoded again, resized, mirrored, or a part of at least
/// two thirds of a side. They are compared by the correlation of their brightness, not by the model's features, for which two
/// similar subjects are as near as two versions of one image. With `--cosine`, images with similar features instead. The
/// first image of a group is the one with the largest file.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral search duplicates photos.safetensors
  vitral search duplicates photos.safetensors --gallery duplicates.html
  vitral search duplicates photos.safetensors --json | jq -r '.groups[].copies[].image'
  vitral search duplicates photos.safetensors --cosine 0.95")]
pub(super) struct DuplicatesArgs {
    #[command(flatten)]
    index: IndexFile,
    /// Correlation from which two files show the same image, from 0.9 to 1
    #[arg(long, value_name = "R", default_value = "0.97", value_parser = correlation)]
    threshold: f64,
    /// Group images whose features have at least this cosine, instead of the same image
    #[arg(long, value_name = "C", allow_negative_numbers = true, value_parser = cosine, conflicts_with = "threshold")]
    cosine: Option<f32>,
    #[command(flatten)]
    page: PageArgs,
}

fn correlation(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.9..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from 0.9 to 1".into())
}

fn cosine(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value| (-1.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from -1 to 1".into())
}

/// The result as JSON.
#[derive(Serialize)]
struct Report<'a> {
    images: usize,
    copies: usize,
    groups: Vec<Grouped<'a>>,
}

#[derive(Serialize)]
struct Grouped<'a> {
    image: &'a str,
    copies: Vec<Copied<'a>>,
}

#[derive(Serialize)]
struct Copied<'a> {
    image: &'a str,
    of: &'a str,
    relation: Relation,
    likeness: f64,
}

pub(super) fn run(args: &DuplicatesArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    args.page.check(&args.index.index)?;
    let index = args.index.open(printer)?;
    let alike = args.cosine.map_or(Alike::Image(args.threshold), Alike::Features);
    printer.start_progress(rounds(alike) * index.len(), "comparisons");
    let found = duplicates(&index, alike, &settings.device, &mut |images| {
        // A closed output is noticed when the result is printed.
        let _ = printer.advance(images);
    });
    printer.finish_progress();
    let groups = found?;
    let copies = groups.iter().map(|group| group.others.len()).sum();
    let name = |row: usize| &*index.entries()[row].name;
    if settings.json {
        let copied = |group: &Group| {
            let others = group.others.iter().map(|member| Copied {
                image: name(member.row),
                of: name(member.of),
                relation: member.relation,
                likeness: member.likeness,
            });
            Grouped { image: name(group.first), copies: others.collect() }
        };
        printer.json(&Report { images: index.len(), copies, groups: groups.iter().map(copied).collect() })?;
    } else {
        for group in &groups {
            printer.line(printer.heading(name(group.first)))?;
            for member in &group.others {
                let of = if member.of == group.first { String::new() } else { format!(", of {}", name(member.of)) };
                let (relation, likeness) = (member.relation.words(), member.likeness);
                printer.line(format_args!("    {likeness:.4}  {}  ({relation}{of})", name(member.row)))?;
            }
        }
        let (images, in_groups) = (count(index.len(), "image"), count(groups.len(), "group"));
        let are = if copies == 1 { "1 is a copy".to_owned() } else { format!("{copies} are copies") };
        printer.note(format_args!("{in_groups}: of {images}, {are} of others"));
    }
    args.page.write(&gallery(&index, &groups), printer)?;
    Ok(Outcome::Done)
}

fn gallery(index: &Index, groups: &[Group]) -> Gallery {
    let section = |group: &Group| {
        let first = Card {
            first: true,
            note: index.entries()[group.first].label.clone().unwrap_or_default(),
            ..card(index, group.first)
        };
        let others = group.others.iter().map(|member| {
            let label = |row: usize| index.entries()[row].label.clone();
            let other = label(member.row).filter(|_| label(member.row) != label(group.first));
            Card {
                value: format!("{:.4}", member.likeness),
                note: member.relation.words().to_owned(),
                warning: other.map_or(String::new(), |label| format!("label: {label}")),
                ..card(index, member.row)
            }
        });
        Section { title: String::new(), cards: std::iter::once(first).chain(others).collect() }
    };
    let copies: usize = groups.iter().map(|group| group.others.len()).sum();
    let about = format!(
        "Of {}, {copies} are copies of others, in {}. The image with the largest file is in a frame.",
        count(index.len(), "image"),
        count(groups.len(), "group")
    );
    Gallery {
        title: "Duplicates".to_owned(),
        about,
        sections: groups.iter().map(section).collect(),
        channels: index.origin().channels(),
    }
}
