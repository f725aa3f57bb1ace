//! `vitral pull`: download a model from a hub.

use std::path::PathBuf;

use anyhow::Context;
use vitral::weights::hub::{Hub, HubName};

use crate::download::Download;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Download a model from a Hugging Face hub
///
/// Keeps it in the hub's own cache (HF_HOME), resumes interrupted downloads, verifies them, and prints the folder.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral pull hf:google/vit-base-patch16-224
  vitral pull timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k")]
pub(crate) struct PullArgs {
    /// The model: `hf:ORG/NAME`, `hf:ORG/NAME@REVISION`, or `timm/NAME`
    pub(crate) name: HubName,
    /// Where to keep it instead of the HF_HOME cache
    #[arg(long)]
    pub(crate) cache: Option<PathBuf>,
}

/// Runs `pull` and prints the folder, which any command accepts as its model.
pub(crate) fn run(args: &PullArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut hub = Hub::from_environment();
    if let Some(cache) = &args.cache {
        hub.cache.clone_from(cache);
    }
    let mut bar = Download::new(settings.quiet);
    let folder = hub.pull(&args.name, &mut |progress| bar.show(progress));
    bar.finish();
    let folder = folder.with_context(|| format!("cannot pull {}", args.name))?;
    if settings.json {
        printer.json(&serde_json::json!({ "name": args.name.to_string(), "path": folder }))?;
    } else {
        printer.line(folder.display())?;
    }
    Ok(Outcome::Done)
}
