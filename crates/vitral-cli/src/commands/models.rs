//! `vitral models`: the known sizes.

use serde::Serialize;
use vitral::config::Size;
use vitral::model::Vit;
use vitral::model::variants::VARIANTS;

use super::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// One size with one patch.
#[derive(Serialize)]
struct Row {
    name: String,
    width: usize,
    depth: usize,
    heads: usize,
    mlp_width: usize,
    parameters: usize,
    macs: u64,
    timm: String,
}

pub(crate) fn run(settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut rows = Vec::new();
    for variant in VARIANTS {
        for &patch in variant.patches {
            let vit = Vit::new(variant.config(patch))?;
            rows.push(Row {
                name: format!("{}/{patch}", variant.name),
                width: variant.width,
                depth: variant.depth,
                heads: variant.heads,
                mlp_width: variant.mlp_width,
                parameters: vit.declarations().count(),
                macs: vit.macs(Size::square(224))?.total(),
                timm: format!("vit_{}_patch{patch}_224", variant.long_name),
            });
        }
    }
    if settings.json {
        printer.json(&rows)?;
        return Ok(Outcome::Done);
    }
    let names = ["name", "width", "depth", "heads", "MLP", "parameters", "GMACs"];
    let [name, width, depth, heads, mlp, parameters, macs] = names;
    let head = format!("{name:12} {width:>5} {depth:>5} {heads:>5} {mlp:>6} {parameters:>11} {macs:>8}  long name");
    printer.line(printer.heading(head))?;
    for row in &rows {
        let Row { name, width, depth, heads, mlp_width, parameters, macs, timm } = row;
        let (millions, billions) = (*parameters as f64 / 1e6, *macs as f64 / 1e9);
        printer.line(format_args!(
            "{name:12} {width:5} {depth:5} {heads:5} {mlp_width:6} {millions:9.2} M {billions:8.2}  {timm}"
        ))?;
    }
    printer
        .note("\nParameters with 1000 classes, multiply-accumulates at 224 pixels. Any patch size may follow a name:");
    printer.note("`vitral info --arch S/8`. DeiT's names and SimpleViT's `S/16-simple` are known too.");
    Ok(Outcome::Done)
}
