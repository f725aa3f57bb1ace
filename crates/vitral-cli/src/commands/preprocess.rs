//! `vitral preprocess`: turn images into the tensor a model takes.

use std::path::PathBuf;

use clap::Args;

use crate::inputs::InputArgs;
use crate::outcome::Outcome;
use crate::output::Format;
use crate::printer::Printer;
use crate::settings::{ImageModelArgs, Settings};

/// Turn images into the tensor a model takes
///
/// Writes `pixel_values`, float32 [images, channels, height, width], preprocessed as the model's own files specify and
/// in the order the images were given, and prints the steps on one line. `vitral forward` takes the file as its input.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral preprocess --model vit-base-patch16-224 cat.jpg dog.jpg --output pixels.safetensors")]
pub(crate) struct PreprocessArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    model: ImageModelArgs,
    /// The .safetensors file to write; image names go into its metadata
    #[arg(long, short, alias = "out", value_name = "OUT.safetensors", value_parser = Format::safetensors)]
    output: PathBuf,
}

pub(crate) fn run(args: &PreprocessArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    args.inputs.refuse_output(&args.output, args.model.chosen().as_deref())?;
    let mut rows = Format::Safetensors.create(&args.output, "pixel_values")?;
    let model = args.model.load(settings)?;
    let pipeline = model.preprocess()?.to_string();
    let mut count = 0;
    let outcome = args.inputs.each_batch(&model, settings, printer, |names, batch| {
        let shape = &batch.pixels.shape()[1..];
        count += names.len();
        for (name, values) in names.iter().zip(batch.pixels.to_vec()?.chunks_exact(shape.iter().product())) {
            rows.row(name, shape, values)?;
        }
        Ok(())
    })?;
    if count > 0 {
        rows.finish()?;
    }
    if settings.json {
        let output = args.output.display().to_string();
        printer.json(&serde_json::json!({ "preprocess": pipeline, "images": count, "output": output }))?;
    } else {
        printer.line(pipeline)?;
    }
    Ok(outcome)
}
