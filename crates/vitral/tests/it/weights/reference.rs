//! A Vision Transformer in plain loops, straight from the configuration: slow, and short enough to be believed.

use vitral::config::{Activation, BlockKind, Head, MlpKind, ModelConfig, NormKind, Pooling, Size};
use vitral::weights::Assignment;

use super::embedding::embed;

/// All that `vitral forward` prints, for one image.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) hidden: Vec<Vec<f32>>,
    pub(crate) attentions: Vec<Vec<f32>>,
    pub(crate) features: Vec<f32>,
    pub(crate) logits: Option<Vec<f32>>,
}

/// A model with its weights.
pub(crate) struct Reference<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) weights: &'a Assignment<'a>,
}

pub(crate) fn add(target: &mut [f32], other: &[f32]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target += other;
    }
}

pub(crate) fn norm(config: &ModelConfig, weights: &Assignment<'_>, name: &str, values: &[f32]) -> Vec<f32> {
    let weight = weights.read(&format!("{name}.weight")).unwrap();
    let bias = (config.norm == NormKind::Layer).then(|| weights.read(&format!("{name}.bias")).unwrap());
    let mut out = Vec::with_capacity(values.len());
    for row in values.chunks(weight.len()) {
        let count = row.len() as f64;
        let sum = row.iter().map(|value| f64::from(*value)).sum::<f64>();
        let mean = if config.norm == NormKind::Layer { sum / count } else { 0.0 };
        let variance = row.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
        let scale = (variance + f64::from(config.norm_epsilon)).sqrt().recip();
        for (index, value) in row.iter().enumerate() {
            let shift = bias.as_ref().map_or(0.0, |bias| bias[index]);
            out.push(((f64::from(*value) - mean) * scale) as f32 * weight[index] + shift);
        }
    }
    out
}

fn activate(kind: Activation, value: f32) -> f32 {
    let x = f64::from(value);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let out = match kind {
        Activation::Gelu => x * normal_cumulative(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
    };
    out as f32
}

/// The standard normal distribution function, by the Taylor series of its integral: exact enough where it matters.
fn normal_cumulative(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum) = (x, x);
    for step in 1..200 {
        term *= x * x / f64::from(2 * step + 1);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

impl Reference<'_> {
    /// Runs one image; `mask` says for each patch whether it is attended.
    pub(crate) fn forward(&self, image: &[f32], size: Size, mask: Option<&[u8]>) -> Output {
        let config = self.config;
        let mut output = Output::default();
        let mut tokens = embed(config, self.weights, image, size);
        output.hidden.push(tokens.clone());
        let attended: Vec<bool> = (0..tokens.len() / config.width)
            .map(|token| {
                token < config.prefix_tokens() || mask.is_none_or(|mask| mask[token - config.prefix_tokens()] == 1)
            })
            .collect();
        for block in 0..config.depth {
            tokens = self.block(&format!("blocks.{block}"), &tokens, &attended, &mut output.attentions);
            output.hidden.push(tokens.clone());
        }
        if config.final_norm {
            tokens = self.norm("norm", &tokens);
        }
        self.head(&tokens, &mut output);
        output
    }

    fn norm(&self, name: &str, values: &[f32]) -> Vec<f32> {
        norm(self.config, self.weights, name, values)
    }

    fn linear(&self, name: &str, values: &[f32]) -> Vec<f32> {
        let weight = self.weights.read(&format!("{name}.weight")).unwrap();
        let inputs = self.weights.shape(&format!("{name}.weight")).unwrap()[1];
        let bias = format!("{name}.bias");
        let bias = self.weights.is_assigned(&bias).then(|| self.weights.read(&bias).unwrap());
        let mut out = Vec::new();
        for row in values.chunks(inputs) {
            let mut line: Vec<f32> =
                weight.chunks(inputs).map(|weights| weights.iter().zip(row).map(|(a, b)| a * b).sum()).collect();
            if let Some(bias) = &bias {
                add(&mut line, bias);
            }
            out.extend(line);
        }
        out
    }

    fn scaled(&self, name: &str, mut values: Vec<f32>) -> Vec<f32> {
        if self.weights.is_assigned(name) {
            let scale = self.weights.read(name).unwrap();
            for row in values.chunks_mut(scale.len()) {
                row.iter_mut().zip(&*scale).for_each(|(value, scale)| *value *= scale);
            }
        }
        values
    }

    fn block(&self, name: &str, x: &[f32], attended: &[bool], seen: &mut Vec<Vec<f32>>) -> Vec<f32> {
        let part = |part: &str| format!("{name}.{part}");
        let mut out = x.to_vec();
        match self.config.block {
            BlockKind::PreNorm => {
                let attention = self.attention(name, &self.norm(&part("norm1"), x), attended, seen);
                add(&mut out, &self.scaled(&part("scale1"), attention));
                let mlp = self.mlp(name, &self.norm(&part("norm2"), &out));
                add(&mut out, &self.scaled(&part("scale2"), mlp));
            }
            BlockKind::PostNorm => {
                add(&mut out, &self.attention(name, x, attended, seen));
                out = self.norm(&part("norm1"), &out);
                let mlp = self.mlp(name, &out);
                add(&mut out, &mlp);
                out = self.norm(&part("norm2"), &out);
            }
            BlockKind::ResidualPostNorm => {
                add(&mut out, &self.norm(&part("norm1"), &self.attention(name, x, attended, seen)));
                let mlp = self.norm(&part("norm2"), &self.mlp(name, &out));
                add(&mut out, &mlp);
            }
            BlockKind::ParallelScaling => {
                let normed = self.norm(&part("norm1"), x);
                let mut both = self.attention(name, &normed, attended, seen);
                add(&mut both, &self.mlp(name, &normed));
                add(&mut out, &self.scaled(&part("scale1"), both));
            }
            BlockKind::ParallelPairs => {
                for pair in 0..2 {
                    let name = format!("{name}.pairs.{pair}");
                    let attention =
                        self.attention(&name, &self.norm(&format!("{name}.norm1"), x), attended, &mut vec![]);
                    add(&mut out, &self.scaled(&format!("{name}.scale1"), attention));
                }
                let between = out.clone();
                for pair in 0..2 {
                    let name = format!("{name}.pairs.{pair}");
                    let mlp = self.mlp(&name, &self.norm(&format!("{name}.norm2"), &between));
                    add(&mut out, &self.scaled(&format!("{name}.scale2"), mlp));
                }
            }
        }
        out
    }

    fn attention(&self, name: &str, x: &[f32], attended: &[bool], seen: &mut Vec<Vec<f32>>) -> Vec<f32> {
        let config = self.config;
        let name = format!("{name}.attention");
        let (inner, head_width) = (config.attention_width(), config.head_width);
        let qkv = self.linear(&format!("{name}.qkv"), x);
        let pick = |part: usize| -> Vec<f32> {
            qkv.chunks(3 * inner).flat_map(|row| row[part * inner..][..inner].to_vec()).collect()
        };
        let (mut query, mut key, value) = (pick(0), pick(1), pick(2));
        if config.qk_norm {
            query = self.norm(&format!("{name}.query_norm"), &query);
            key = self.norm(&format!("{name}.key_norm"), &key);
        }
        let scale = config.qk_scale.unwrap_or((head_width as f32).sqrt().recip());
        let (mut out, weights) = attend(&query, &key, &value, config.heads, scale, attended);
        seen.push(weights);
        if config.attention_norm {
            out = self.norm(&format!("{name}.norm"), &out);
        }
        self.linear(&format!("{name}.projection"), &out)
    }

    fn mlp(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let config = self.config;
        let up = self.linear(&format!("{name}.mlp.up"), x);
        let mut hidden: Vec<f32> = match config.mlp {
            MlpKind::Plain => up.iter().map(|value| activate(config.activation, *value)).collect(),
            MlpKind::Gated => up
                .chunks(2 * config.mlp_width)
                .flat_map(|row| {
                    let (gate, up) = row.split_at(config.mlp_width);
                    gate.iter().zip(up).map(|(gate, up)| activate(config.activation, *gate) * up).collect::<Vec<_>>()
                })
                .collect(),
        };
        if config.mlp_norm {
            hidden = self.norm(&format!("{name}.mlp.norm"), &hidden);
        }
        self.linear(&format!("{name}.mlp.down"), &hidden)
    }

    fn head(&self, tokens: &[f32], output: &mut Output) {
        let config = self.config;
        let width = config.width;
        let patches = &tokens[config.prefix_tokens() * width..];
        let seen = if config.pool_prefix { tokens } else { patches };
        let mut features = match config.pooling {
            Pooling::Class => tokens[..width].to_vec(),
            Pooling::Mean => mean(patches, width),
            Pooling::MeanAll => mean(tokens, width),
            Pooling::Max => maximum(seen, width),
            Pooling::AverageMax => {
                let mut both = mean(seen, width);
                add(&mut both, &maximum(seen, width));
                both.iter().map(|value| value / 2.0).collect()
            }
            Pooling::Attention => self.attention_pool(seen),
            Pooling::ClassAndMean => [&tokens[..width], &mean(patches, width)[..]].concat(),
            Pooling::None => tokens.to_vec(),
        };
        if config.pooled_norm {
            features = self.norm("pooled_norm", &features);
        }
        if config.pre_logits.is_some() {
            features = self.linear("pre_logits", &features).iter().map(|value| value.tanh()).collect();
        }
        let distilled = config.distillation_head.then(|| tokens[width..2 * width].to_vec());
        if config.classes > 0 {
            let mut logits = match config.head {
                Head::Linear => self.linear("head", &features),
                Head::Mlp { activation, .. } => {
                    let hidden = self.linear("head.up", &features);
                    let hidden: Vec<f32> = hidden.iter().map(|value| activate(activation, *value)).collect();
                    self.linear("head.down", &hidden)
                }
            };
            if let Some(token) = &distilled {
                add(&mut logits, &self.linear("distillation_head", token));
                logits.iter_mut().for_each(|value| *value /= 2.0);
            }
            output.logits = Some(logits);
        }
        if let Some(token) = &distilled {
            add(&mut features, token);
            features.iter_mut().for_each(|value| *value /= 2.0);
        }
        output.features = features;
    }

    fn attention_pool(&self, tokens: &[f32]) -> Vec<f32> {
        let config = self.config;
        let width = config.width;
        let query = self.linear("pool.query", &self.weights.read("pool.probe").unwrap());
        let both = self.linear("pool.key_value", tokens);
        let pick = |part: usize| -> Vec<f32> {
            both.chunks(2 * width).flat_map(|row| row[part * width..][..width].to_vec()).collect()
        };
        let attended = vec![true; tokens.len() / width];
        let scale = ((width / config.heads) as f32).sqrt().recip();
        let (pooled, _) = attend(&query, &pick(0), &pick(1), config.heads, scale, &attended);
        let mut out = self.linear("pool.projection", &pooled);
        let hidden = self.linear("pool.mlp.up", &self.norm("pool.norm", &out));
        let hidden: Vec<f32> = hidden.iter().map(|value| activate(config.activation, *value)).collect();
        add(&mut out, &self.linear("pool.mlp.down", &hidden));
        out
    }
}

/// Attention of every query to every attended key. Gives the result, heads side by side, and the weights.
fn attend(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    heads: usize,
    scale: f32,
    attended: &[bool],
) -> (Vec<f32>, Vec<f32>) {
    let keys = attended.len();
    let inner = key.len() / keys;
    let (queries, head_width) = (query.len() / inner, inner / heads);
    let mut out = vec![0.0; queries * inner];
    let mut weights = Vec::with_capacity(heads * queries * keys);
    for head in 0..heads {
        let slice = |values: &[f32], row: usize| values[row * inner + head * head_width..][..head_width].to_vec();
        for row in 0..queries {
            let q = slice(query, row);
            let scores: Vec<f32> = (0..keys)
                .map(|at| {
                    let dot: f32 = slice(key, at).iter().zip(&q).map(|(a, b)| a * b).sum();
                    if attended[at] { dot * scale } else { f32::NEG_INFINITY }
                })
                .collect();
            let peak = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shares: Vec<f32> = scores.iter().map(|score| (score - peak).exp()).collect();
            let sum: f32 = shares.iter().sum();
            for (at, share) in shares.iter().enumerate() {
                let part: Vec<f32> = slice(value, at).iter().map(|value| value * share / sum).collect();
                add(&mut out[row * inner + head * head_width..][..head_width], &part);
                weights.push(share / sum);
            }
        }
    }
    (out, weights)
}

fn mean(tokens: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    tokens.chunks(width).for_each(|token| add(&mut sum, token));
    let count = (tokens.len() / width) as f32;
    sum.iter().map(|value| value / count).collect()
}

fn maximum(tokens: &[f32], width: usize) -> Vec<f32> {
    let mut most = vec![f32::NEG_INFINITY; width];
    for token in tokens.chunks(width) {
        most.iter_mut().zip(token).for_each(|(most, value)| *most = most.max(*value));
    }
    most
}
