//! `vitral info`: describe a model.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vitral::config::ModelConfig;
use vitral::model::Vit;
use vitral::model::cost::Macs;
use vitral::weights::{Container, load_description};
use vitral::{Model, config};

use crate::architecture::{Architecture, architecture};
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{FirstModelArgs, ModelArgs, Settings};

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

/// Everything the command prints.
#[derive(Serialize)]
struct Report {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    license: Option<String>,
    architecture: Vec<(&'static str, String)>,
    config: ModelConfig,
    tokens: usize,
    parameters: Parameters,
    macs: Macs,
    macs_total: u64,
    preprocess: Option<String>,
    /// The size of preprocessed images; `config.image_size` is that of the positions.
    preprocessed_size: Option<config::Size>,
    labels: Option<Vec<String>>,
    layers: Vec<Layer>,
    memory_bytes: usize,
}

/// Where the weights come from.
#[derive(Serialize)]
struct Origin {
    path: Option<PathBuf>,
    dialect: String,
    stored_as: Vec<String>,
}

#[derive(Default, Serialize)]
struct Parameters {
    total: usize,
    embedding: usize,
    attention: usize,
    mlp: usize,
    norms: usize,
    head: usize,
}

/// Parameters of one name and shape; `{i}` stands for the numbers of the blocks that have it.
#[derive(PartialEq, Serialize)]
struct Layer {
    name: String,
    shape: Vec<usize>,
    count: usize,
}

pub(crate) fn run(args: &InfoArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let report = match &args.arch {
        Some(architecture) => {
            let vit = Vit::new(architecture.config.clone())?;
            let mut report = Report::of(architecture.name.clone(), &vit)?;
            report.memory_bytes = 4 * report.parameters.total;
            report
        }
        None => {
            let given = args.model.resolved();
            of_model(&given, &given.load(settings)?)?
        }
    };
    if settings.json {
        printer.json(&report)?;
    } else {
        report.print(printer)?;
    }
    Ok(Outcome::Done)
}

fn of_model(given: &ModelArgs, model: &Model) -> anyhow::Result<Report> {
    let path = given.chosen();
    let stored_as = match &path {
        // A name on the hub was located when the model was loaded.
        Some(_) => stored_types(&load_description(model.path(), given.config.as_deref())?.open()?),
        None => stored_types(&Model::embedded_weights()?),
    };
    Ok(Report {
        origin: Some(Origin { path, dialect: model.dialect().to_owned(), stored_as }),
        license: model.license().map(str::to_owned),
        // Missing preprocessing does not prevent describing the model.
        preprocess: match model.preprocess() {
            Ok(steps) => Some(steps.to_string()),
            Err(vitral::Error::NoPreprocessing { .. }) => None,
            Err(fault) => Some(format!("cannot be used: {fault}")),
        },
        labels: model.labels().names().map(<[String]>::to_vec),
        memory_bytes: model.parameters().bytes(),
        preprocessed_size: model.preprocess().ok().and_then(|preprocess| preprocess.output_size()),
        ..Report::of(model.name().to_owned(), model.vit())?
    })
}

fn stored_types(container: &Container) -> Vec<String> {
    let mut types: Vec<String> =
        container.names().filter_map(|name| container.data_type(name)).map(|kind| format!("{kind:?}")).collect();
    types.sort();
    types.dedup();
    types
}

impl Report {
    fn of(name: String, vit: &Vit) -> anyhow::Result<Self> {
        let config = vit.config().clone();
        let macs = vit.macs(config.image_size)?;
        let mut parameters = Parameters::default();
        let mut layers: Vec<Layer> = Vec::new();
        for spec in vit.declarations().specs() {
            let count = spec.count();
            parameters.total += count;
            *parameters.part(&spec.name) += count;
            let layer = Layer { name: without_number(&spec.name), shape: spec.shape.clone(), count: 1 };
            match layers.iter_mut().find(|known| known.name == layer.name && known.shape == layer.shape) {
                Some(known) => known.count += 1,
                None => layers.push(layer),
            }
        }
        Ok(Report {
            name,
            origin: None,
            license: None,
            architecture: in_words(&config),
            tokens: config.tokens(),
            config,
            parameters,
            macs,
            macs_total: macs.total(),
            preprocess: None,
            preprocessed_size: None,
            labels: None,
            layers,
            memory_bytes: 0,
        })
    }

    fn print(&self, printer: &Printer) -> anyhow::Result<()> {
        let field = |name: &str, value: &str| printer.line(format_args!("{name:<14}{value}"));
        field("model", &printer.heading(&self.name))?;
        if let Some(Origin { path, dialect, stored_as }) = &self.origin {
            let path = path.as_ref().map_or("built in".into(), |path| path.display().to_string());
            field("from", &format!("{path} ({dialect} names, stored as {})", stored_as.join(", ").to_lowercase()))?;
            field("license", self.license.as_deref().unwrap_or("not stated"))?;
        }
        for (name, value) in &self.architecture {
            field(name, value)?;
            if let Some(other) =
                self.preprocessed_size.filter(|&size| *name == "image" && size != self.config.image_size)
            {
                field("", &format!("(the size of its positions; its preprocessing gives {other})"))?;
            }
        }
        let Parameters { total, embedding, attention, mlp, norms, head } = self.parameters;
        field("parameters", &format!("{} ({:.2} million)", grouped(total), total as f64 / 1e6))?;
        for (name, part) in
            [("embedding", embedding), ("attention", attention), ("MLP", mlp), ("norms", norms), ("head", head)]
        {
            if part > 0 {
                field("", &format!("{name:<16}{:>14}  {:5.1} %", grouped(part), 100.0 * part as f64 / total as f64))?;
            }
        }
        let [macs, flop] = [self.macs_total, 2 * self.macs_total].map(scaled);
        let own = self.config.image_size;
        let other = self.preprocessed_size.is_some_and(|size| size != own);
        let image = if other { format!("image of {own} pixels") } else { "image".into() };
        field("cost", &format!("{macs}MACs per {image} ({flop}FLOP)"))?;
        let Macs { stem, patch_embedding, qkv, attention, projection, mlp, head } = self.macs;
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
                let share = 100.0 * part as f64 / self.macs_total as f64;
                field("", &format!("{name:<16}{:>14}  {share:5.1} %", grouped(part as usize)))?;
            }
        }
        field("memory", &format!("{:.1} MB for the weights", self.memory_bytes as f64 / 1e6))?;
        if self.origin.is_some() {
            field("preprocessing", self.preprocess.as_deref().unwrap_or("not stated in the model's files"))?;
        }
        if let Some(labels) = &self.labels {
            const SHOWN: usize = 10;
            let more = if labels.len() > SHOWN { format!(", … {} in total", labels.len()) } else { String::new() };
            field("labels", &format!("{}{more}", labels[..labels.len().min(SHOWN)].join(", ")))?;
        }
        printer.line("")?;
        printer.line(printer.heading("layers"))?;
        let width = self.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
        for Layer { name, shape, count } in &self.layers {
            let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
            let times = if *count > 1 { format!("  {count} times") } else { String::new() };
            printer.line(format_args!("  {name:width$}  {shape}{times}"))?;
        }
        Ok(())
    }
}

impl Parameters {
    fn part(&mut self, name: &str) -> &mut usize {
        if name.contains("norm") {
            &mut self.norms
        } else if !name.starts_with("blocks.") {
            match name.split('.').next() {
                Some("patches" | "stem" | "tokens" | "positions" | "relative_positions") => &mut self.embedding,
                _ => &mut self.head,
            }
        } else if name.contains(".mlp.") || name.contains("scale2") {
            &mut self.mlp
        } else {
            &mut self.attention
        }
    }
}

/// `blocks.3.norm1.weight` as `blocks.{i}.norm1.weight`.
fn without_number(name: &str) -> String {
    match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("blocks.{{i}}.{rest}"),
        None => name.to_owned(),
    }
}

/// The architecture, one choice per line.
fn in_words(config: &ModelConfig) -> Vec<(&'static str, String)> {
    use config::{Head, Pooling, Positions, Problem, RelativePositions, Stem};
    let mut lines = Vec::new();
    let grid = config.grid();
    let channels = if config.channels == 1 { "1 channel".into() } else { format!("{} channels", config.channels) };
    lines.push(("image", format!("{} pixels, {channels}", config.image_size)));
    let patches = format!("{} of {} pixels", grid.area(), config.token_stride());
    lines.push((
        "patches",
        match &config.stem {
            Stem::Patches => patches,
            Stem::Hybrid(stem) => format!("{patches}, after a ResNetV2 of stages {:?}", stem.layers),
            Stem::ResNet(stem) => {
                format!("{patches}: cells of a ResNetV2 of stages {:?}, {} channels wide", stem.layers, config.width)
            }
            Stem::Convolutional(stem) => {
                let channels: Vec<usize> = stem.layers.iter().map(|layer| layer.channels).collect();
                format!("{patches}, after convolutions of {channels:?} channels")
            }
        },
    ));
    let mut tokens = Vec::new();
    if config.class_token {
        tokens.push("class".to_owned());
    }
    if config.distillation_token {
        tokens.push("distillation".to_owned());
    }
    if config.registers > 0 {
        tokens.push(format!("{} registers", config.registers));
    }
    tokens.push(format!("{} patches", grid.area()));
    lines.push(("tokens", format!("{}: {}", config.tokens(), tokens.join(", "))));
    let positions = match config.positions {
        Positions::None => "none",
        Positions::LearnedAll => "learned, for all tokens",
        Positions::LearnedWithoutRegisters => "learned, for all tokens except registers",
        Positions::LearnedPatches => "learned, for patches",
        Positions::SinCos2d => "2D sine-cosine, fixed",
        Positions::Rotary { .. } => "rotary: patch queries and keys are rotated by row and column",
    };
    let relative = match config.relative_positions {
        RelativePositions::None => "",
        RelativePositions::Blocks => "relative position bias, learned per block",
        RelativePositions::Shared => "relative position bias, learned once for all blocks",
        RelativePositions::Both => "relative position bias, learned per block and once for all blocks",
    };
    let said = match (config.positions, relative) {
        (_, "") => positions.to_owned(),
        (Positions::None, relative) => relative.to_owned(),
        (_, relative) => format!("{positions}; {relative}"),
    };
    lines.push(("positions", said));
    if config.depth > 0 {
        lines.extend(blocks(config));
    }
    let pooling = match config.pooling {
        Pooling::Class if config.distillation_head => "class and distillation tokens, mean of both heads",
        Pooling::Class => "class token",
        Pooling::Mean => "mean of patches",
        Pooling::MeanAll => "mean of all tokens",
        Pooling::Max => "maximum over patches",
        Pooling::AverageMax => "mean and maximum over patches",
        Pooling::Attention => "attention with a learned probe",
        Pooling::ClassAndMean => "class token concatenated with the mean of patches",
        Pooling::None => "none: features are all tokens",
    };
    let pre_logits = config.pre_logits.map_or(String::new(), |width| format!(", then linear and tanh to {width}"));
    lines.push(("pooling", format!("{pooling}{pre_logits}")));
    let problem = match config.problem {
        Problem::SingleLabel => "",
        Problem::MultiLabel => ", any number of which can apply (multi-label: sigmoid)",
        Problem::Regression => ", which are numbers (regression)",
        Problem::Embedding => "",
    };
    let head = match (config.classes, config.head) {
        (0, _) => "none".to_owned(),
        (width, _) if config.problem == Problem::Embedding => {
            format!("none: a projection to an embedding of {width} numbers")
        }
        (classes, Head::Linear) => format!("linear, {classes} classes{problem}"),
        (classes, Head::Mlp { width, .. }) => format!("MLP of width {width}, {classes} classes{problem}"),
    };
    lines.push(("head", head));
    lines
}

/// The parts of a block.
fn blocks(config: &ModelConfig) -> [(&'static str, String); 3] {
    use config::{BlockKind, MlpKind, NormKind};
    let kind = match config.block {
        BlockKind::PreNorm => "pre-norm",
        BlockKind::PostNorm => "post-norm, after the residual",
        BlockKind::ResidualPostNorm => "post-norm, before the residual",
        BlockKind::ParallelScaling => "attention and MLP in parallel",
        BlockKind::ParallelPairs => "two attentions in parallel, then two MLPs in parallel",
    };
    let norm = match config.norm {
        NormKind::Layer => "LayerNorm",
        NormKind::Rms => "RMSNorm",
    };
    let scale = if config.layer_scale.is_some() { ", LayerScale" } else { "" };
    let blocks = format!(
        "{} of width {}, {kind} ({norm}, epsilon {:e}{scale})",
        config.depth, config.width, config.norm_epsilon
    );
    let mut attention = format!("{} heads of {}", config.heads, config.head_width);
    if !config.qkv_bias {
        attention.push_str(", no bias on query, key and value");
    } else if !config.key_bias {
        attention.push_str(", no bias on key");
    }
    if config.qk_norm {
        attention.push_str(", norm of queries and keys");
    }
    let gated = if config.mlp == MlpKind::Gated { "gated " } else { "" };
    let mlp = format!("{} wide, {gated}{}", config.mlp_width, activation(config.activation));
    [("blocks", blocks), ("attention", attention), ("MLP", mlp)]
}

fn activation(activation: config::Activation) -> &'static str {
    use config::Activation;
    match activation {
        Activation::Gelu => "GELU",
        Activation::GeluTanh => "GELU (tanh approximation)",
        Activation::QuickGelu => "quick GELU",
        Activation::Relu => "ReLU",
        Activation::Silu => "SiLU",
        Activation::Tanh => "tanh",
    }
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
