//! `vitral inspect`: list the contents of a weight file.

use anyhow::Context;
use vitral::weights::inspect;

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{GivenModelArgs, Settings};

/// List the contents of a weight file
///
/// Prints every tensor with its shape, type and statistics, NaNs and infinities, and which library's names are used.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral inspect vit-base-patch16-224
  vitral inspect model.pth --json")]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    model: GivenModelArgs,
}

/// Runs `inspect`.
pub(crate) fn run(args: &InspectArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let path = args.model.located(settings)?;
    let found = inspect::inspect(&path, args.model.config.as_deref())
        .with_context(|| format!("cannot inspect `{}`", args.model.given().display()))?;
    if settings.json {
        printer.json(&found)?;
    } else {
        printer.bytes(found.to_string().as_bytes())?;
    }
    Ok(Outcome::Done)
}
