//! `vitral doctor`: whether a model has all it needs.

use std::path::PathBuf;

use vitral::LoadOptions;
use vitral::doctor::{self, Severity};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Say whether a model has all it needs
///
/// Checks configuration, preprocessing, labels, positions, head and norms, and numbers recorded beside the weights; flags
/// a mean, crop or resize that disagrees with the model's own family. Exit code 1 where something is at fault.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral doctor vit-base-patch16-224")]
pub(crate) struct DoctorArgs {
    /// The model: a folder, or a checkpoint with `--config`
    pub(crate) path: PathBuf,
    /// The file that describes a checkpoint which does not describe itself
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

/// Runs `doctor`: exit code 1 where something is at fault.
pub(crate) fn run(args: &DoctorArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let options = LoadOptions::default().config(args.config.clone());
    let found = doctor::examine(&args.path, &options, &settings.device);
    if settings.json {
        printer.json(&found)?;
    } else {
        printer.bytes(found.to_string().as_bytes())?;
    }
    Ok(if found.worst() == Severity::Fault { Outcome::Incomplete } else { Outcome::Done })
}
