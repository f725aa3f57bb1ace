//! `vitral embed`: a feature vector for every image.

mod args;
mod tiled;

use anyhow::Context;
use vitral::features::FeatureKind;
use vitral::message;
use vitral::pipeline::Batch;

use crate::fault::Usage;
use crate::inputs::Records;
use crate::outcome::Outcome;
use crate::output::JsonLines;
use crate::printer::Printer;
use crate::settings::Settings;

pub(crate) use args::EmbedArgs;
use args::TENSOR;

pub(crate) fn run(args: &EmbedArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if let Some((path, _)) = &args.output {
        args.inputs.refuse_output(path, args.model.chosen().as_deref())?;
        printer.go_on_without_output();
    }
    if !args.text.is_empty() || args.texts_from.is_some() {
        return texts(args, settings, printer);
    }
    if args.inputs.is_empty() {
        return Err(Usage("expected images, or texts by `--text`".into()).into());
    }
    if let Some(options) = args.tiles.options() {
        return tiled::run(args, options, settings, printer);
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
        let features = model.features(&batch.pixels, args.pool)?;
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
            printer.note(format_args!("{} to `{}`", message::count(count, "image"), path.display()));
        }
    }
    Ok(outcome)
}

/// The vectors of texts, in the order in which they were given.
fn texts(args: &EmbedArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if !args.inputs.is_empty() {
        return Err(Usage("expected images or texts, found both; embed them one after the other".into()).into());
    }
    if args.pool != FeatureKind::Pooled {
        return Err(Usage("`--pool` is for images: a text has one vector".into()).into());
    }
    if args.tiles.options().is_some() {
        return Err(Usage("`--tiles` is for images: a text has one vector".into()).into());
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
        if settings.json {
            printer.json(&serde_json::json!({ "output": path.display().to_string(), "texts": texts.len() }))?;
        } else {
            printer.note(format_args!("{} to `{}`", message::count(texts.len(), "text"), path.display()));
        }
    }
    Ok(Outcome::Done)
}
