//! `vitral info`: describe a model.

use clap::Args;
use vitral::info::{Info, Layer, Origin, ParameterCounts};
use vitral::model::Vit;
use vitral::model::cost::Macs;

use crate::architecture::{Architecture, architecture};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{FirstModelArgs, Settings};

/// Describe a model
///
/// Prints a model's origin, architecture, layers with their shapes, parameters and multiply-accumulates by part,
/// preprocessing, labels, license and memory.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral info
  vitral info --model vit-base-patch16-224
  vitral info --arch B/16 --json
  vitral info --arch deit_tiny_distilled_patch16_224")]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    model: FirstModelArgs,
    /// A named size instead of a model: `B/16`, `vit_base_patch16_384`, … (see `vitral models`)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "first"], value_parser = architecture)]
    arch: Option<Architecture>,
}

pub(crate) fn run(args: &InfoArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let info = match &args.arch {
        Some(architecture) => {
            let vit = Vit::new(architecture.config.clone())?;
            Info::of_architecture(architecture.name.clone(), &vit)?
        }
        None => {
            let given = args.model.resolved();
            Info::of_model(&given.load(settings)?, given.chosen().as_deref(), given.config.as_deref())?
        }
    };
    if settings.json {
        printer.json(&info)?;
    } else {
        print(&info, printer)?;
    }
    Ok(Outcome::Done)
}

fn print(info: &Info, printer: &Printer) -> anyhow::Result<()> {
    let field = |name: &str, value: &str| printer.line(format_args!("{name:<14}{value}"));
    field("model", &printer.heading(&info.name))?;
    if let Some(Origin { path, dialect, stored_as }) = &info.origin {
        let path = path.as_ref().map_or("built in".into(), |path| path.display().to_string());
        field("from", &format!("{path} ({dialect} names, stored as {})", stored_as.join(", ").to_lowercase()))?;
        field("license", info.license.as_deref().unwrap_or("not stated"))?;
    }
    for (name, value) in &info.architecture {
        field(name, value)?;
        if let Some(other) = info.preprocessed_size.filter(|&size| *name == "image" && size != info.config.image_size) {
            field("", &format!("(the size of its positions; its preprocessing gives {other})"))?;
        }
    }
    let ParameterCounts { total, embedding, attention, mlp, norms, head } = info.parameters;
    field("parameters", &format!("{} ({:.2} million)", grouped(total), total as f64 / 1e6))?;
    for (name, part) in
        [("embedding", embedding), ("attention", attention), ("MLP", mlp), ("norms", norms), ("head", head)]
    {
        if part > 0 {
            field("", &format!("{name:<16}{:>14}  {:5.1} %", grouped(part), 100.0 * part as f64 / total as f64))?;
        }
    }
    let [macs, flop] = [info.macs_total, 2 * info.macs_total].map(scaled);
    let own = info.config.image_size;
    let other = info.preprocessed_size.is_some_and(|size| size != own);
    let image = if other { format!("image of {own} pixels") } else { "image".into() };
    field("cost", &format!("{macs}MACs per {image} ({flop}FLOP)"))?;
    let Macs { stem, patch_embedding, qkv, attention, projection, mlp, head } = info.macs;
    for (name, part) in [
        ("stem", stem),
        ("patch embedding", patch_embedding),
        ("qkv", qkv),
        ("attention", attention),
        ("projection", projection),
        ("MLP", mlp),
        ("head", head),
    ] {
        if part > 0 {
            let share = 100.0 * part as f64 / info.macs_total as f64;
            field("", &format!("{name:<16}{:>14}  {share:5.1} %", grouped(part as usize)))?;
        }
    }
    field("memory", &format!("{:.1} MB for the weights", info.memory_bytes as f64 / 1e6))?;
    if info.origin.is_some() {
        field("preprocessing", info.preprocess.as_deref().unwrap_or("not stated in the model's files"))?;
    }
    if let Some(labels) = &info.labels {
        const SHOWN: usize = 10;
        let more = if labels.len() > SHOWN { format!(", … {} in total", labels.len()) } else { String::new() };
        field("labels", &format!("{}{more}", labels[..labels.len().min(SHOWN)].join(", ")))?;
    }
    printer.line("")?;
    printer.line(printer.heading("layers"))?;
    let width = info.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
    for Layer { name, shape, count } in &info.layers {
        let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
        let times = if *count > 1 { format!("  {count} times") } else { String::new() };
        printer.line(format_args!("  {name:width$}  {shape}{times}"))?;
    }
    Ok(())
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Billions or millions, with the matching suffix.
fn scaled(number: u64) -> String {
    let number = number as f64;
    if number >= 1e8 { format!("{:.2} G", number / 1e9) } else { format!("{:.2} M", number / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_formats() {
        assert_eq!([0, 999, 1000, 86_567_656].map(grouped), ["0", "999", "1,000", "86,567,656"]);
        assert_eq!([17_564_300_000, 25_340_000].map(scaled), ["17.56 G", "25.34 M"]);
    }
}
