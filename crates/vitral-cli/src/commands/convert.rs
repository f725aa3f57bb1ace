//! `vitral convert`: write a model in another library's format.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use vitral::DType;
use vitral::config::Size;
use vitral::weights::export::{self, ConvertOptions, Target};

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};

/// Convert a model to another library's format
///
/// Reads a model in any supported format and writes it as Hugging Face, timm, torchvision, Google's JAX code or Vitral
/// stores it. Anything the target cannot express is refused by name. What was written is loaded again and must compute the
/// same; otherwise it is deleted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral convert vit-base-patch16-224 vit-timm --to timm
  vitral convert dinov2-small dinov2-timm --to timm --image-size 224
  vitral convert B_16.npz vit-hf --to huggingface --allow activation --allow norm_epsilon")]
pub(crate) struct ConvertArgs {
    /// The model (a folder, a checkpoint with `--config`, a `.npz` from Google's JAX code, or a name on the hub such as
    /// `hf:ORG/NAME`), then where to write: a new folder, or a `.npz` file with `--to jax` or `big_vision`
    #[arg(value_names = ["MODEL", "DESTINATION"], num_args = 1..=2, required = true)]
    paths: Vec<PathBuf>,
    /// The model, in place of the first argument
    #[arg(long, short, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Target format: huggingface, timm, jax, big_vision (blocks stacked), torchvision or bundle
    #[arg(long)]
    to: Target,
    /// A config file, for a checkpoint that comes without one
    #[arg(long)]
    config: Option<PathBuf>,
    /// What may differ in the target, by the name in the refusal message (`norm_epsilon`, `activation`, `preprocess`…)
    #[arg(long, value_name = "FIELD")]
    allow: Vec<String>,
    /// A different image size, in pixels: position embeddings are resampled, and the preprocessing follows
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=32_768))]
    image_size: Option<u32>,
    /// Type of the stored weights: 16 bits take half the space
    #[arg(long, value_enum, value_name = "KIND", default_value = "f32")]
    dtype: Stored,
}

/// Type of the stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stored {
    /// 32-bit floats
    F32,
    /// bfloat16
    Bf16,
    /// IEEE half floats
    F16,
}

impl From<Stored> for DType {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => DType::F32,
            Stored::Bf16 => DType::Bf16,
            Stored::F16 => DType::F16,
        }
    }
}

/// Runs `convert`.
pub(crate) fn run(args: &ConvertArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let ConvertArgs { paths, model, to, config, allow, dtype, image_size } = args;
    let (source, destination) = match (model, &paths[..]) {
        (None, [source, destination]) => (source, destination),
        (Some(source), [destination]) => (source, destination),
        (Some(_), _) => {
            return Err(Usage("the model is given twice: with `--model`, and as the first argument".into()).into());
        }
        (None, _) => return Err(Usage("expected a model and where to write it, found one path".into()).into()),
    };
    let options = ConvertOptions::default()
        .config(config.clone())
        .allow(allow)
        .storage((*dtype).into())
        .image_size(image_size.map(|side| Size::square(side as usize)));
    let differences = export::convert(&located(source, settings)?, destination, *to, &options)
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
