//! `vitral quantize`: write a model with weights in 8 bits, and say what that costs.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use vitral::explain::representation::cosine;
use vitral::image::{DecodeOptions, open_for};
use vitral::pipeline::{BatchOptions, batches};
use vitral::quantize::{Calibration, Quantization, QuantizedLayer};
use vitral::{DType, LoadOptions, Model, Precision};
use vitral_train::data::{Loader, LoaderOptions, Relabeled, Split, ValidationSplit, open_part};
use vitral_train::evaluate::{Features, accuracy, features};
use vitral_train::loss::argmax;

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};

/// Write a model with its weights in 8 bits
///
/// Each output of a matrix gets a scale; tokens get theirs when they come. A few images, which need no labels, show what each
/// layer multiplies: scales are moved from its input into its weights as far as that helps, and a layer that is noisier than
/// a tenth of its output stays in bfloat16. The bundle takes about a quarter of the space, and every command computes it in
/// int8 unless `--precision` says otherwise.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral quantize vit-base-patch16-224 vit-int8 --images photos/
  vitral quantize runs/flowers/best flowers-int8 --images flowers/ --json
  vitral classify --model vit-int8 cat.jpg

Reports each layer's signal-to-noise ratio, the cosine of features with those in f32, and, if the images lie in one folder per \
class, the accuracy of both.")]
pub(crate) struct QuantizeArgs {
    /// The model: a folder, a checkpoint with `--config`, or a name on the hub
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The folder to write
    #[arg(value_name = "OUT")]
    destination: PathBuf,
    /// A folder of images like those that the model is for
    #[arg(long, value_name = "FOLDER")]
    images: PathBuf,
    /// Number of images that layers are measured on
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u16).range(1..))]
    calibrate: u16,
    /// Which images and tokens
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// A config file, for a checkpoint that comes without one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    destination: &'a Path,
    bytes: u64,
    calibrated_on: u64,
    layers: Vec<Layer<'a>>,
    /// Cosines of features with those in 32 bits, over the images that layers were measured on.
    cosine_mean: f64,
    cosine_least: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
}

#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    storage: &'static str,
    scales_moved: f32,
    plain_signal_db: f64,
    signal_db: f64,
}

#[derive(Clone, Copy, Serialize)]
struct Accuracy {
    images: usize,
    f32: f64,
    int8: f64,
}

pub(crate) fn run(args: &QuantizeArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let at = |precision: Precision| -> anyhow::Result<_> {
        settings.device.clone().with_precision(precision).map_err(|fault| Usage(fault.to_string()).into())
    };
    at(Precision::Int8)?;
    let options = LoadOptions::default().config(args.config.clone()).precision(Precision::F32);
    let model = Model::load(&located(&args.model, settings)?, &options, &settings.device)?;
    let (sources, unreadable) = chosen(args, printer)?;
    let (images, skipped) = read(&model, &sources, settings, printer)?;
    let mut calibration = Calibration::new(args.seed);
    printer.start_progress(images.len(), "images");
    for image in &images {
        calibration.add(&model, image)?;
        printer.advance(1)?;
    }
    printer.finish_progress();
    let quantization = Quantization::of(&model, &calibration)?;
    quantization.write(&model, &args.destination)?;

    let int8 = Model::load(&args.destination, &LoadOptions::default(), &settings.device)?;
    let mut cosines = Vec::new();
    for image in &images {
        let [ours, theirs] = [&model, &int8].map(|model| model.features(image, Default::default()));
        cosines.push(f64::from(cosine(&ours?.to_vec()?, &theirs?.to_vec()?)));
    }
    let report = Report {
        destination: &args.destination,
        bytes: std::fs::metadata(args.destination.join("model.safetensors")).map_or(0, |file| file.len()),
        calibrated_on: calibration.images(),
        layers: quantization.layers().iter().map(Layer::of).collect(),
        cosine_mean: cosines.iter().sum::<f64>() / cosines.len() as f64,
        cosine_least: cosines.iter().copied().fold(1.0, f64::min),
        accuracy: accuracies(args, &model, &int8, settings, printer)?,
    };
    if settings.json {
        printer.json(&report)?
    } else {
        report.print(printer)?
    }
    Ok(if unreadable || skipped { Outcome::Incomplete } else { Outcome::Done })
}

/// The images that layers are measured on, by the seed, and whether some of the folder could not be looked at.
fn chosen(args: &QuantizeArgs, printer: &Printer) -> anyhow::Result<(Vec<PathBuf>, bool)> {
    let folder = &args.images;
    let found = vitral::files::images_in(folder).with_context(|| format!("`{}`", folder.display()))?;
    for (path, why) in found.faults() {
        printer.fault(format_args!("skipped: `{}`: {why}", path.display()));
    }
    let unreadable = !found.faults().is_empty();
    let images = found.into_images();
    if images.is_empty() {
        bail!("`{}`: expected images, found none", folder.display());
    }
    Ok((Calibration::choose(images, args.calibrate.into(), args.seed), unreadable))
}

/// Images as the model takes them, each by itself, and whether some could not be read.
fn read(
    model: &Model,
    sources: &[PathBuf],
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<(Vec<vitral::Tensor>, bool)> {
    let preprocess = model.preprocess()?;
    let options = BatchOptions { batch: NonZero::<usize>::MIN, threads: settings.threads() };
    let decode = |path: &PathBuf| Ok(open_for(path, preprocess.channels, &DecodeOptions::default())?.into_image());
    let (mut images, mut skipped) = (Vec::new(), false);
    batches(sources, &preprocess, options, &settings.device, decode, |batch| -> anyhow::Result<()> {
        batch.faults.iter().for_each(|(_, fault)| printer.fault(format_args!("skipped: {fault}")));
        skipped |= !batch.faults.is_empty();
        if !batch.indices.is_empty() {
            images.push(batch.pixels);
        }
        Ok(())
    })?;
    if images.is_empty() {
        bail!("none of the images could be read");
    }
    Ok((images, skipped))
}

/// How many images each gets right, where the images lie in folders named like the model's classes.
fn accuracies(
    args: &QuantizeArgs,
    model: &Model,
    int8: &Model,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Option<Accuracy>> {
    if model.check_classifies().is_err() {
        return Ok(None);
    }
    let whole = ValidationSplit { fraction: 1.0, ..ValidationSplit::default() };
    let labeled = open_part(&args.images, Split::Test, whole).ok().filter(|opened| opened.dataset.classes().len() > 1);
    let classes = model.vit().config().classes;
    let matched = labeled.map(|opened| Relabeled::to(opened.dataset, classes, model.labels().names()));
    let Some(Ok(data)) = matched else {
        printer.note("the images have no labels that the model knows: their accuracy is not measured");
        return Ok(None);
    };
    let options = LoaderOptions::evaluation(model.preprocess()?, 16);
    let loader = Loader::new(Arc::new(data), options, &settings.device)?;
    printer.start_progress(2 * loader.dataset().len(), "images");
    let right = |model: &Model| -> anyhow::Result<(usize, f64)> {
        let logits = features(&loader, |pixels| {
            // A closed output is noticed when the report is printed.
            let _ = printer.advance(pixels.extent(0));
            Ok(model.logits(pixels)?)
        })?;
        Ok((logits.len(), share(&logits)))
    };
    let (images, f32) = right(model)?;
    let (_, int8) = right(int8)?;
    printer.finish_progress();
    Ok((images > 0).then_some(Accuracy { images, f32, int8 }))
}

/// The share of rows whose largest number is that of their label.
fn share(logits: &Features) -> f64 {
    let predicted: Vec<usize> = (0..logits.len()).map(|row| argmax(logits.row(row))).collect();
    accuracy(&predicted, logits.labels())
}

impl<'a> Layer<'a> {
    fn of(layer: &'a QuantizedLayer) -> Self {
        Layer {
            name: &layer.name,
            storage: if layer.storage == DType::I8 { "int8" } else { "bf16" },
            scales_moved: layer.moved,
            plain_signal_db: layer.plain_signal,
            signal_db: layer.signal,
        }
    }
}

impl Report<'_> {
    fn print(&self, printer: &Printer) -> anyhow::Result<()> {
        let Report { destination, bytes, calibrated_on, layers, cosine_mean, cosine_least, accuracy } = self;
        let wide = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
        printer.line(format_args!("{:wide$}  stored  scales  signal to noise", "layer"))?;
        for Layer { name, storage, scales_moved, plain_signal_db, signal_db } in layers {
            let moved = if *scales_moved > 0.0 { format!("{scales_moved}") } else { "-".to_owned() };
            let before = match signal_db - plain_signal_db > 0.05 {
                true => format!("  ({plain_signal_db:.1} before)"),
                false => String::new(),
            };
            printer.line(format_args!("{name:wide$}  {storage:<6}  {moved:<6}  {signal_db:5.1} dB{before}"))?;
        }
        printer.line(format_args!(
            "features, cosine with f32: mean {cosine_mean:.6}, minimum {cosine_least:.6}, of {}",
            vitral::message::count(*calibrated_on as usize, "image")
        ))?;
        if let Some(Accuracy { images, f32, int8 }) = accuracy {
            let net = ((int8 - f32) * *images as f64).round();
            printer.line(format_args!(
                "accuracy: {:.2} % in f32, {:.2} % in int8, of {images} images ({net:+} images)",
                100.0 * f32,
                100.0 * int8
            ))?;
        }
        let megabytes = *bytes as f64 / 1e6;
        Ok(printer.line(format_args!("wrote {}, {megabytes:.1} MB of weights", destination.display()))?)
    }
}
