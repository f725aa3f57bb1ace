//! `vitral doctor`: check that a model is complete and consistent.

use vitral::LoadOptions;
use vitral::doctor::{self, Severity};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{GivenModelArgs, Settings};

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
    #[command(flatten)]
    model: GivenModelArgs,
}

/// Runs `doctor`; the exit code is 1 if there is an error.
pub(crate) fn run(args: &DoctorArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let options = LoadOptions::default().config(args.model.config.clone());
    let path = args.model.located(settings)?;
    let found = doctor::examine(&path, &options, &settings.device);
    if settings.json {
        printer.json(&found)?;
    } else {
        printer.bytes(found.to_string().as_bytes())?;
    }
    Ok(if found.worst() == Severity::Fault { Outcome::Incomplete } else { Outcome::Done })
}
