//! Runs a recipe, for every command that trains.

use std::path::Path;
use std::time::Instant;

use vitral::image::preprocess::Channels;
use vitral::message::count;
use vitral::{LoadOptions, Model};
use vitral_ranks::{Ranks, Reduction};
use vitral_train::balance::ChooseBy;
use vitral_train::data::Summary;
use vitral_train::fit::{Outcome as Ended, RunSize, Watcher};
use vitral_train::hidden::Pretraining;
use vitral_train::journal::{Entry, Journal};
use vitral_train::labeling::Labeling;
use vitral_train::pretrain::{Images, drawing_of, pretrain};
use vitral_train::recipe::Recipe;
use vitral_train::report::ChosenOn;
use vitral_train::run::{Models, RunOn, run as train};
use vitral_train::sets::open_sets;
use vitral_train::step::StepReport;

use crate::interrupt;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};
use crate::sparkline::sparkline;

/// Images decoded before a run to report their sizes.
const SAMPLED: usize = 200;

/// Unreadable images to list by name.
const NAMED: usize = 5;

/// Number of values in a sparkline.
const SPARKLINE: usize = 16;

/// Loads the data and models of a recipe and runs it in a folder, from the beginning or from where it stopped.
pub(crate) fn follow(
    recipe: &Recipe,
    out: &Path,
    reduction: Reduction,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    let ranks = settings.ranks.clone().with_reduction(reduction);
    if let Some(rule) = &recipe.pretraining {
        return without_labels(recipe, rule, out, ranks, settings, printer);
    }
    let mut sets = open_sets(recipe)?;
    let load = |name: &str, options: &LoadOptions| -> anyhow::Result<Model> {
        Ok(Model::load(&located(Path::new(name), settings)?, options, &settings.device)?)
    };
    let models = Models::load(recipe, &mut sets, load)?;
    sets.notes.iter().for_each(|note| printer.note(note));
    let channels = match (recipe.data.bands, &models.learned) {
        (Some(bands), _) => Channels::Bands(bands),
        (None, Some(learned)) => learned.channels(),
        (None, None) => Channels::Rgb,
    };
    let reported =
        if sets.chosen_on == ChosenOn::ValidationSplit { "validation" } else { sets.chosen_on.reported_on() };
    let validation = sets.validation.as_ref().map(|validation| ("validation", validation));
    for (name, set) in [("training", &sets.train)].into_iter().chain(validation).chain([(reported, &sets.test)]) {
        let summary = Summary::of(set.as_ref(), channels, SAMPLED, 0);
        printer.note(format_args!("{name:<10} {summary}"));
    }
    let mut watcher = Lines::new(recipe, sets.train.labeling(), settings, printer);
    let on = RunOn { device: &settings.device, ranks: ranks.clone(), interrupted: interrupt::gracefully() };
    let ended = train(recipe, &sets, models, out, on, &mut watcher);
    printer.finish_progress();
    note_time(&ranks, watcher.begun, printer);
    match ended? {
        Ended::Finished { best, epoch, test } => {
            let (folder, report) = (out.join("best"), out.join("report.html"));
            if settings.json {
                printer.json_line(&serde_json::json!({
                    "best_accuracy": best,
                    "epoch": epoch,
                    "chosen_on": sets.chosen_on,
                    "test_accuracy": test,
                    "model": folder,
                    "report": report,
                }))?;
            } else {
                let labeling = sets.train.labeling();
                let (measure, of) = match labeling {
                    Labeling::One if recipe.run.choose_by == ChooseBy::BalancedAccuracy => ("balanced accuracy ", "on"),
                    Labeling::One => ("", "of"),
                    Labeling::Several => ("mean average precision ", "on"),
                    Labeling::Number => ("R² ", "on"),
                };
                let shown = |value: f64| match labeling {
                    Labeling::Number => format!("{value:.4}"),
                    Labeling::One | Labeling::Several => format!("{:.2} %", 100.0 * value),
                };
                let images = if test.is_some() { format!(" {of} the validation images") } else { String::new() };
                let (best, folder) = (shown(best), folder.display());
                printer.line(format_args!("best {measure}{best}{images} after epoch {epoch}: {folder}"))?;
                if let Some(test) = test.map(shown) {
                    printer.line(format_args!("test {measure}{test} {of} the test images, evaluated once"))?;
                }
                printer.flush()?;
                printer.note(format_args!("the best epoch was {}", sets.chosen_on.how()));
                // A missing journal only costs the sparkline.
                let entries = Journal::read(out).unwrap_or_default();
                let accuracies: Vec<f64> = entries.iter().filter_map(|entry| entry.validation_accuracy).collect();
                if let [first, .., last] = accuracies[..]
                    && labeling != Labeling::Number
                {
                    let (line, first, last) = (sparkline(&accuracies, SPARKLINE), 100.0 * first, 100.0 * last);
                    printer.note(format_args!("validation {line} {first:.2} to {last:.2} %"));
                }
                let what = match labeling {
                    Labeling::One => "curves, confusion matrix and mistakes",
                    Labeling::Several => "curves and classes",
                    Labeling::Number => "curves and errors",
                };
                printer.note(format_args!("{what}: {}", report.display()));
            }
            Ok(Outcome::Done)
        }
        Ended::Interrupted { step } => Ok(stopped(step, printer)),
    }
}

/// Pre-trains a model on images whose labels, if they have any, are not looked at.
fn without_labels(
    recipe: &Recipe,
    rule: &Pretraining,
    out: &Path,
    ranks: Ranks,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    let images = Images::open(recipe)?;
    images.notes.iter().for_each(|note| printer.note(note));
    let learned = recipe.model.from.as_ref().map(|from| -> anyhow::Result<Model> {
        Ok(Model::load(&located(Path::new(from), settings)?, &recipe.load_options(0)?, &settings.device)?)
    });
    let learned = learned.transpose()?;
    printer.note(format_args!("images     {} to train on, {} held out", images.train.len(), images.held_out.len()));
    // Pixels are numbers, colors are classes.
    let labeling = match rule {
        Pretraining::MaskedAutoencoder(_) => Labeling::Number,
        Pretraining::MaskedPatches(_) => Labeling::One,
    };
    let mut watcher = Lines::new(recipe, labeling, settings, printer);
    let on = RunOn { device: &settings.device, ranks: ranks.clone(), interrupted: interrupt::gracefully() };
    let ended = pretrain(recipe, &images, learned, out, on, &mut watcher);
    printer.finish_progress();
    note_time(&ranks, watcher.begun, printer);
    match ended? {
        Ended::Finished { best, epoch, .. } => {
            let (model, drawn) = (out.join("best"), out.join(drawing_of(rule)));
            if settings.json {
                let measure = match rule {
                    Pretraining::MaskedAutoencoder(_) => "best_r_squared",
                    Pretraining::MaskedPatches(_) => "best_color_accuracy",
                };
                let line = serde_json::json!({ measure: best, "epoch": epoch, "model": model, "drawing": drawn });
                printer.json_line(&line)?;
            } else {
                let measured = match rule {
                    Pretraining::MaskedAutoencoder(_) => format!("R² {best:.4} of the hidden pixels"),
                    Pretraining::MaskedPatches(_) => {
                        format!("{:.2} % of the colors of corrupted patches", 100.0 * best)
                    }
                };
                printer.line(format_args!(
                    "{measured} of held-out images after epoch {epoch}; the encoder: {}",
                    model.display()
                ))?;
                printer.note(format_args!("images, hidden and predicted: {}", drawn.display()));
                printer.note(format_args!("next: vitral finetune --model {} FOLDER --out RUN", model.display()));
            }
            Ok(Outcome::Done)
        }
        Ended::Interrupted { step } => Ok(stopped(step, printer)),
    }
}

/// Says how much of the time was spent with other ranks, if there are any.
fn note_time(ranks: &Ranks, begun: Instant, printer: &Printer) {
    if ranks.is_several() {
        let (spent, all) = (ranks.time_spent().as_secs_f64(), begun.elapsed().as_secs_f64());
        let share = 100.0 * spent / all.max(1e-9);
        printer
            .note(format_args!("rank 0 spent {spent:.1} s of {all:.1} ({share:.1} %) with others, waiting included"));
    }
}

fn stopped(step: u64, printer: &Printer) -> Outcome {
    printer.fault(format_args!("stopped after step {step}; run the same command again to resume"));
    Outcome::Interrupted
}

/// Prints one line per epoch, and a progress bar over its steps.
struct Lines<'a> {
    printer: &'a Printer,
    json: bool,
    epochs: u64,
    /// What the images are labeled with, which decides the measure.
    labeling: Labeling,
    choose_by: ChooseBy,
    /// Start time of this process, and its first completed epoch.
    begun: Instant,
    first: Option<u64>,
    bar: bool,
    losses: Losses,
}

impl<'a> Lines<'a> {
    fn new(recipe: &Recipe, labeling: Labeling, settings: &Settings, printer: &'a Printer) -> Self {
        Lines {
            printer,
            json: settings.json,
            epochs: recipe.run.epochs,
            labeling,
            choose_by: recipe.run.choose_by,
            begun: Instant::now(),
            first: None,
            bar: false,
            losses: Losses::default(),
        }
    }
}

/// The training loss so far, for the sparkline.
#[derive(Default)]
struct Losses {
    /// Means over about an eighth of an epoch each.
    means: Vec<f64>,
    /// Sum and count of losses not yet averaged.
    open: (f64, usize),
    /// The batch at which the last mean ended.
    batch: usize,
    /// The text next to the progress bar.
    message: String,
}

impl Losses {
    fn add(&mut self, loss: f32, batch: usize, batches: usize) {
        self.open = (self.open.0 + f64::from(loss), self.open.1 + 1);
        if batch < batches && batch.saturating_sub(self.batch) < batches.div_ceil(8) {
            return;
        }
        let (sum, count) = std::mem::take(&mut self.open);
        let mean = sum / count as f64;
        self.means.push(mean);
        self.batch = batch % batches.max(1);
        let recent = &self.means[self.means.len().saturating_sub(SPARKLINE)..];
        self.message = format!("loss {mean:.4} {}", sparkline(recent, SPARKLINE));
    }
}

impl Watcher for Lines<'_> {
    fn begin(&mut self, size: &RunSize) {
        let million = |count: usize| format!("{:.2} million", count as f64 / 1e6);
        let trained = match size.trained < size.parameters {
            true => {
                let share = 100.0 * size.trained as f64 / size.parameters as f64;
                format!(", {} of them trained ({share:.2} %)", size.trained)
            }
            false => String::new(),
        };
        let cost = size.macs as f64 / 1e9;
        self.printer.note(format_args!(
            "model      {} parameters{trained}; {cost:.2} G multiply-accumulates per image",
            million(size.parameters)
        ));
        self.printer.note(format_args!(
            "run        {} of {}",
            count(size.steps as usize, "step"),
            count(size.images, "image")
        ));
    }

    fn step(&mut self, report: &StepReport, batch: usize, batches: usize) {
        if !self.bar {
            self.printer.start_progress(batches, "batches");
            self.bar = true;
        }
        self.losses.add(report.loss, batch, batches);
        self.printer.beside_progress(&self.losses.message);
        // A closed output is noticed when the epoch's line is printed.
        let _ = self.printer.advance(usize::from(batch <= batches));
    }

    fn note(&mut self, note: &str) {
        self.printer.note(note);
    }

    fn unreadable(&mut self, faults: &[String]) {
        for fault in faults.iter().take(NAMED) {
            self.printer.fault(format_args!("skipped: {fault}"));
        }
        if faults.len() > NAMED {
            self.printer.fault(format_args!("skipped: {} more", faults.len() - NAMED));
        }
    }

    fn epoch(&mut self, entry: &Entry, best: bool) {
        self.printer.finish_progress();
        self.bar = false;
        let printed = if self.json {
            self.printer.json_line(entry)
        } else {
            // In a resumed run, only the epochs of this process show how long one takes.
            let done = entry.epoch + 1 - *self.first.get_or_insert(entry.epoch);
            let left =
                self.begun.elapsed().as_secs_f64() / done as f64 * self.epochs.saturating_sub(entry.epoch) as f64;
            let validation =
                entry.validation_loss.zip(entry.validation_accuracy).map_or(String::new(), |(loss, accuracy)| {
                    let best = if best { " best" } else { "" };
                    let (name, value) = match self.labeling {
                        Labeling::One if self.choose_by == ChooseBy::BalancedAccuracy => {
                            ("balanced ", format!("{:.2} %", 100.0 * accuracy))
                        }
                        Labeling::One => ("", format!("{:.2} %", 100.0 * accuracy)),
                        Labeling::Several => ("mAP ", format!("{:.2} %", 100.0 * accuracy)),
                        Labeling::Number => ("R² ", format!("{accuracy:.4}")),
                    };
                    format!("validation {loss:.4}, {name}{value}{best}  ")
                });
            let line = format!(
                "epoch {:>3}/{}  loss {:.4}  {validation}{:.0} images/s  {}",
                entry.epoch,
                self.epochs,
                entry.train_loss,
                entry.images_per_second,
                if left > 0.0 { format!("{} left", span(left)) } else { String::new() },
            );
            self.printer.line(line.trim_end()).map_err(Into::into)
        };
        let _ = printed.and_then(|()| Ok(self.printer.flush()?));
    }
}

/// Formats a duration in seconds.
fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
