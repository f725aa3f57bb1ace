//! `vitral study`: accuracy as a function of the amount of training data.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use vitral::{LoadOptions, Model};
use vitral_ranks::{Ranks, Reduction};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::sets::open_sets;
use vitral_train::study::{Cell, best, write};

use crate::fault::Usage;
use crate::follow::follow;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::run_args::parsed;
use crate::settings::{Settings, agree};

/// Train models on growing fractions of the data, and compare them
///
/// The data-size study of the ViT paper (arXiv:2010.11929): trains every recipe on every fraction of the images, each
/// an ordinary run in a folder of its own, and writes the accuracies as a table (`study.csv`, `study.json`) and a curve
/// (`study.svg`). A subset takes the same fraction of every class, is drawn with the seed, is the same for all recipes,
/// and contains the smaller subsets. Running the same command again resumes where it stopped.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral study recipes/study/vit.toml recipes/study/hybrid.toml --fractions 0.1,0.25,0.5,1 --out runs/study \\
      --set data.train=train.tar.gz --set data.test=test.tar.gz
  vitral study recipes/mnist.toml --fractions 0.01,0.1,1 --same-steps --out runs/study --set data.train=mnist/

With --json: one line per epoch as with `train`, and one line for each finished run: model, parameters, fraction, \
images, epochs, accuracy, best_epoch, seconds, folder.")]
pub(crate) struct StudyArgs {
    /// The recipes, one per model; a model is named after its file
    #[arg(required = true, value_name = "RECIPE")]
    recipes: Vec<PathBuf>,
    /// Fractions of the images to train on
    #[arg(long, value_name = "FRACTIONS", value_delimiter = ',', default_values_t = [0.1, 0.25, 0.5, 1.0], value_parser = share)]
    fractions: Vec<f64>,
    /// Seed that selects the images of each subset
    #[arg(long, value_name = "SEED", default_value = "0", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Train longer on fewer images, so that all runs take about as many steps and are evaluated about as often
    #[arg(long)]
    same_steps: bool,
    /// Folder for the study
    #[arg(long, alias = "output", value_name = "FOLDER")]
    out: PathBuf,
    /// Change a key of every recipe, as in `run.epochs=5`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Reads a fraction of the data.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|&share: &f64| share > 0.0 && share <= 1.0);
    share.ok_or_else(|| "expected a fraction above 0 and at most 1, as in `0.25`".into())
}

pub(crate) fn run(args: &StudyArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut names = BTreeSet::new();
    if let Some(twice) = args.recipes.iter().map(|path| name(path)).find(|name| !names.insert(name.clone())) {
        return Err(Usage(format!("two recipes are named `{twice}`; rename one of the files")).into());
    }
    let given = parsed(&args.set)?;
    let mut fractions = args.fractions.clone();
    fractions.sort_by(f64::total_cmp);
    fractions.dedup();
    let ranks = &settings.ranks;
    on_first(ranks, || {
        std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create `{}`", args.out.display()))
    })?;
    let mut cells = Vec::new();
    for &fraction in &fractions {
        for path in &args.recipes {
            let model = name(path);
            let mut set = given.clone();
            set.push(Setting::new("data.subset.fraction", fraction));
            set.push(Setting::new("data.subset.seed", i64::try_from(args.seed)?));
            let mut recipe = Recipe::load(path, &set)?;
            if args.same_steps {
                let longer = |epochs: u64| (epochs as f64 / fraction).round() as u64;
                for epochs in [&mut recipe.run.epochs, &mut recipe.run.evaluate_every, &mut recipe.augment.plain_epochs]
                {
                    *epochs = longer(*epochs);
                }
                for epochs in [&mut recipe.schedule.warmup_epochs, &mut recipe.schedule.cooldown_epochs] {
                    *epochs = (f64::from(*epochs) / fraction) as f32;
                }
            }
            let folder = args.out.join(&model).join(fraction.to_string());
            let images = open_sets(&recipe)?.train.len();
            printer.note(format_args!("{model} on {images} images ({fraction}): {}", folder.display()));
            if follow(&recipe, &folder, Reduction::Tree, settings, printer)? == Outcome::Interrupted {
                return Ok(Outcome::Interrupted);
            }
            on_first(ranks, || {
                let (accuracy, best_epoch, seconds) =
                    best(&folder)?.with_context(|| format!("`{}` has no epoch", folder.display()))?;
                let kept = Model::load(folder.join("best"), &LoadOptions::default(), &settings.device)?;
                let parameters = kept.vit().declarations().count();
                let epochs = recipe.run.epochs;
                let cell = Cell { model, parameters, fraction, images, epochs, accuracy, best_epoch, seconds, folder };
                if settings.json {
                    printer.json_line(&cell)?;
                }
                cells.push(cell);
                // Makes partial results available while the rest is trained.
                Ok(write(&args.out, &cells)?)
            })?;
        }
    }
    if !settings.json {
        table(&cells, printer)?;
    }
    printer.note(format_args!("curve: {}", args.out.join("study.svg").display()));
    Ok(Outcome::Done)
}

/// Does something on the first rank only, where all wait for it.
fn on_first(ranks: &Ranks, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let done = if ranks.is_first() { work() } else { Ok(()) };
    agree(ranks, done.map(|()| Vec::new())).map(|_| ())
}

/// One row per model, one column per fraction.
fn table(cells: &[Cell], printer: &Printer) -> anyhow::Result<()> {
    let mut models: Vec<&Cell> = Vec::new();
    let mut images: Vec<usize> = Vec::new();
    for cell in cells {
        if !models.iter().any(|known| known.model == cell.model) {
            models.push(cell);
        }
        images.push(cell.images);
    }
    images.sort_unstable();
    images.dedup();
    let wide = models.iter().map(|cell| cell.model.chars().count()).max().unwrap_or(0).max(8);
    let heads: String = images.iter().map(|images| format!("{images:>10}")).collect();
    printer.line(format_args!("{:<wide$}  {:>11}{heads}", "images", "parameters"))?;
    for model in models {
        let of = |images: &usize| {
            let cell = cells.iter().find(|cell| cell.model == model.model && cell.images == *images);
            cell.map_or(format!("{:>10}", ""), |cell| format!("{:>8.2} %", 100.0 * cell.accuracy))
        };
        let values: String = images.iter().map(of).collect();
        printer.line(format_args!("{:<wide$}  {:>11}{values}", model.model, model.parameters))?;
    }
    Ok(())
}
