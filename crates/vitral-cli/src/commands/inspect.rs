//! `vitral inspect`: what is in a weight file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use vitral::weights::inspect;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// A model's folder, or one weight file: safetensors, PyTorch or NumPy.
    pub path: PathBuf,
    /// The file that describes a checkpoint which does not describe itself.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs `inspect`.
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let found = inspect::inspect(&args.path, args.config.as_deref())
        .with_context(|| format!("cannot inspect `{}`", args.path.display()))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{found}");
    }
    Ok(ExitCode::SUCCESS)
}
