//! `vitral search map`: the images of an index as points of a plane.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use vitral::message::count;
use vitral::search::Index;
use vitral_train::curate::{Map, Method, PERPLEXITY, Scatter, map};

use super::opened::IndexFile;
use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::output::write_file;
use crate::printer::Printer;
use crate::settings::Settings;

/// Draw the images of an index as points of a plane
///
/// Images with similar features are near each other; colors are labels. The same index always gives the same map.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral search map flowers.safetensors --out flowers.svg
  vitral search map flowers.safetensors --method tsne --out flowers.html

Formats, by the extension of the output file:
  .svg   a plot
  .html  a page to move around in, which shows the image of a point
  .csv   image,label,x,y

With --json: the same as `.csv`, as one line of JSON for each image, on standard output")]
pub(super) struct MapArgs {
    #[command(flatten)]
    index: IndexFile,
    /// How points are found
    #[arg(long, value_enum, default_value_t)]
    method: Kind,
    /// Where to write: .svg, .html or .csv
    #[arg(long, short, alias = "output", value_name = "FILE", value_parser = output, required_unless_present = "json")]
    out: Option<(PathBuf, Format)>,
    /// Small images on the page, at most
    #[arg(long, value_name = "N", default_value = "1000")]
    thumbnails: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The two directions in which the features vary most
    #[default]
    Pca,
    /// t-SNE: neighbors stay neighbors; distances between groups mean little
    #[value(alias = "t-sne")]
    Tsne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Html,
    Csv,
}

fn output(text: &str) -> Result<(PathBuf, Format), String> {
    let path = PathBuf::from(text);
    let ending = path.extension().and_then(|ending| ending.to_str());
    let format = match ending {
        Some("svg") => Format::Svg,
        Some("html") => Format::Html,
        Some("csv") => Format::Csv,
        _ => return Err("expected a name that ends in .svg, .html or .csv".into()),
    };
    Ok((path, format))
}

pub(super) fn run(args: &MapArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let index = args.index.open(printer)?;
    let method = match args.method {
        Kind::Pca => Method::Pca,
        Kind::Tsne => Method::Tsne,
    };
    if method == Method::Tsne && index.len() < 5 {
        bail!(Usage(format!("t-SNE needs at least 5 images, found {}; use `--method pca`", index.len())));
    }
    printer.start_progress(index.len(), "images");
    let found = map(&index, method, &settings.device, &mut |images| {
        // A closed output is noticed when the result is printed.
        let _ = printer.advance(images);
    });
    printer.finish_progress();
    let found = found?;
    if settings.json {
        for (entry, [x, y]) in index.entries().iter().zip(&found.points) {
            printer.json_line(&serde_json::json!({ "image": entry.name, "label": entry.label, "x": x, "y": y }))?;
        }
    }
    if let Some((path, format)) = &args.out {
        let text = match format {
            Format::Svg => scatter(&index, &found, method).svg(),
            Format::Html => scatter(&index, &found, method).html(args.thumbnails.into()),
            Format::Csv => rows(&index, &found)?,
        };
        write_file(path, text.as_bytes())?;
        printer.note(format_args!("{} to `{}`", count(index.len(), "image"), path.display()));
    }
    Ok(Outcome::Done)
}

fn scatter<'a>(index: &Index, found: &'a Map, method: Method) -> Scatter<'a> {
    let images = count(index.len(), "image");
    let shares = found.variance.map(|share| format!("{:.1} %", 100.0 * share)).join(" and ");
    let title = match method {
        Method::Pca => format!("{images}, principal components ({shares} of the variance)"),
        Method::Tsne => format!("{images}, t-SNE"),
    };
    let how = match method {
        Method::Pca => "the two directions in which they vary most".to_owned(),
        Method::Tsne => format!(
            "t-SNE with perplexity {PERPLEXITY} from exact neighbors: neighbors stay neighbors, distances between groups mean little"
        ),
    };
    let about = format!(
        "Features of {} ({}), scaled to length 1; {how}.",
        index.origin().model(),
        index.origin().pool().name()
    );
    let (classes, labels) = index.classes().unwrap_or_default();
    let names = index.entries().iter().map(|entry| entry.name.clone()).collect();
    let paths = (0..index.len()).map(|row| index.path(row)).collect();
    let channels = index.origin().channels();
    Scatter { title, about, points: &found.points, classes, labels, names, paths, channels }
}

fn rows(index: &Index, found: &Map) -> anyhow::Result<String> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(["image", "label", "x", "y"])?;
    for (entry, [x, y]) in index.entries().iter().zip(&found.points) {
        rows.write_record([&*entry.name, entry.label.as_deref().unwrap_or_default(), &x.to_string(), &y.to_string()])?;
    }
    Ok(String::from_utf8(rows.into_inner()?)?)
}
