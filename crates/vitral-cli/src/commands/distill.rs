//! `vitral distill`: a model that learns from another's answers.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vitral_train::recipe::{Recipe, Setting};

use crate::follow::{follow, parsed};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Train a model with another as its teacher
///
/// Runs a recipe as `train` does, while a teacher says what it takes each image for, as augmented (DeiT,
/// arXiv:2012.12877). A student with a distillation token learns from the teacher there; any other with its only head.
/// The teacher sees the student's images at its own size, mean and deviation, and must know the data's classes.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral distill recipes/mnist.toml --teacher runs/large/best --out runs/small
  vitral distill recipes/mnist.toml --teacher runs/large/best --kind soft --temperature 3 --out runs/soft
  vitral distill recipes/deit.toml --teacher runs/large/best --out runs/deit --set model.set.distillation_token=true")]
pub(crate) struct DistillArgs {
    /// The student's recipe
    recipe: PathBuf,
    /// The teacher: a folder, a bundle, or a name on a hub
    #[arg(long, value_name = "PATH")]
    teacher: String,
    /// The run's folder
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What the student takes from the teacher
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// The teacher's share of the loss
    #[arg(long, default_value_t = 0.5)]
    share: f32,
    /// Of both softmaxes, with `--kind soft`
    #[arg(long, default_value_t = 3.0)]
    temperature: f32,
    /// Change a key of the recipe, as in `schedule.rate=3e-4`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The class that it finds likeliest
    #[default]
    Hard,
    /// Its softmax at a temperature
    Soft,
}

pub(crate) fn run(args: &DistillArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let kind = if args.kind == Kind::Hard { "hard" } else { "soft" };
    let mut set = vec![
        Setting::new("distillation.teacher", args.teacher.clone()),
        Setting::new("distillation.kind", kind),
        Setting::new("distillation.share", f64::from(args.share)),
    ];
    if args.kind == Kind::Soft {
        set.push(Setting::new("distillation.temperature", f64::from(args.temperature)));
    }
    set.extend(parsed(&args.set)?);
    follow(&Recipe::load(&args.recipe, &set)?, &args.out, settings, printer)
}
