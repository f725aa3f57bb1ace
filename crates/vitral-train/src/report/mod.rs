//! A human-readable report of a run: curves, confusion matrix and worst mistakes, on one self-contained page.

pub(crate) mod plots;
mod thumbnail;

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vitral::atomic;
use vitral::image::preprocess::Channels;
use vitral::message::count;

use crate::balance::ChooseBy;
use crate::data::Dataset;
use crate::error::TrainError;
use crate::evaluate::{Evaluation, Mistake, Report, SeveralReport};
use crate::journal::Entry;

pub use plots::{confusion, curves};
pub(crate) use thumbnail::thumbnail;

/// Pairs of classes shown with images.
const PAIRS: usize = 5;
/// Mistakes shown with their image.
const SHOWN: usize = 12;
/// The longer side of an image on the page, in pixels.
const THUMBNAIL: u32 = 112;

/// Which images the best epoch of a run is chosen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChosenOn {
    /// The validation images; the test images are evaluated once, at the end.
    Validation,
    /// The validation images, which are also reported on because there are no test images.
    ValidationAlone,
    /// The test images, since there are no validation images.
    Test,
    /// Images split off from the training images, because there are neither validation nor test images.
    ValidationSplit,
}

impl ChosenOn {
    /// Name of the images that the results are reported on.
    pub const fn reported_on(self) -> &'static str {
        match self {
            ChosenOn::Validation | ChosenOn::Test => "test",
            ChosenOn::ValidationAlone => "validation",
            ChosenOn::ValidationSplit => "validation",
        }
    }

    /// How the best epoch was chosen, as part of a sentence.
    pub const fn how(self) -> &'static str {
        match self {
            ChosenOn::Validation => "chosen on the validation images; the test images were evaluated once, at the end",
            ChosenOn::ValidationAlone => "chosen on the validation images themselves, since there is no test split",
            ChosenOn::Test => "chosen on the test images, since there is no validation split",
            ChosenOn::ValidationSplit => {
                "chosen on images held out of the training set, since there is neither a validation nor a test split"
            }
        }
    }
}

/// The best epoch of a run, and how it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// What it was chosen on.
    #[serde(rename = "chosen_on")]
    pub on: ChosenOn,
    /// What it was chosen by.
    #[serde(rename = "chosen_by", default)]
    pub by: ChooseBy,
    /// The epoch, from 1.
    pub epoch: u64,
    /// The fraction of those images that were classified correctly, or what else it was chosen by.
    pub accuracy: f64,
}

/// Contents of `report.json`.
#[derive(Serialize)]
struct Whole<'a> {
    best: &'a Chosen,
    reported_on: &'static str,
    #[serde(flatten)]
    report: &'a Evaluation,
}

/// The best model's main measure according to a finished run's `report.json`: the fraction of images classified
/// correctly, its mean over the classes if the epoch was chosen by it, the mean average precision where images have several
/// labels, R² where labels are numbers.
pub fn measure(folder: &Path) -> Option<f64> {
    let text = std::fs::read(folder.join("report.json")).ok()?;
    let report: serde_json::Value = serde_json::from_slice(&text).ok()?;
    if report["best"]["chosen_by"] == serde_json::to_value(ChooseBy::BalancedAccuracy).ok()? {
        return report["balanced_accuracy"].as_f64();
    }
    ["top1", "mean_average_precision", "r_squared"].iter().find_map(|key| report[key].as_f64())
}

/// The epoch that a run's report says was kept, if there is one.
pub fn best_epoch(folder: &Path) -> Option<u64> {
    let text = std::fs::read(folder.join("report.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text).ok()?["best"]["epoch"].as_u64()
}

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The resolved recipe.
    pub recipe: &'a str,
    /// The run's epochs.
    pub entries: &'a [Entry],
    /// The best epoch.
    pub chosen: &'a Chosen,
    /// The best model's evaluation.
    pub evaluation: &'a Evaluation,
    /// The images it was evaluated on.
    pub dataset: &'a dyn Dataset,
    /// What they are decoded to; of bands, the first three are shown.
    pub channels: Channels,
}

/// Writes `report.html`, `report.json`, `curves.svg` and, where each image has one label, `confusion.svg` into a run's
/// folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path, sources: Sources<'_>) -> Result<(), TrainError> {
    let Sources { entries, chosen, evaluation, .. } = sources;
    let whole_report = Whole { best: chosen, reported_on: chosen.on.reported_on(), report: evaluation };
    let json = serde_json::to_string_pretty(&whole_report).expect("plain data");
    let curves = curves(entries, chosen.by);
    let mut files = vec![("report.json", json)];
    let body = match evaluation {
        Evaluation::One(report) => {
            let confusion = confusion(report);
            let body = one_label(report, &sources, &confusion);
            files.push(("confusion.svg", confusion));
            body
        }
        Evaluation::Several(report) => several_labels(report),
        Evaluation::Numbers(_) => String::new(),
    };
    let page = page(&sources, &curves, &body);
    files.extend([("curves.svg", curves), ("report.html", page)]);
    for (name, text) in files {
        let path = folder.join(name);
        atomic::write(&path, text.as_bytes()).map_err(TrainError::file(&path, "writing the report"))?;
    }
    Ok(())
}

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;color:#333;max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}\
svg{max-width:100%;height:auto}table{border-collapse:collapse}th,td{padding:.15rem .7rem;text-align:right}\
th:first-child,td:first-child{text-align:left}tr:nth-child(even){background:#f6f6f6}.wide{overflow-x:auto}\
.mistakes{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;width:8rem}figure img{width:7rem;image-rendering:auto}\
figcaption{font-size:.8rem}pre{background:#f6f6f6;padding:1rem;overflow-x:auto;font-size:.85rem}";

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A length of time as people say it.
fn span(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} seconds"),
        90.0..5400.0 => format!("{:.0} minutes", seconds / 60.0),
        _ => format!("{:.1} hours", seconds / 3600.0),
    }
}

fn page(sources: &Sources<'_>, curves: &str, body: &str) -> String {
    let Sources { recipe, entries, chosen, evaluation, .. } = sources;
    let mut page = String::new();
    // Writing to a string cannot fail.
    let mut add = |text: std::fmt::Arguments<'_>| page.write_fmt(text).unwrap_or_default();
    add(format_args!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>A training run</title><style>{STYLE}</style><body>"
    ));
    let on = chosen.on.reported_on();
    match evaluation {
        Evaluation::One(report) => {
            add(format_args!(
                "<h1>{} of {} {on} images classified correctly</h1><p>",
                percent(report.top1),
                report.images
            ));
            add(format_args!("Balanced accuracy {}. ", percent(report.balanced_accuracy)));
            if report.classes.len() > 5 {
                add(format_args!("Top-5 {}. ", percent(report.top5)));
            }
            add(format_args!("Loss {:.4}, calibration error {}. ", report.loss, percent(report.calibration_error)));
        }
        Evaluation::Several(report) => {
            let average = percent(report.mean_average_precision);
            add(format_args!("<h1>Mean average precision {average} on {} {on} images</h1><p>", report.images));
            add(format_args!("F1 {}, loss {:.4}. ", percent(report.f1), report.loss));
        }
        Evaluation::Numbers(report) => {
            let (error, images) = (report.mean_absolute_error, report.images);
            add(format_args!("<h1>Mean absolute error {error:.4} on {images} {on} images</h1><p>"));
            let root = report.root_mean_squared_error;
            add(format_args!("Root of the mean squared error {root:.4}, R² {:.4}. ", report.r_squared));
        }
    }
    if let Some(last) = entries.last() {
        let noun = if last.epoch == 1 { "epoch" } else { "epochs" };
        add(format_args!("{} {noun} in {}. ", last.epoch, span(last.seconds)));
    }
    if evaluation.skipped() > 0 {
        add(format_args!("{} could not be read. ", count(evaluation.skipped(), "image")));
    }
    let Chosen { on, by, epoch, accuracy } = chosen;
    add(format_args!("This is the model in <code>best</code>, of epoch {epoch}: the best epoch was {}. ", on.how()));
    if *by == ChooseBy::BalancedAccuracy {
        add(format_args!("It was chosen by balanced accuracy. "));
    }
    if *on == ChosenOn::Validation {
        let chosen = percent(*accuracy);
        match evaluation {
            Evaluation::One(_) if *by == ChooseBy::BalancedAccuracy => {
                add(format_args!("On the validation images it was {chosen}. "));
            }
            Evaluation::One(_) => add(format_args!("Of the validation images, {chosen} were correct. ")),
            Evaluation::Several(_) => {
                add(format_args!("On the validation images, the mean average precision was {chosen}. "));
            }
            Evaluation::Numbers(_) => add(format_args!("On the validation images, R² was {accuracy:.4}. ")),
        }
    }
    add(format_args!("</p><h2>Training curves</h2>{curves}{body}"));
    add(format_args!("<h2>Recipe</h2><pre>{}</pre></body></html>\n", escaped(recipe)));
    page
}

/// What the page shows where images have one label: the confusion matrix, mistakes with their images, classes.
fn one_label(report: &Report, sources: &Sources<'_>, confusion: &str) -> String {
    let mut body = String::new();
    let mut add = |text: std::fmt::Arguments<'_>| body.write_fmt(text).unwrap_or_default();
    add(format_args!(
        "<h2>Confusion matrix</h2><p>One row per true class, one column per predicted class.</p>\
         <div class=\"wide\">{confusion}</div>"
    ));
    let figure = |mistake: &Mistake, caption: &str| {
        let image = shown(sources.dataset, sources.channels, mistake.index).unwrap_or_default();
        let sure = 100.0 * mistake.confidence;
        format!("<figure>{image}<figcaption>{caption}{sure:.0} %</figcaption></figure>")
    };
    if !report.confused.is_empty() {
        add(format_args!("<h2>Most confused classes</h2>"));
    }
    for pair in report.confused.iter().take(PAIRS) {
        let (label, predicted) = (escaped(&pair.label), escaped(&pair.predicted));
        add(format_args!("<p>{label} predicted as <b>{predicted}</b>, {} ×</p><div class=\"mistakes\">", pair.count));
        pair.examples.iter().for_each(|mistake| add(format_args!("{}", figure(mistake, ""))));
        add(format_args!("</div>"));
    }
    if !report.mistakes.is_empty() {
        add(format_args!("<h2>Most confident mistakes</h2><div class=\"mistakes\">"));
        for mistake in report.mistakes.iter().take(SHOWN) {
            let (label, predicted) = (escaped(&mistake.label), escaped(&mistake.predicted));
            add(format_args!("{}", figure(mistake, &format!("{label} predicted as <b>{predicted}</b>: "))));
        }
        add(format_args!("</div>"));
    }
    add(format_args!(
        "<h2>Classes</h2><p>Those with the most images first. Balanced accuracy is the mean of their recall.</p>\
         <div class=\"wide\"><table><tr><th>class<th>images<th>precision<th>recall<th>F1</tr>"
    ));
    for class in report.classes.iter().filter(|class| class.images > 0 || class.precision > 0.0) {
        add(format_args!(
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            escaped(&class.name),
            class.images,
            percent(class.precision),
            percent(class.recall),
            percent(class.f1)
        ));
    }
    add(format_args!("</table></div>"));
    body
}

/// What the page shows where images have several labels: a table of classes.
fn several_labels(report: &SeveralReport) -> String {
    let mut body = String::new();
    let mut add = |text: std::fmt::Arguments<'_>| body.write_fmt(text).unwrap_or_default();
    add(format_args!(
        "<h2>Classes</h2><p>A label counts as predicted from a probability of {} on. Average precision does not depend \
         on it.</p><div class=\"wide\"><table><tr><th>class<th>images<th>average precision<th>precision<th>recall\
         <th>F1</tr>",
        report.threshold
    ));
    for class in report.classes.iter().filter(|class| class.images > 0 || class.precision > 0.0) {
        add(format_args!(
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            escaped(&class.name),
            class.images,
            class.average_precision.map_or("–".to_owned(), percent),
            percent(class.precision),
            percent(class.recall),
            percent(class.f1)
        ));
    }
    add(format_args!("</table></div>"));
    body
}

/// An image of the data set as an `img` element.
fn shown(dataset: &dyn Dataset, channels: Channels, index: usize) -> Option<String> {
    let url = thumbnail(dataset.image_for(index, channels).ok()?.into_rgb(), THUMBNAIL)?;
    Some(format!("<img alt=\"\" src=\"{url}\">"))
}

/// Text escaped for HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
