//! `vitral inspect`: what is in a weight file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use vitral::weights::inspect;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// A model's folder, or one weight file: safetensors, PyTorch or NumPy.
    pub(crate) path: PathBuf,
    /// The file that describes a checkpoint which does not describe itself.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `inspect`.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let found = inspect::inspect(&args.path, args.config.as_deref())
        .with_context(|| format!("cannot inspect `{}`", args.path.display()))?;
    // Written, not printed: a reader such as `head` may stop listening.
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
    } else {
        write!(out, "{found}")?;
    }
    Ok(ExitCode::SUCCESS)
}
