//! `vitral inspect`: list the contents of a weight file.

use std::path::PathBuf;

use anyhow::Context;
use vitral::weights::inspect;

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};

/// List the contents of a weight file
///
/// Prints every tensor with its shape, type and statistics, NaNs and infinities, and which library's names are used.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral inspect vit-base-patch16-224
  vitral inspect model.pth --json")]
pub(crate) struct InspectArgs {
    /// A model folder, one weight file (safetensors, PyTorch or NumPy), or a name on the hub such as `hf:ORG/NAME`
    pub(crate) path: PathBuf,
    /// A config file, for a checkpoint that comes without one
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

/// Runs `inspect`.
pub(crate) fn run(args: &InspectArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let path = located(&args.path, settings)?;
    let found = inspect::inspect(&path, args.config.as_deref())
        .with_context(|| format!("cannot inspect `{}`", args.path.display()))?;
    if settings.json {
        printer.json(&found)?;
    } else {
        printer.bytes(found.to_string().as_bytes())?;
    }
    Ok(Outcome::Done)
}
