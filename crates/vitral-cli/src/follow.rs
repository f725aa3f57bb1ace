//! A recipe that is followed: what every command that trains does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vitral::{LoadOptions, Model};
use vitral_train::data::Summary;
use vitral_train::fit::{Outcome as Ended, Watcher};
use vitral_train::journal::{Entry, Journal};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::report::ChosenOn;
use vitral_train::run::{Models, run as train};
use vitral_train::sets::open_sets;
use vitral_train::step::StepReport;

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};
use crate::sparkline::sparkline;

/// Images that are decoded to tell their sizes before a run.
const SAMPLED: usize = 200;

/// Images that are named where many could not be used.
const NAMED: usize = 5;

/// Numbers of a course that are shown.
const COURSE: usize = 16;

/// Whether the run in progress shall stop after its step.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Settings of a recipe's keys.
pub(crate) fn parsed(settings: &[String]) -> anyhow::Result<Vec<Setting>> {
    settings.iter().map(|setting| Setting::parse(setting).map_err(|fault| Usage(fault).into())).collect()
}

/// Loads what a recipe names and runs it in a folder, from the beginning or from where it stopped.
pub(crate) fn follow(recipe: &Recipe, out: &Path, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let sets = open_sets(recipe)?;
    let judged = if sets.chosen_on == ChosenOn::ValidationSplit { "held out" } else { sets.chosen_on.reported_on() };
    let validation = sets.validation.as_ref().map(|validation| ("validation", validation));
    for (name, set) in [("training", &sets.train)].into_iter().chain(validation).chain([(judged, &sets.test)]) {
        let summary = Summary::of(set.as_ref(), SAMPLED, 0);
        printer.note(format_args!("{name:<10} {summary}"));
    }
    let classes = sets.train.classes().len();
    let load = |name: &str, options: &LoadOptions| -> anyhow::Result<Model> {
        Ok(Model::load(&located(Path::new(name), settings)?, options, &settings.device)?)
    };
    let mut models = Models::default();
    if let Some(from) = &recipe.model.from {
        models.learned = Some(load(from, &recipe.load_options(classes)?)?);
    }
    if let Some(teaching) = &recipe.distillation {
        models.teacher = Some(load(&teaching.teacher, &LoadOptions::default())?);
    }
    // Where no handler can be set, Ctrl-C ends the process, and the last checkpoint stays. Of several runs in one process,
    // the first sets it for all.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
    let mut watcher = Lines {
        printer,
        json: settings.json,
        epochs: recipe.run.epochs,
        begun: Instant::now(),
        first: None,
        bar: false,
        losses: Losses::default(),
    };
    let ended = train(recipe, &sets, models, out, &settings.device, &INTERRUPTED, &mut watcher);
    printer.finish_progress();
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
                let percent = 100.0 * best;
                let of = if test.is_some() { " of the validation images" } else { "" };
                printer.line(format_args!("best {percent:.2} %{of} after epoch {epoch}: {}", folder.display()))?;
                if let Some(test) = test {
                    printer.line(format_args!("test {:.2} % of the test images, judged once", 100.0 * test))?;
                }
                printer.flush()?;
                printer.note(format_args!("the best epoch was {}", sets.chosen_on.how()));
                // The model is there; its course is only good to know.
                let entries = Journal::read(out).unwrap_or_default();
                let judged: Vec<f64> = entries.iter().filter_map(|entry| entry.validation_accuracy).collect();
                if let [first, .., last] = judged[..] {
                    let (line, first, last) = (sparkline(&judged, COURSE), 100.0 * first, 100.0 * last);
                    printer.note(format_args!("held out {line} {first:.2} to {last:.2} %"));
                }
                printer.note(format_args!("curves, confusion matrix and mistakes: {}", report.display()));
            }
            Ok(Outcome::Done)
        }
        Ended::Interrupted { step } => {
            printer.fault(format_args!("stopped after step {step}; the same command goes on from there"));
            Ok(Outcome::Incomplete)
        }
    }
}

/// A line an epoch, and a bar over its steps.
struct Lines<'a> {
    printer: &'a Printer,
    json: bool,
    epochs: u64,
    /// When this process began, and how many epochs were done by its first whole one.
    begun: Instant,
    first: Option<u64>,
    bar: bool,
    losses: Losses,
}

/// The course of the training loss while it goes on.
#[derive(Default)]
struct Losses {
    /// Means over about an eighth of an epoch each.
    means: Vec<f64>,
    /// Sum and count of those to come.
    open: (f64, usize),
    /// The batch that the last one ended with.
    batch: usize,
    /// What stands beside the bar.
    course: String,
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
        let recent = &self.means[self.means.len().saturating_sub(COURSE)..];
        self.course = format!("loss {mean:.4} {}", sparkline(recent, COURSE));
    }
}

impl Watcher for Lines<'_> {
    fn begin(&mut self, learning: usize, parameters: usize) {
        if learning < parameters {
            let share = 100.0 * learning as f64 / parameters as f64;
            self.printer
                .note(format_args!("learns     {learning} numbers beside a model of {parameters} ({share:.2} %)"));
        }
    }

    fn step(&mut self, report: &StepReport, batch: usize, batches: usize) {
        if !self.bar {
            self.printer.start_progress(batches, "batches");
            self.bar = true;
        }
        self.losses.add(report.loss, batch, batches);
        self.printer.beside_progress(&self.losses.course);
        // A reader that is gone is noticed when the epoch's line is printed.
        let _ = self.printer.advance(usize::from(batch <= batches));
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
            // Of a run that goes on, only the epochs of this process tell how long one takes.
            let done = entry.epoch + 1 - *self.first.get_or_insert(entry.epoch);
            let left =
                self.begun.elapsed().as_secs_f64() / done as f64 * self.epochs.saturating_sub(entry.epoch) as f64;
            let judged =
                entry.validation_loss.zip(entry.validation_accuracy).map_or(String::new(), |(loss, accuracy)| {
                    let best = if best { " best" } else { "" };
                    format!("held out {loss:.4}, {:.2} %{best}  ", 100.0 * accuracy)
                });
            let line = format!(
                "epoch {:>3}/{}  loss {:.4}  {judged}{:.0} images/s  {}",
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

/// Seconds for people.
fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
