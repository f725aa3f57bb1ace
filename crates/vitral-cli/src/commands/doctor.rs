//! `vitral doctor`: whether a model has all it needs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use vitral::doctor::{self, Severity};
use vitral::{Cpu, LoadOptions};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The model: a folder, or a checkpoint with `--config`.
    pub(crate) path: PathBuf,
    /// The file that describes a checkpoint which does not describe itself.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `doctor`: exit code 1 where something is at fault.
pub(crate) fn run(args: &DoctorArgs, device: &Cpu) -> anyhow::Result<ExitCode> {
    let options = LoadOptions { config: args.config.clone(), ..LoadOptions::default() };
    let found = doctor::examine(&args.path, &options, device);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
    } else {
        write!(out, "{found}")?;
    }
    Ok(if found.worst() == Severity::Fault { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
