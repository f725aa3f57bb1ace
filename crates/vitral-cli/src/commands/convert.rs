//! `vitral convert`: a model written for another library.

use std::path::PathBuf;

use anyhow::Context;
use vitral::weights::export::{self, Target};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, Weights};

/// Write a model for another library
///
/// Reads a model from wherever it comes and writes it as Hugging Face, timm, torchvision, Google's JAX code or Vitral
/// keeps it. What the target cannot express is refused by name; nothing is written until all of it fits.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral convert vit-base-patch16-224 vit-timm --to timm
  vitral convert B_16.npz vit-hf --to huggingface --allow activation --allow norm_epsilon")]
pub(crate) struct ConvertArgs {
    /// The model: a folder, a checkpoint with `--config`, or a `.npz` of Google's JAX code
    pub(crate) source: PathBuf,
    /// Where to write: a new folder, or a `.npz` file with `--to jax` or `big_vision`
    pub(crate) destination: PathBuf,
    /// For which library: huggingface, timm, jax, big_vision (its blocks stacked), torchvision or bundle
    #[arg(long)]
    pub(crate) to: Target,
    /// The file that describes a checkpoint which does not describe itself
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// What may differ in the target, by the name the refusal gives it (`norm_epsilon`, `activation`, `preprocess`…)
    #[arg(long, value_name = "FIELD")]
    pub(crate) allow: Vec<String>,
    /// How numbers are kept in the file: 16 bits take half the space
    #[arg(long, value_enum, value_name = "KIND", default_value = "f32")]
    pub(crate) dtype: Weights,
}

/// Runs `convert`.
pub(crate) fn run(args: &ConvertArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let ConvertArgs { source, destination, to, config, allow, dtype } = args;
    let differences = export::convert(source, config.as_deref(), destination, *to, allow, (*dtype).into())
        .with_context(|| format!("cannot convert `{}`", source.display()))?;
    if settings.json {
        let listed: Vec<_> = differences
            .iter()
            .map(|each| serde_json::json!({ "field": each.field, "model": each.ours, "target": each.theirs }))
            .collect();
        printer.json(&serde_json::json!({ "destination": destination, "to": to.name(), "differences": listed }))?;
    } else {
        printer.line(format_args!("wrote {} for {to}", destination.display()))?;
        for difference in &differences {
            printer.line(format_args!("  not kept: {difference}"))?;
        }
    }
    Ok(Outcome::Done)
}
