//! `vitral convert`: write a model in another library's format.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::ValueEnum;
use vitral::config::Size;
use vitral::message::count;
use vitral::onnx::{self, OnnxOptions, Opset};
use vitral::text::TextLabels;
use vitral::weights::adapt::Adaptation;
use vitral::weights::export::{self, ConvertOptions, ExportSource, Target};
use vitral::{DType, Device, LoadOptions, Model};

use crate::fault::Usage;
use crate::labels::LabelArgs;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};

/// Convert a model to another library's format, or to ONNX
///
/// Reads a model in any supported format and writes it as Hugging Face, timm, torchvision, Google's JAX code or Vitral
/// stores it. Anything the target cannot express is refused by name. What was written is loaded again and must compute the
/// same; otherwise it is deleted.
///
/// With `--to onnx` it writes a graph for ONNX Runtime, OpenVINO and others, with the input `pixel_values` [batch, channels,
/// height, width] and the outputs `logits` (if there is a head) and `features`, for any batch and one image size. What was
/// written is read again, and must be whole and have the model's values; it is not run.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vitral convert vit-base-patch16-224 vit-timm --to timm --allow norm_epsilon
  vitral convert dinov2-small dinov2-timm --to timm --image-size 224
  vitral convert B_16.npz vit-hf --to huggingface --allow preprocess    # TensorFlow's resize does not antialias
  vitral convert vit-base-patch16-224 vit.onnx --to onnx
  vitral convert dinov2-small dinov2.onnx --to onnx --image-size 224x448 --dtype f16
  vitral convert clip-vit-base-patch32 pets --to bundle --labels cat,dog,horse --template 'a photo of a {}.'
  vitral convert vit-int8 vit-int8.onnx --to onnx        # a bundle by `vitral quantize`, a quarter of the size")]
pub(crate) struct ConvertArgs {
    /// The model (a folder, a checkpoint with `--config`, a `.npz` from Google's JAX code, or a name on the hub such as
    /// `hf:ORG/NAME`), then where to write: a new folder, a `.npz` file with `--to jax` or `big_vision`, or a new file with
    /// `--to onnx`
    #[arg(value_names = ["MODEL", "DESTINATION"], num_args = 1..=2, required = true)]
    paths: Vec<PathBuf>,
    /// The model, in place of the first argument
    #[arg(long, short, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Target format: huggingface, timm, jax, big_vision (blocks stacked), torchvision, bundle or onnx
    #[arg(long)]
    to: To,
    /// A config file, for a checkpoint that comes without one
    #[arg(long)]
    config: Option<PathBuf>,
    /// What may differ in the target, by the name in the refusal message (`norm_epsilon`, `activation`, `preprocess`…)
    #[arg(long, value_name = "FIELD")]
    allow: Vec<String>,
    /// A different image size, in pixels: `224`, or height and width as `224x448`. Position embeddings are resampled, and
    /// the preprocessing follows
    #[arg(long, value_name = "PIXELS", value_parser = image_size)]
    image_size: Option<Size>,
    /// Type of the stored weights: 16 bits take half the space. An ONNX graph computes in 32 bits in any case [default: f32;
    /// with `--to onnx` a model in 8 bits stays in 8 bits]
    #[arg(long, value_enum, value_name = "KIND")]
    dtype: Option<Stored>,
    /// Version of ONNX's operators: 17, 20 or 23 [default: 17]
    #[arg(long, value_name = "VERSION", help_heading = "With --to onnx")]
    opset: Option<Opset>,
    #[command(flatten)]
    labels: LabelArgs,
    /// Put the weights into a file beside the graph, `DESTINATION.data`, also below 2 GB, beyond which that is always done
    #[arg(long, help_heading = "With --to onnx")]
    external_data: bool,
}

/// What a model can be converted to.
#[derive(Clone, Copy, Debug)]
enum To {
    Library(Target),
    Onnx,
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("onnx") {
            return Ok(To::Onnx);
        }
        text.parse().map(To::Library).map_err(|fault: String| format!("{fault}, onnx"))
    }
}

/// Reads `224` or `224x448`.
fn image_size(text: &str) -> Result<Size, String> {
    const GREATEST: usize = 32_768;
    let side = |text: &str| {
        let side = text.parse().ok().filter(|side| (1..=GREATEST).contains(side));
        side.ok_or_else(|| {
            format!("expected sides of 1 to {GREATEST} pixels, as in `224` or `224x448`, found `{text}`")
        })
    };
    match text.split_once(['x', '×']) {
        None => side(text).map(Size::square),
        Some((height, width)) => Ok(Size { height: side(height)?, width: side(width)? }),
    }
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
    let (source, destination) = match (&args.model, &args.paths[..]) {
        (None, [source, destination]) => (source, destination),
        (Some(source), [destination]) => (source, destination),
        (Some(_), _) => {
            return Err(Usage("the model is given twice: with `--model`, and as the first argument".into()).into());
        }
        (None, _) => return Err(Usage("expected a model and where to write it, found one path".into()).into()),
    };
    check_fields(&args.allow)?;
    if let Some(labels) = args.labels.labels()? {
        return with_labels(args, labels, [source, destination], settings, printer);
    }
    match args.to {
        To::Library(target) => to_library(args, source, destination, target, settings, printer),
        To::Onnx => to_onnx(args, source, destination, settings, printer),
    }
}

/// Refuses a field in `--allow` that nothing can differ in.
fn check_fields(allow: &[String]) -> anyhow::Result<()> {
    match allow.iter().find(|pattern| !export::is_field(pattern)) {
        Some(pattern) => Err(Usage(format!(
            "`--allow {pattern}`: there is no such field; expected a name from the refusal message, such as `norm_epsilon`, \
             `activation` or `preprocess`"
        ))
        .into()),
        None => Ok(()),
    }
}

/// Refuses what is for a graph alone.
fn check_no_graph(args: &ConvertArgs, target: Target) -> anyhow::Result<()> {
    if args.opset.is_some() || args.external_data {
        let flag = if args.external_data { "--external-data" } else { "--opset" };
        return Err(Usage(format!("`{flag}` is for `--to onnx`, found `--to {target}`; leave it out")).into());
    }
    Ok(())
}

/// Writes a bundle of a model of images and texts with classes in words.
fn with_labels(
    args: &ConvertArgs,
    labels: TextLabels,
    [source, destination]: [&Path; 2],
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    if !matches!(args.to, To::Library(Target::Bundle)) {
        let fault =
            "a model with classes in words is written with `--to bundle`; convert the bundle further from there";
        return Err(Usage(fault.into()).into());
    }
    check_no_graph(args, Target::Bundle)?;
    let adapt = Adaptation { image_size: args.image_size, ..Adaptation::default() };
    let options = LoadOptions::default().config(args.config.clone()).adapt(adapt).labels(labels);
    let model = Model::load(&located(source, settings)?, &options, &Device::cpu(0))?;
    let exported = ExportSource { storage: args.dtype.unwrap_or(Stored::F32).into(), ..model.exported() };
    export::export(&exported, destination, Target::Bundle, &args.allow)
        .with_context(|| format!("cannot convert `{}`", source.display()))?;
    let classes = model.vit().config().classes;
    if settings.json {
        printer.json(
            &serde_json::json!({ "destination": destination, "to": Target::Bundle.name(), "classes": classes }),
        )?;
    } else {
        printer.line(format_args!(
            "wrote `{}` as a bundle with {} in words",
            destination.display(),
            count(classes, "class")
        ))?;
    }
    Ok(Outcome::Done)
}

fn to_library(
    args: &ConvertArgs,
    source: &Path,
    destination: &Path,
    target: Target,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    check_no_graph(args, target)?;
    let options = ConvertOptions::default()
        .config(args.config.clone())
        .allow(&args.allow)
        .storage(args.dtype.unwrap_or(Stored::F32).into())
        .image_size(args.image_size);
    let differences = export::convert(&located(source, settings)?, destination, target, &options)
        .with_context(|| format!("cannot convert `{}`", source.display()))?;
    if settings.json {
        let listed: Vec<_> = differences
            .iter()
            .map(|each| serde_json::json!({ "field": each.field, "model": each.ours, "target": each.theirs }))
            .collect();
        printer.json(&serde_json::json!({ "destination": destination, "to": target.name(), "differences": listed }))?;
    } else {
        printer.line(format_args!("wrote {} for {target}", destination.display()))?;
        for difference in &differences {
            printer.line(format_args!("  not kept: {difference}"))?;
        }
    }
    Ok(Outcome::Done)
}

fn to_onnx(
    args: &ConvertArgs,
    source: &Path,
    destination: &Path,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    if !args.allow.is_empty() {
        let fault =
            "`--allow` is for other targets: a graph computes what the model does, or is not written; leave it out";
        return Err(Usage(fault.into()).into());
    }
    if !destination.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
        let found = destination.display();
        return Err(Usage(format!("expected a file whose name ends in `.onnx` for the graph, found `{found}`")).into());
    }
    let opset = args.opset.unwrap_or_default();
    let options = OnnxOptions::default()
        .config(args.config.clone())
        .opset(opset)
        .storage(args.dtype.map(DType::from))
        .image_size(args.image_size)
        .external_data(args.external_data);
    let exported = onnx::convert(&located(source, settings)?, destination, &options)
        .with_context(|| format!("cannot convert `{}`", source.display()))?;
    let size = exported.image_size;
    if settings.json {
        let files: Vec<_> =
            exported.files.iter().map(|(path, bytes)| serde_json::json!({ "path": path, "bytes": bytes })).collect();
        printer.json(&serde_json::json!({
            "destination": destination,
            "to": "onnx",
            "opset": opset.number(),
            "image_size": [size.height, size.width],
            "nodes": exported.nodes,
            "files": files,
        }))?;
    } else {
        printer.line(format_args!("wrote {} for ONNX: opset {opset}, images of {size}", destination.display()))?;
    }
    Ok(Outcome::Done)
}
