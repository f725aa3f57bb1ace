//! `vitral convert`: a model written for another library.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use vitral::weights::export::{self, Target};

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConvertArgs {
    /// The model: a folder, a checkpoint with `--config`, or a `.npz` of Google's JAX code.
    pub(crate) source: PathBuf,
    /// Where to write: a new folder, or a `.npz` file with `--to jax`.
    pub(crate) destination: PathBuf,
    /// For which library: huggingface, timm, jax, torchvision or bundle.
    #[arg(long)]
    pub(crate) to: Target,
    /// The file that describes a checkpoint which does not describe itself.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// What may differ in the target, by the name the refusal gives it (`norm_epsilon`, `activation`, `preprocess`…).
    #[arg(long, value_name = "FIELD")]
    pub(crate) allow: Vec<String>,
    /// Print the differences as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Runs `convert`.
pub(crate) fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let ConvertArgs { source, destination, to, config, allow, .. } = args;
    let differences = export::convert(source, config.as_deref(), destination, *to, allow)
        .with_context(|| format!("cannot convert `{}`", source.display()))?;
    if args.json {
        let listed: Vec<_> = differences
            .iter()
            .map(|each| serde_json::json!({ "field": each.field, "model": each.ours, "target": each.theirs }))
            .collect();
        println!("{}", serde_json::json!({ "destination": destination, "to": to.name(), "differences": listed }));
    } else if !args.quiet {
        println!("wrote {} for {to}", destination.display());
        for difference in &differences {
            println!("  not kept: {difference}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
