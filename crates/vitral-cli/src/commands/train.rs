//! `vitral train`: train a model from scratch with a recipe.

use std::path::PathBuf;

use clap::Args;
use vitral_train::recipe::Recipe;

use crate::follow::follow;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::run_args::RunArgs;
use crate::settings::Settings;

/// Train a model from scratch
///
/// Runs a recipe (TOML) in a folder, which gets the resolved recipe, a journal (JSON Lines and CSV), checkpoints, and
/// the best model so far as a bundle that every command accepts. Running the same command again resumes where it
/// stopped, and the result is bit-identical to an uninterrupted run; Ctrl-C stops after the current step.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral train recipes/mnist.toml --out runs/mnist --set data.train=mnist/
  vitral train recipes/mnist.toml --out runs/short --set data.train=mnist/ --set run.epochs=2 --set run.batch=64
  vitral classify --model runs/mnist/best digit.png

Every key of a recipe: docs/recipes.md in Vitral's repository.")]
pub(crate) struct TrainArgs {
    /// The recipe
    recipe: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

pub(crate) fn run(args: &TrainArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let recipe = Recipe::load(&args.recipe, &args.run.settings()?)?;
    follow(&recipe, &args.run.out, args.run.all_reduce.into(), settings, printer)
}
