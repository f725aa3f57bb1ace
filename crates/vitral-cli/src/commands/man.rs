//! `vitral man`: manual pages.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::outcome::Outcome;
use crate::printer::Printer;

/// Write manual pages
///
/// One page for `vitral` and one for each command, as `vitral.1`, `vitral-classify.1` and so on.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral man ~/.local/share/man/man1 && man vitral-classify")]
pub(crate) struct ManArgs {
    /// The folder to write to, which is created if it is missing
    folder: PathBuf,
}

/// Writes the pages of the whole command line.
pub(crate) fn run(args: &ManArgs, line: clap::Command, printer: &Printer) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot create `{}`", args.folder.display()))?;
    let failed = || format!("cannot write manual pages to `{}`", args.folder.display());
    clap_mangen::generate_to(line, &args.folder).with_context(failed)?;
    printer.note(format_args!("manual pages: `{}`", args.folder.display()));
    Ok(Outcome::Done)
}
