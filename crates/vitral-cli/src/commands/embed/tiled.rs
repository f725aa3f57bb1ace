//! Features of large images, window by window: one grid of patch tokens, or one vector for each window.

use std::path::Path;

use serde_json::json;
use vitral::Model;
use vitral::config::Size;
use vitral::features::FeatureKind;
use vitral::image::Image;
use vitral::tiles::{Tile, TileOptions, Tiling};

use super::args::{EmbedArgs, TENSOR};
use crate::fault::Usage;
use crate::inputs::Seen;
use crate::outcome::Outcome;
use crate::output::{Format, Grids, JsonLines, Rows};
use crate::printer::Printer;
use crate::settings::Settings;
use crate::tiles::tiling;

/// Where the features of windows go.
enum To {
    /// A grid for each image.
    Grids(Grids),
    /// A row for each window, in a file.
    Rows(Box<dyn Rows>),
    /// A line for each window, on standard output.
    Lines,
}

pub(super) fn run(
    args: &EmbedArgs,
    options: TileOptions,
    settings: &Settings,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    if settings.ranks.is_several() {
        return Err(Usage("`--tiles` works in one process; give each process images of its own".into()).into());
    }
    let found = args.inputs.find(printer)?;
    let output = args.output.as_ref().map(|(path, format)| (path.as_path(), *format));
    let mut to = match (args.pool, output) {
        (FeatureKind::Tokens, Some((path, Format::Npy | Format::Safetensors))) => {
            let npy = path.extension().is_some_and(|ending| ending == "npy");
            if npy && found.names().count() > 1 {
                let fault = "a .npy holds the grid of one image; write .safetensors for several";
                return Err(Usage(fault.into()).into());
            }
            let mut names: Vec<String> = found.names().collect();
            names.sort();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                let fault =
                    format!("`{}` was given twice, and the file has one grid for each name; give it once", pair[0]);
                return Err(Usage(fault).into());
            }
            To::Grids(Grids::create(path, npy)?)
        }
        (FeatureKind::Tokens, _) => {
            let fault = "with `--tiles`, `--pool tokens` gives a grid for each image: expected `--output` with .npy for one \
                         image or .safetensors for several";
            return Err(Usage(fault.into()).into());
        }
        (_, Some((path, format))) => To::Rows(format.create(path, TENSOR)?),
        (_, None) => To::Lines,
    };
    let model = args.model.load(settings)?;
    tiling(&model, Size::square(1), options)?;
    printer.note_precision(&model);
    let mut count = 0;
    let outcome = args.inputs.each_image(found, model.channels(), printer, |seen| {
        let (name, image) = match seen {
            Seen::Image(name, image) => (name, image),
            Seen::Skipped(skipped) => {
                if matches!(to, To::Lines) {
                    skipped.print(printer)?;
                }
                return Ok(Ok(()));
            }
        };
        let tiling = tiling(&model, image.size(), options)?;
        printer.start_progress(tiling.count(), "windows");
        match &mut to {
            To::Grids(grids) => grid(&model, name, image, &tiling, args, grids, printer)?,
            to => vectors(&model, name, image, &tiling, args, to, printer)?,
        }
        printer.finish_progress();
        count += 1;
        Ok(Ok(()))
    })?;
    if count == 0 {
        return Ok(outcome);
    }
    match to {
        To::Grids(grids) => grids.finish()?,
        To::Rows(rows) => rows.finish()?,
        To::Lines => return Ok(outcome),
    }
    if let Some((path, _)) = output {
        said(path, count, &model, settings, printer)?;
    }
    Ok(outcome)
}

fn said(path: &Path, images: usize, model: &Model, settings: &Settings, printer: &Printer) -> anyhow::Result<()> {
    if settings.json {
        return printer.json(&json!({
            "output": path.display().to_string(),
            "images": images,
            "precision": model.precision().name(),
        }));
    }
    let noun = if images == 1 { "image" } else { "images" };
    printer.note(format_args!("{images} {noun} to `{}`", path.display()));
    Ok(())
}

/// The patch tokens of one image, joined.
fn grid(
    model: &Model,
    name: &str,
    image: &Image,
    tiling: &Tiling,
    args: &EmbedArgs,
    grids: &mut Grids,
    printer: &Printer,
) -> anyhow::Result<()> {
    let (grid, width) = (tiling.grid(), model.vit().config().width);
    let sides = |size: Size| [size.height, size.width];
    grids.begin(
        name,
        [grid.height, grid.width, width],
        json!({ "size": sides(image.size()), "patch": sides(tiling.cell()), "window": sides(tiling.window()) }),
    )?;
    let advance = |windows: usize| -> anyhow::Result<()> { Ok(printer.advance(windows)?) };
    model.tile_tokens(image, tiling, args.inputs.batch(), advance, |_, row| grids.put(row))
}

/// One vector for each window of an image, named by the image and the window's place in it.
fn vectors(
    model: &Model,
    name: &str,
    image: &Image,
    tiling: &Tiling,
    args: &EmbedArgs,
    to: &mut To,
    printer: &Printer,
) -> anyhow::Result<()> {
    model.windows(image, tiling, args.inputs.batch(), |tiles: &[Tile], pixels| -> anyhow::Result<()> {
        let features = model.features(pixels, args.pool)?;
        let shape = features.shape()[1..].to_vec();
        let width = shape.iter().product::<usize>().max(1);
        for (tile, values) in tiles.iter().zip(features.to_vec()?.chunks_exact(width)) {
            let place = tiling.pixels(*tile);
            // The form that the W3C gives to a part of an image in its address.
            let (x, y, w, h) = (place.left, place.top, place.size.width, place.size.height);
            let image = &format!("{name}#xywh={x},{y},{w},{h}");
            match to {
                To::Rows(rows) => rows.row(image, &shape, values)?,
                _ => printer.json_line(&JsonLines { tensor: TENSOR, image, shape: &shape, values })?,
            }
        }
        Ok(printer.advance(tiles.len())?)
    })
}
