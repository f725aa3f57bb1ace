//! `vitral doctor`: check that a model is complete and consistent.

use std::path::PathBuf;

use vitral::LoadOptions;
use vitral::doctor::{self, Severity};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};

/// Check that a model is complete and consistent
///
/// Checks configuration, preprocessing, labels, positions, head and norms, and any reference outputs stored with the
/// weights. Warns about what differs from the published models of the family: mean, standard deviation, crop, resize,
/// pixels that are not rescaled, heads, activation, epsilon, positions of another grid; and about weights that look
/// untrained.
///
/// The exit code is 1 if there is an error: files that are missing or do not match, values that are not finite, or no
/// preprocessing. With warnings and notes alone it is 0.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral doctor vit-base-patch16-224")]
pub(crate) struct DoctorArgs {
    /// The model: a folder, a checkpoint with `--config`, or a name on the hub such as `hf:ORG/NAME`
    pub(crate) path: PathBuf,
    /// A config file, for a checkpoint that comes without one
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

/// Runs `doctor`; the exit code is 1 if there is an error.
pub(crate) fn run(args: &DoctorArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let options = LoadOptions::default().config(args.config.clone());
    let path = located(&args.path, settings)?;
    let found = doctor::examine(&path, &options, &settings.device);
    if settings.json {
        printer.json(&found)?;
    } else {
        printer.bytes(found.to_string().as_bytes())?;
    }
    Ok(if found.worst() == Severity::Fault { Outcome::Incomplete } else { Outcome::Done })
}
