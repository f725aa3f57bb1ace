//! `vitral search query`: the images of an index that are nearest to others.

use std::path::Path;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use vitral::features::FeatureKind;
use vitral::message::count;
use vitral::pipeline::Batch;
use vitral::search::{Flat, Hit, Index, Origin};
use vitral_train::curate::{Card, Gallery, Section};

use super::opened::IndexFile;
use super::page::{PageArgs, card};
use crate::fault::Usage;
use crate::inputs::{OptionalInputArgs, Records};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{ImageModelArgs, Settings};

/// What `--model` is here.
const OF_AN_INDEX: &str = "The model that the index was made with, if it is at another place now [default: the one that the \
                           index names]";

/// Find the images of an index that are nearest to some images
///
/// By the cosine of their features, exactly: every image of the index is compared. Equal ones are in the order of the index.
/// The model is the one that the index was made with, unless another place is given for it; a model that gives other features
/// is refused.
#[derive(Args, Debug)]
#[command(mut_arg("model", |arg| arg.help(OF_AN_INDEX)), after_long_help = "\
Examples:
  vitral search query photos.safetensors cat.jpg
  vitral search query photos.safetensors 'new/*.jpg' --top-k 3 --json
  vitral search query photos.safetensors --text 'a cat on a sofa'
  vitral search query photos.safetensors cat.jpg --gallery cat.html

With --json: one line for each image, {\"image\": …, \"neighbors\": [{\"image\": …, \"label\": …, \"cosine\": …}, …]}")]
pub(super) struct QueryArgs {
    #[command(flatten)]
    index: IndexFile,
    #[command(flatten)]
    inputs: OptionalInputArgs,
    /// A text, in place of images, for an index of a model of images and texts (CLIP, SigLIP); may be given several times
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// Neighbors to find for each image
    #[arg(long, visible_alias = "top", short = 'k', value_name = "K", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    model: ImageModelArgs,
}

/// A line of JSON.
#[derive(Serialize)]
struct Found<'a> {
    image: &'a str,
    neighbors: Vec<Near<'a>>,
}

#[derive(Serialize)]
struct Near<'a> {
    image: &'a str,
    label: Option<&'a str>,
    cosine: f32,
}

pub(super) fn run(args: &QueryArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    args.page.check(&args.index.index)?;
    let index = args.index.open(printer)?;
    let origin = index.origin();
    match (args.inputs.is_empty(), args.text.is_empty()) {
        (true, true) => bail!(Usage("expected images, or texts by `--text`".into())),
        (false, false) => bail!(Usage("expected images or texts, found both; ask one after the other".into())),
        (true, false) => return by_words(args, &index, settings, printer),
        (false, true) => {}
    }
    let model = args.model.load_or(origin.location().map(Path::new), settings)?;
    printer.note_precision(&model);
    let range = args.inputs.reading().sample_range();
    if range.to_string() != origin.sample_range() {
        bail!(Usage(format!(
            "the index was made with another range of samples; add `--sample-range {}`",
            origin.sample_range()
        )));
    }
    origin.check(&Origin::of(&model, origin.pool(), range, None)?)?;
    let flat = Flat::new(index.features(), index.width(), model.parameters().device())?;
    let records = if settings.json { Records::Json } else { Records::None };
    let found = args.inputs.find(printer)?.with(records);
    let mut sections = Vec::new();
    let look = |_: &[String], batch: &Batch| -> anyhow::Result<Vec<Vec<Hit>>> {
        let features = model.features(&batch.pixels, origin.pool())?.to_vec()?;
        if !features.iter().all(|value| value.is_finite()) {
            bail!("expected finite features, found infinity or NaN; check the model's weights and the images");
        }
        Ok(flat.nearest(&features, args.top_k as usize)?)
    };
    let outcome = args.inputs.each_row(found, &model, settings, printer, look, |image, hits| {
        if args.page.is_wanted() {
            sections.push(section(&index, image, &hits));
        }
        show(&index, image, &hits, settings, printer)
    })?;
    let about = format!(
        "The nearest of {} by the cosine of their features ({}), the queries in frames.",
        count(index.len(), "image"),
        origin.model()
    );
    args.page.write(
        &Gallery { title: "Nearest images".to_owned(), about, sections, channels: index.origin().channels() },
        printer,
    )?;
    Ok(outcome)
}

/// Looks for images by texts.
fn by_words(args: &QueryArgs, index: &Index, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let origin = index.origin();
    if origin.pool() != FeatureKind::Pooled {
        bail!(Usage(format!(
            "the index has the `{}` features of images, which have nothing to do with texts; make it with `--pool pooled`",
            origin.pool().name()
        )));
    }
    let location = origin.location().map(Path::new);
    let model = args.model.load_or(location, settings)?;
    let range = args.inputs.reading().sample_range();
    // Vectors of another model's text tower would be answered, too, by nonsense.
    let same = Origin::of(&model, origin.pool(), range, None)?;
    origin.check(&same)?;
    let texts = args.model.load_texts(location, settings)?;
    let width = texts.config().feature_width();
    if width != index.width() {
        bail!(Usage(format!(
            "texts of this model have vectors of {width} numbers, the images of the index {}: expected an index made with the \
             same model and `--pool pooled`",
            index.width()
        )));
    }
    let flat = Flat::new(index.features(), index.width(), &settings.device)?;
    let mut sections = Vec::new();
    for (text, vector) in args.text.iter().zip(texts.embed(&args.text)?) {
        let hits = flat.nearest(&vector, args.top_k as usize)?.remove(0);
        if args.page.is_wanted() {
            let near = hits.iter().map(|hit| found(index, hit));
            sections.push(Section { title: text.clone(), cards: near.collect() });
        }
        show(index, text, &hits, settings, printer)?;
    }
    let about = format!("The nearest of {} to texts, by the cosine ({}).", count(index.len(), "image"), origin.model());
    let (title, channels) = ("Nearest images".to_owned(), model.channels());
    args.page.write(&Gallery { title, about, sections, channels }, printer)?;
    Ok(Outcome::Done)
}

fn show(index: &Index, image: &str, hits: &[Hit], settings: &Settings, printer: &Printer) -> anyhow::Result<()> {
    let entry = |hit: &Hit| &index.entries()[hit.row];
    if settings.json {
        let near = |hit| Near { image: &entry(hit).name, label: entry(hit).label.as_deref(), cosine: hit.cosine };
        return printer.json_line(&Found { image, neighbors: hits.iter().map(near).collect() });
    }
    printer.line(printer.heading(image))?;
    for (rank, hit) in hits.iter().enumerate() {
        let label = entry(hit).label.as_ref().map_or(String::new(), |label| format!("  ({label})"));
        printer.line(format_args!("  {:>3}  {:.4}  {}{label}", rank + 1, hit.cosine, entry(hit).name))?;
    }
    Ok(())
}

fn section(index: &Index, image: &str, hits: &[Hit]) -> Section {
    let query =
        Card { path: image.into(), name: image.to_owned(), note: "query".into(), first: true, ..Card::default() };
    let near = hits.iter().map(|hit| found(index, hit));
    Section { title: String::new(), cards: std::iter::once(query).chain(near).collect() }
}

fn found(index: &Index, hit: &Hit) -> Card {
    Card {
        value: format!("{:.4}", hit.cosine),
        note: index.entries()[hit.row].label.clone().unwrap_or_default(),
        ..card(index, hit.row)
    }
}
