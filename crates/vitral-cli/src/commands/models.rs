//! `vitral models`: list the named sizes.

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use vitral::config::Size;
use vitral::model::Vit;
use vitral::model::variants::{self, RESNETS, VARIANTS};
use vitral::weights::catalog::{CATALOG, Origin};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::Settings;

/// List the named sizes of Vision Transformers, or the published models
#[derive(Args, Debug)]
pub(crate) struct ModelsArgs {
    /// Published models instead: name on the hub, image size, parameters, license, published ImageNet top-1
    #[arg(long)]
    published: bool,
}

/// The catalog of published models.
fn published(settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if settings.json {
        printer.json(&CATALOG)?;
        return Ok(Outcome::Done);
    }
    let head = ["name", "size", "pixels", "parameters", "top-1", "license"];
    let [name, size, pixels, parameters, top1, license] = head;
    let head = format!("{name:66} {size:>12} {pixels:>6} {parameters:>11} {top1:>6}  {license}");
    printer.line(printer.heading(head))?;
    for row in CATALOG {
        let name = match row.origin {
            Origin::HuggingFace => format!("hf:{}", row.name),
            Origin::Timm | Origin::Torchvision => row.name.to_owned(),
        };
        let millions = row.parameters as f64 / 1e6;
        let top1 = row.top1.map_or_else(|| "–".to_owned(), |top1| format!("{top1:.2}"));
        printer.line(format_args!(
            "{name:66} {:>12} {:>6} {millions:9.2} M {top1:>6}  {}",
            row.size, row.image, row.license
        ))?;
    }
    printer.note(
        "\nFetch one with `vitral pull NAME`, or pass its name to `--model`; torchvision's come from their own site.",
    );
    Ok(Outcome::Done)
}

/// One size with one patch size.
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

pub(crate) fn run(args: &ModelsArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if args.published {
        return published(settings, printer);
    }
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
    for variant in RESNETS {
        for factor in variant.factors {
            let name = format!("{}x{factor}", variant.name);
            let config = variants::find(&name).with_context(|| format!("no model `{name}`"))?;
            let (width, depth) = (config.width, variant.layers.iter().sum());
            let vit = Vit::new(config)?;
            rows.push(Row {
                timm: format!("resnetv2_{}_bit", &name[1..]),
                name,
                width,
                depth,
                heads: 0,
                mlp_width: 0,
                parameters: vit.declarations().count(),
                macs: vit.macs(Size::square(224))?.total(),
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
        .note("\nParameters with 1000 classes, multiply-accumulates at 224 pixels. Any patch size can follow a name:");
    printer.note(
        "`vitral info --arch S/8`. DeiT's names and SimpleViT's `S/16-simple` are known too. `R50x1` and the like are",
    );
    printer.note("BiT's ResNets, for comparison: any factor may follow (`R26x0.5`), and `-small` for small images.");
    Ok(Outcome::Done)
}
