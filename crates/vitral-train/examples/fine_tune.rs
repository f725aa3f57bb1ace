//! A folder of images to a model of its own: `cargo run --release -p vitral-train --example fine_tune -- IMAGES OUT
//! [MODEL]`.
//!
//! IMAGES has a folder for each class. The best model is left in `OUT/best`; a run that was stopped goes on when it is
//! started again.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use vitral::{Device, Model};
use vitral_train::fit::Watcher;
use vitral_train::journal::Entry;
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::run::{Models, RunOn, run};
use vitral_train::sets::open_sets;
use vitral_train::step::StepReport;

/// A recipe as `vitral train` reads it; every key is described in `docs/recipes.md`.
const RECIPE: &str = r#"
[model]
from = ""
[data]
train = ""
[augment]
horizontal_flip = 0.5
[optimizer]
kind = "adamw"
[schedule]
learning_rate = 1e-3
[run]
epochs = 5
batch = 8
"#;

/// Prints a line for each epoch.
struct Printer;

impl Watcher for Printer {
    fn step(&mut self, _report: &StepReport, _batch: usize, _batches: usize) {}

    fn epoch(&mut self, entry: &Entry, best: bool) {
        let accuracy = entry.validation_accuracy.map_or(String::new(), |share| format!("{:.1} %", 100.0 * share));
        let best = if best { " (best so far)" } else { "" };
        println!("epoch {}: loss {:.3}, validation accuracy {accuracy}{best}", entry.epoch, entry.train_loss);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [images, out, rest @ ..] = &arguments[..] else { return Err("usage: fine_tune IMAGES OUT [MODEL]".into()) };
    let model = rest.first().map_or("assets/digits", String::as_str);
    let settings = [Setting::new("data.train", images.as_str()), Setting::new("model.from", model)];
    let recipe = Recipe::parse(RECIPE, Path::new("recipe.toml"), &settings)?;
    let device = Device::cpu(0);
    let sets = open_sets(&recipe)?;
    let classes = sets.train.classes().len();
    let learned = Some(Model::load(model, &recipe.load_options(classes)?, &device)?);
    let interrupted = AtomicBool::new(false);
    let models = Models { learned, teacher: None };
    let outcome = run(&recipe, &sets, models, out.as_ref(), RunOn::alone(&device, &interrupted), &mut Printer)?;
    println!("{outcome:?}; the best model is in {out}/best");
    Ok(())
}
