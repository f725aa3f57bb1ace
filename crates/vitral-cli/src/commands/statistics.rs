//! `vitral statistics`: mean and standard deviation of every channel over a folder of images.

use clap::Args;
use serde_json::json;
use vitral::image::Preprocess;
use vitral::image::bands::MOST_BANDS;
use vitral::image::preprocess::{Channels, Rescale};
use vitral::image::statistics::BandStatistics;
use vitral::message::count;

use crate::inputs::{InputArgs, Seen};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// Mean and standard deviation of every channel over many images
///
/// Over all pixels of all images, before any resize, in the numbers that a model's preprocessing normalizes. Printed as the
/// keys `mean` and `std` of a recipe's `[data]`, or, with --json, as the `normalize` of a bundle's `vitral.json`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral statistics photos/
  vitral statistics eurosat/ --bands 13
  vitral statistics eurosat/ --bands 13 --scale 1e-4 --json
  vitral finetune --model dinov2-small eurosat/ --bands 13 --statistics --out runs/eurosat     # computes them, too

Samples of bands are divided by the largest value of their type (255, 65535), and real numbers stay as they are; --scale \
multiplies what the file stores instead. Images in color have values from 0 to 1.")]
pub(crate) struct StatisticsArgs {
    #[command(flatten)]
    inputs: InputArgs,
    /// Number of bands of an image [default: color, three channels in 8 bits]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_BANDS as i64))]
    bands: Option<u32>,
    /// What the samples of bands are multiplied by, such as 1e-4 for reflectances from 0 to 10,000; 1 leaves them as they are
    #[arg(long, value_name = "FACTOR", requires = "bands", value_parser = factor)]
    scale: Option<f64>,
}

pub(crate) fn run(args: &StatisticsArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let (channels, rescale) = match (args.bands, args.scale) {
        (None, _) => (Channels::Rgb, Rescale::Divide255),
        (Some(bands), None) => (Channels::Bands(bands as usize), Rescale::TypeRange),
        (Some(bands), Some(factor)) => (Channels::Bands(bands as usize), Rescale::Multiply { factor, offset: 0.0 }),
    };
    let preprocess = Preprocess { channels, steps: Vec::new(), rescale: Some(rescale), normalize: None };
    let mut found = BandStatistics::new(&preprocess);
    let inputs = args.inputs.find(printer)?;
    let outcome = args.inputs.each_image(inputs, channels, printer, |seen| {
        Ok(match seen {
            Seen::Image(_, image) => found.add(image).map_err(vitral::Error::from),
            Seen::Skipped(_) => Ok(()),
        })
    })?;
    if found.images() == 0 {
        return Ok(outcome);
    }
    let (mean, std) = (found.mean(), found.std());
    if settings.json {
        printer.json(&json!({
            "images": found.images(),
            "channels": channels,
            "rescale": rescale,
            "normalize": { "mean": mean, "std": std },
        }))?;
        return Ok(outcome);
    }
    printer.note(format_args!("of {}, {preprocess}", count(found.images() as usize, "image")));
    if let Some(bands) = args.bands {
        printer.line(format_args!("bands = {bands}"))?;
    }
    if let Some(scale) = args.scale {
        printer.line(format_args!("scale = {scale:?}"))?;
    }
    printer.line(format_args!("mean = {mean:?}"))?;
    printer.line(format_args!("std = {std:?}"))?;
    Ok(outcome)
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| *factor > 0.0 && factor.is_finite());
    factor.ok_or_else(|| "expected a number above 0".to_owned())
}
