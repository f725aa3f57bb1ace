//! `vitral train`: a model from scratch, from a recipe.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use vitral_train::fit::{Outcome as Ended, Watcher};
use vitral_train::journal::Entry;
use vitral_train::recipe::Recipe;
use vitral_train::run::{open_sets, run as train};
use vitral_train::step::StepReport;

use super::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Train a model from scratch
///
/// Runs a recipe (TOML) in a folder: the recipe as resolved, a journal (JSON Lines and CSV), checkpoints, and the best
/// model so far as a bundle that every command takes. The same command goes on where a run stopped, with the same bits as
/// if it had not; Ctrl-C stops it after the step in progress.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral train recipes/mnist.toml --out runs/mnist
  vitral train recipes/mnist.toml --out runs/short --set run.epochs=2 --set run.batch=64
  vitral classify --model runs/mnist/best digit.png")]
pub(crate) struct TrainArgs {
    /// The recipe
    recipe: PathBuf,
    /// The run's folder
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Change a key of the recipe, as in `schedule.rate=3e-4`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub(crate) fn run(args: &TrainArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let recipe = Recipe::load(&args.recipe, &args.set)?;
    let sets = open_sets(&recipe)?;
    for (name, set) in [("training", &sets.train), ("held out", &sets.test)] {
        printer.note(format_args!("{name:<9} {} pictures of {} classes", set.len(), set.classes().len()));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    // Where no handler can be set, Ctrl-C ends the process, and the last checkpoint stays.
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    let mut watcher =
        Lines { printer, json: settings.json, epochs: recipe.run.epochs, begun: Instant::now(), bar: false };
    let ended = train(&recipe, &sets, &args.out, &settings.device, &interrupted, &mut watcher);
    printer.finish_progress();
    match ended? {
        Ended::Finished { best, epoch } => {
            let folder = args.out.join("best");
            if settings.json {
                printer.json_line(&serde_json::json!({ "best_accuracy": best, "epoch": epoch, "model": folder }))?;
            } else {
                let percent = 100.0 * best;
                printer.line(format_args!("best {percent:.2} % after epoch {epoch}: {}", folder.display()))?;
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
    begun: Instant,
    bar: bool,
}

impl Watcher for Lines<'_> {
    fn step(&mut self, _: &StepReport, batch: usize, batches: usize) {
        if !self.bar {
            self.printer.start_progress(batches, "batches");
            self.bar = true;
        }
        // A reader that is gone is noticed when the epoch's line is printed.
        let _ = self.printer.advance(usize::from(batch <= batches));
    }

    fn epoch(&mut self, entry: &Entry, best: bool) {
        self.printer.finish_progress();
        self.bar = false;
        let printed = if self.json {
            self.printer.json_line(entry)
        } else {
            let left = self.begun.elapsed().as_secs_f64() / entry.epoch.max(1) as f64
                * self.epochs.saturating_sub(entry.epoch) as f64;
            let line = format!(
                "epoch {:>3}/{}  loss {:.4}  held out {:.4}, {:.2} %{}  {:.0} images/s  {}",
                entry.epoch,
                self.epochs,
                entry.train_loss,
                entry.test_loss,
                100.0 * entry.test_accuracy,
                if best { " best" } else { "" },
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
