//! Options of every command that trains.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vitral_ranks::Reduction;
use vitral_train::recipe::Setting;

use crate::fault::Usage;

/// Where a run is kept, and the keys of its recipe that are most often changed.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Folder for the run
    #[arg(long, alias = "output", alias = "output-dir", value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Number of epochs. More than before go on with a finished run
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Batch size
    #[arg(long, alias = "batch-size", value_name = "N")]
    batch: Option<u32>,
    /// Peak learning rate
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Seed for initial values, order, augmentation and dropout
    #[arg(long, value_name = "SEED")]
    seed: Option<u32>,
    /// Compute mean and standard deviation of every channel from the training images, in place of the model's or the recipe's
    /// own
    #[arg(long)]
    statistics: bool,
    /// How several ranks add up their gradients
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    pub(crate) all_reduce: AllReduce,
    /// Change a key of the recipe, as in `schedule.learning_rate=3e-4`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// How ranks add up gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AllReduce {
    /// In pairs: the same bits for any number of ranks
    #[default]
    Tree,
    /// By MPI's or NCCL's own all-reduce, which knows the network; bits depend on the number of ranks
    Library,
}

impl From<AllReduce> for Reduction {
    fn from(way: AllReduce) -> Self {
        match way {
            AllReduce::Tree => Reduction::Tree,
            AllReduce::Library => Reduction::Library,
        }
    }
}

impl RunArgs {
    /// The settings of the recipe; those given with `--set` come last.
    pub(crate) fn settings(&self) -> anyhow::Result<Vec<Setting>> {
        let whole = |key: &str, value: Option<u32>| value.map(|value| Setting::new(key, i64::from(value)));
        let mut settings: Vec<Setting> = [
            whole("run.epochs", self.epochs),
            whole("run.batch", self.batch),
            self.learning_rate.map(|rate| Setting::new("schedule.learning_rate", rate)),
            whole("run.seed", self.seed),
        ]
        .into_iter()
        .flatten()
        .collect();
        settings.extend(self.statistics.then(|| Setting::new("data.statistics", true)));
        settings.extend(parsed(&self.set)?);
        Ok(settings)
    }
}

/// Parses `key=value` settings of a recipe.
pub(crate) fn parsed(settings: &[String]) -> anyhow::Result<Vec<Setting>> {
    settings.iter().map(|setting| Setting::parse(setting).map_err(|fault| Usage(fault).into())).collect()
}
