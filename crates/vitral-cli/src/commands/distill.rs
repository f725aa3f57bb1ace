//! `vitral distill`: train a model on another model's predictions.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vitral_train::recipe::{Recipe, Setting};

use crate::follow::follow;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::run_args::RunArgs;
use crate::settings::Settings;

/// Train a model with another model as its teacher
///
/// Runs a recipe like `train`, while a teacher classifies each augmented image (DeiT, arXiv:2012.12877). A student with
/// a distillation token learns from the teacher through that token; any other student through its only head. The
/// teacher sees the same augmented images, at its own size, mean and standard deviation, and must know the data's
/// classes.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral distill recipes/mnist.toml --teacher runs/large/best --out runs/small --set data.train=mnist/
  vitral distill recipes/mnist.toml --teacher runs/large/best --kind soft --temperature 3 --out runs/soft \\
      --set data.train=mnist/
  vitral distill recipes/deit.toml --teacher runs/large/best --out runs/deit --set data.train=photos/ \\
      --set model.set.distillation_token=true")]
pub(crate) struct DistillArgs {
    /// The student's recipe
    recipe: PathBuf,
    /// The teacher: a folder, a bundle, or a name on a hub
    #[arg(long, value_name = "PATH")]
    teacher: String,
    /// Distillation target
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Weight of the distillation loss, from 0 to 1
    #[arg(long, default_value_t = 0.5)]
    share: f32,
    /// Temperature of both softmaxes, with `--kind soft`
    #[arg(long, default_value_t = 3.0)]
    temperature: f32,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The teacher's most likely class
    #[default]
    Hard,
    /// The teacher's softmax at a temperature
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
    set.extend(args.run.settings()?);
    follow(&Recipe::load(&args.recipe, &set)?, &args.run.out, args.run.all_reduce.into(), settings, printer)
}
