//! `vitral embed`: a feature vector for every image.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use vitral::features::FeatureKind;
use vitral::pipeline::Batch;

use crate::fault::Usage;
use crate::inputs::{OptionalInputArgs, Records};
use crate::outcome::Outcome;
use crate::output::{Format, JsonLines};
use crate::printer::Printer;
use crate::settings::{ImageModelArgs, Settings};

/// Turn images into feature vectors
///
/// Rows are in the order the images were given. An image that cannot be read is reported on standard error and gets no
/// row; the exit code is then 1. The output file appears only once it is complete.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral embed --model dinov2-small photos/ --output photos.npy
  vitral embed --model vit-base-patch16-224 --pool mean 'photos/*.jpg' --output photos.safetensors
  vitral embed --model clip-vit-base-patch32 --text 'a cat on a sofa' --text 'a dog' --output texts.npy
  vitral embed --model dinov2-small cat.jpg | jq .features[0]

Formats, by the extension of the output file:
  .npy          float32 [images, width]; names in a .txt next to it, one per line
  .safetensors  the tensor `features`; names in the metadata `names`, as a JSON list
  .csv          image,0,1,…  (with --pool tokens: image,token,0,1,…)
  .jsonl        {\"image\": …, \"features\": […]}, as on standard output
  .parquet      image, features: a list of floats (with --pool tokens: image, token, features)

On standard output, an image that cannot be read has a line in its place: {\"image\": …, \"error\": …}")]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    inputs: OptionalInputArgs,
    #[command(flatten)]
    model: ImageModelArgs,
    /// A text, in place of images, for a model of images and texts (CLIP, SigLIP); may be given several times. Its vector is
    /// to be compared with those of images by the cosine
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// A file of texts, one on each line
    #[arg(long, value_name = "FILE")]
    texts_from: Option<PathBuf>,
    /// Which features to extract
    #[arg(long, value_enum, default_value_t)]
    pool: Pool,
    /// Where to write: .npy, .safetensors, .csv, .jsonl or .parquet [default: JSON Lines on standard output]
    #[arg(long, short, alias = "out", value_name = "FILE", value_parser = output)]
    output: Option<(PathBuf, Format)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Pool {
    /// The model's own pooling: what its classifier sees
    #[default]
    Pooled,
    /// The class token after the final norm
    #[value(alias = "cls")]
    Class,
    /// The mean of the patch tokens after the final norm
    #[value(alias = "avg")]
    Mean,
    /// Both, side by side
    ClassAndMean,
    /// All tokens after the final norm: class, distillation or registers, then patches in row-major order
    Tokens,
}

impl From<Pool> for FeatureKind {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Pooled => FeatureKind::Pooled,
            Pool::Class => FeatureKind::Class,
            Pool::Mean => FeatureKind::Mean,
            Pool::ClassAndMean => FeatureKind::ClassAndMean,
            Pool::Tokens => FeatureKind::Tokens,
        }
    }
}

fn output(text: &str) -> Result<(PathBuf, Format), String> {
    let path = PathBuf::from(text);
    let format = Format::of(&path)?;
    Ok((path, format))
}

const TENSOR: &str = "features";

pub(crate) fn run(args: &EmbedArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if let Some((path, _)) = &args.output {
        args.inputs.refuse_output(path, args.model.chosen().as_deref())?;
    }
    if !args.text.is_empty() || args.texts_from.is_some() {
        return texts(args, settings, printer);
    }
    if args.inputs.is_empty() {
        return Err(Usage("expected images, or texts by `--text`".into()).into());
    }
    let output = args.output.as_ref().filter(|_| settings.ranks.is_first());
    let mut rows = output.map(|(path, format)| format.create(path, TENSOR)).transpose()?;
    let model = args.model.load(settings)?;
    printer.note_precision(&model);
    let mut count = 0;
    // A file has rows of features only.
    let records = if args.output.is_some() { Records::None } else { Records::Json };
    let found = args.inputs.find(printer)?.with(records);
    let look = |_: &[String], batch: &Batch| -> anyhow::Result<Vec<(Vec<usize>, Vec<f32>)>> {
        let features = model.features(&batch.pixels, args.pool.into())?;
        let shape = features.shape()[1..].to_vec();
        let width = shape.iter().product::<usize>().max(1);
        Ok(features.to_vec()?.chunks_exact(width).map(|values| (shape.clone(), values.to_vec())).collect())
    };
    let outcome = args.inputs.each_row_dealt(found, &model, settings, printer, look, |image, (shape, values)| {
        count += 1;
        let (shape, values) = (&shape[..], &values[..]);
        match &mut rows {
            Some(rows) => rows.row(image, shape, values),
            None => printer.json_line(&JsonLines { tensor: TENSOR, image, shape, values }),
        }
    })?;
    if count == 0 {
        // No image could be read: an empty file would look like a result.
        return Ok(outcome);
    }
    if let (Some(rows), Some((path, _))) = (rows, &args.output) {
        rows.finish()?;
        if settings.json {
            printer.json(&serde_json::json!({
                "output": path.display().to_string(),
                "images": count,
                "precision": model.precision().name(),
            }))?;
        } else {
            let noun = if count == 1 { "image" } else { "images" };
            printer.note(format_args!("{count} {noun} to `{}`", path.display()));
        }
    }
    Ok(outcome)
}

/// The vectors of texts, in the order in which they were given.
fn texts(args: &EmbedArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if !args.inputs.is_empty() {
        return Err(Usage("expected images or texts, found both; embed them one after the other".into()).into());
    }
    if args.pool != Pool::Pooled {
        return Err(Usage("`--pool` is for images: a text has one vector".into()).into());
    }
    let mut texts = args.text.clone();
    if let Some(file) = &args.texts_from {
        let read = std::fs::read_to_string(file).with_context(|| format!("`{}`: cannot read", file.display()))?;
        texts.extend(read.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
    }
    let model = args.model.load_texts(None, settings)?;
    let output = args.output.as_ref().filter(|_| settings.ranks.is_first());
    let mut rows = output.map(|(path, format)| format.create(path, TENSOR)).transpose()?;
    for (text, values) in texts.iter().zip(model.embed(&texts)?) {
        let (shape, values) = (&[values.len()][..], &values[..]);
        match &mut rows {
            Some(rows) => rows.row(text, shape, values)?,
            None => printer.json_line(&JsonLines { tensor: TENSOR, image: text, shape, values })?,
        }
    }
    if let (Some(rows), Some((path, _))) = (rows, &args.output) {
        rows.finish()?;
        printer.note(format_args!("{} texts to `{}`", texts.len(), path.display()));
    }
    Ok(Outcome::Done)
}
