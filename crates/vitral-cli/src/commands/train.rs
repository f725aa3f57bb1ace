//! `vitral train`: a model from scratch, from a recipe.

use std::path::PathBuf;

use clap::Args;
use vitral_train::recipe::Recipe;

use crate::follow::{follow, parsed};
use crate::outcome::Outcome;
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
  vitral classify --model runs/mnist/best digit.png

Every key of a recipe: docs/recipes.md in Vitral's repository.")]
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
    let recipe = Recipe::load(&args.recipe, &parsed(&args.set)?)?;
    follow(&recipe, &args.out, settings, printer)
}
