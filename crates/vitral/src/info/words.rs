//! An architecture in words.

use crate::config::{self, ModelConfig};

/// The architecture, one choice per line.
pub(super) fn in_words(config: &ModelConfig) -> Vec<(&'static str, String)> {
    use config::{Head, Pooling, Positions, Problem, RelativePositions, Rotary, Stem};
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
            Stem::ResNetD(stem) => format!("{patches}, after a ResNet-D of stages {:?}", stem.layers),
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
    };
    let relative = match config.relative_positions {
        RelativePositions::None => "",
        RelativePositions::Blocks => "relative position bias, learned per block",
        RelativePositions::Shared => "relative position bias, learned once for all blocks",
        RelativePositions::Both => "relative position bias, learned per block and once for all blocks",
    };
    let rotary = match config.rotary {
        None => "",
        Some(Rotary::Normalized { .. }) => "rotary: patch queries and keys are rotated by row and column",
        Some(Rotary::Axial { .. }) => "rotary, axial: patch queries and keys are rotated by row and column",
        Some(Rotary::Mixed { .. }) => {
            "rotary, mixed: each head of each block learns its frequencies for rows and columns"
        }
    };
    let added = if config.positions == Positions::None { "" } else { positions };
    let all: Vec<&str> = [added, rotary, relative].into_iter().filter(|kind| !kind.is_empty()).collect();
    lines.push(("positions", if all.is_empty() { "none".to_owned() } else { all.join("; ") }));
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
        Pooling::Attention if config.pool_heads.is_some() => "attention with a learned probe and heads of its own",
        Pooling::Attention => "attention with a learned probe",
        Pooling::ClassAndMean => "class token concatenated with the mean of patches",
        Pooling::None => "none: features are all tokens",
    };
    let pre_logits = config.pre_logits.map_or(String::new(), |width| {
        format!(", then linear and {} to {width}", activation(config.pre_logits_activation))
    });
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
        (classes, Head::Cosine { space: Some(space) }) => {
            format!("cosine in a space of width {space}, {classes} classes{problem}")
        }
        (classes, Head::Cosine { space: None }) => format!("cosine, {classes} classes{problem}"),
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
