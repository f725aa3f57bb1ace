//! `vitral forward`: run a model on a tensor, to compare it with another implementation.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use vitral::config::Size;
use vitral::trace::TraceOptions;
use vitral::weights::{Container, DataType};
use vitral::{Device, Model, Precision, Tensor};

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::output::{Format, OutputFile, write_tensors};
use crate::printer::Printer;
use crate::settings::{GivenModelArgs, PrecisionArgs, Settings};

/// Run a model on a tensor and save its outputs
///
/// Reads `pixel_values`, float32 [N, channels, height, width], already preprocessed, and optionally `mask`, uint8
/// [N, grid height, grid width], 1 where a patch is attended to. Writes `logits` [N, classes] (if there is a head) and
/// `features` [N, width]. Everything is computed in float32, with dropout off, unless `--precision` says otherwise or the
/// model is a bundle in 8 bits, which a CPU computes in int8.
#[derive(Args, Debug)]
#[command(after_long_help = "\
With --hidden-states: `hidden_states.0`, the input of the first block, and `hidden_states.l` after block l, before the \
final norm, [N, tokens, width]; token order is class, distillation or registers, then patches in row-major order. \
With --attentions: `attentions.i` of block i, [N, heads, tokens, tokens], after softmax.

Examples:
  vitral preprocess --model vit-base-patch16-224 cat.jpg --output in.safetensors
  vitral forward --model vit-base-patch16-224 --input in.safetensors --output out.safetensors --attentions")]
pub(crate) struct ForwardArgs {
    #[command(flatten)]
    model: GivenModelArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// A safetensors file with `pixel_values`, and `mask` if patches are masked
    #[arg(long, value_name = "IN.safetensors")]
    input: PathBuf,
    /// File to write
    #[arg(long, short, alias = "out", value_name = "OUT.safetensors", value_parser = Format::safetensors)]
    output: PathBuf,
    /// Save the tokens before the first block and after every block
    #[arg(long)]
    hidden_states: bool,
    /// Save the attention weights of every block
    #[arg(long)]
    attentions: bool,
    /// Batch size; it does not affect the results
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
}

/// Contents of the input file.
struct Pixels {
    shape: [usize; 4],
    values: Vec<f32>,
    mask: Option<Vec<u8>>,
}

pub(crate) fn run(args: &ForwardArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if args.output.exists() && args.output.canonicalize().ok() == args.input.canonicalize().ok() {
        bail!(Usage(format!("`{}` is both input and output; choose another output", args.input.display())));
    }
    let own = args.model.located(settings)?;
    let whole = |path: &Path| path.canonicalize().ok();
    if whole(&args.output).zip(whole(&own)).is_some_and(|(output, own)| output.starts_with(own)) {
        bail!(Usage(format!("`{}` belongs to the model; choose another output", args.output.display())));
    }
    let output = OutputFile::create(&args.output)?;
    // Whoever compares numbers wants them as they are.
    let precision = if matches!(settings.device, Device::Cuda(_)) {
        args.precision.clone().or(Precision::F32)
    } else {
        args.precision.clone()
    };
    let model = args.model.load(&precision, settings)?;
    let input = read(&args.input, &model)?;
    let options = TraceOptions::default().hidden_states(args.hidden_states).attentions(args.attentions);

    let [count, channels, height, width] = input.shape;
    let (size, config) = (Size { height, width }, model.vit().config());
    if model.vit().grid(size)? != config.grid() && config.learned_positions().is_some() {
        printer.note(format_args!(
            "images of {size} for a model of {}: its positions are resampled, as its library does it where that is asked for",
            config.image_size
        ));
    }
    let image = channels * height * width;
    let mask_per_image = input.mask.as_ref().map_or(0, |mask| mask.len() / count);
    // Name, shape, values; each batch adds its rows.
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    printer.start_progress(count, "images");
    for first in (0..count).step_by(usize::from(args.batch)) {
        let size = usize::from(args.batch).min(count - first);
        let values = &input.values[first * image..(first + size) * image];
        let pixels = settings.device.upload([size, channels, height, width], values)?;
        let mask = input.mask.as_ref().map(|mask| &mask[first * mask_per_image..(first + size) * mask_per_image]);
        let trace = model.trace(&pixels, mask, options).with_context(|| format!("`{}`", args.input.display()))?;
        let mut found = vec![("features".to_owned(), trace.output.features)];
        found.extend(trace.output.logits.map(|logits| ("logits".to_owned(), logits)));
        let numbered = |name, all: Vec<Tensor>| {
            all.into_iter().enumerate().map(move |(i, tensor)| (format!("{name}.{i}"), tensor))
        };
        found.extend(numbered("hidden_states", trace.hidden_states));
        found.extend(numbered("attentions", trace.attentions));
        for (place, (name, tensor)) in found.into_iter().enumerate() {
            match tensors.get_mut(place) {
                None => {
                    let mut shape = tensor.shape().to_vec();
                    shape[0] = count;
                    let mut values = Vec::with_capacity(shape.iter().product());
                    values.extend(tensor.to_vec()?);
                    tensors.push((name, shape, values));
                }
                Some((_, _, values)) => values.extend(tensor.to_vec()?),
            }
        }
        printer.advance(size)?;
    }
    printer.finish_progress();
    write_tensors(output, &tensors)?;

    if settings.json {
        let mut shapes: serde_json::Map<_, _> =
            tensors.iter().map(|(name, shape, _)| (name.clone(), serde_json::json!(shape))).collect();
        shapes.insert("precision".into(), model.precision().name().into());
        printer.json_line(&shapes)?;
    } else {
        for (name, shape, _) in &tensors {
            printer.note(format_args!("{name} {shape:?}"));
        }
        printer.note(format_args!("computed in {}", model.precision()));
    }
    Ok(Outcome::Done)
}

/// Reads the input and checks it against the model.
fn read(path: &Path, model: &Model) -> anyhow::Result<Pixels> {
    let place = path.display();
    let container = Container::open(path)?;
    let Some(view) = container.tensor("pixel_values") else {
        let found: Vec<&str> = container.names().take(8).collect();
        let found = if found.is_empty() { "no tensor".into() } else { format!("`{}`", found.join("`, `")) };
        bail!("`{place}`: expected a tensor `pixel_values`, found {found}; `vitral preprocess` writes such a file");
    };
    if view.data_type != DataType::Float32 {
        bail!("`{place}`: expected `pixel_values` in float32, found {:?}; convert it", view.data_type);
    }
    let channels = model.vit().config().channels;
    let &[count, found, height, width] = view.shape else {
        bail!(
            "`{place}`: expected `pixel_values` of shape [images, {channels}, height, width], found {:?}",
            view.shape
        );
    };
    if found != channels {
        bail!("`{place}`: expected `pixel_values` with {channels} channels, found {:?}", view.shape);
    }
    if view.bytes.is_empty() {
        bail!("`{place}`: expected at least one image, found `pixel_values` of shape {:?}", view.shape);
    }
    let grid = model.vit().grid(Size { height, width }).with_context(|| format!("`{place}`"))?;
    let mask = match container.tensor("mask") {
        None => None,
        Some(mask) => {
            if !matches!(mask.data_type, DataType::UInt8 | DataType::Bool) {
                bail!(
                    "`{place}`: expected `mask` in uint8, 1 where a patch is attended to, found {:?}",
                    mask.data_type
                );
            }
            let expected = [count, grid.height, grid.width];
            if mask.shape != expected {
                bail!("`{place}`: expected `mask` of shape {expected:?}, found {:?}", mask.shape);
            }
            Some(mask.bytes.into_owned())
        }
    };
    let values = view.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    Ok(Pixels { shape: [count, channels, height, width], values: values.collect(), mask })
}
