//! From an image to the input of the first block, in plain loops.

use vitral::config::{ModelConfig, Positions, Size, Stem};
use vitral::weights::Assignment;

use super::reference::{add, norm};
use super::stem;

/// An image or a feature map, channel by channel.
pub(crate) struct Map {
    pub(crate) channels: usize,
    pub(crate) size: Size,
    pub(crate) values: Vec<f32>,
}

/// Tokens of one image, in order.
pub(crate) fn embed(config: &ModelConfig, weights: &Assignment<'_>, image: &[f32], size: Size) -> Vec<f32> {
    let read = |name: &str| weights.read(name).unwrap().into_owned();
    let width = config.width;
    let mut patches = Vec::new();
    let map = match &config.stem {
        Stem::Patches => Map { channels: config.channels, size, values: image.to_vec() },
        Stem::Hybrid(hybrid) => {
            stem::forward(hybrid, weights, &Map { channels: config.channels, size, values: image.to_vec() })
        }
    };
    let (kernel, bias) = (read("patches.weight"), config.patch_bias.then(|| read("patches.bias")));
    for patch in cut(config, &map) {
        let patch = if config.patch_norms { norm(config, weights, "patches.norm_in", &patch) } else { patch };
        let mut token: Vec<f32> =
            kernel.chunks(patch.len()).map(|row| row.iter().zip(&patch).map(|(a, b)| a * b).sum()).collect();
        if let Some(bias) = &bias {
            add(&mut token, bias);
        }
        if config.patch_norms || config.patch_output_norm {
            token = norm(config, weights, "patches.norm_out", &token);
        }
        patches.extend(token);
    }
    let positions = match config.positions {
        Positions::None => Vec::new(),
        Positions::SinCos2d => sin_cos(config.grid(), width),
        _ => read("positions"),
    };
    let mut prefix = Vec::new();
    if config.class_token {
        prefix.extend(read("tokens.class"));
    }
    if config.distillation_token {
        prefix.extend(read("tokens.distillation"));
    }
    let registers = if config.registers > 0 { read("tokens.registers") } else { Vec::new() };
    let mut tokens = match config.positions {
        Positions::LearnedAll => {
            let mut tokens = [prefix, registers, patches].concat();
            add(&mut tokens, &positions);
            tokens
        }
        Positions::LearnedWithoutRegisters => {
            let (first, rest) = positions.split_at(prefix.len());
            add(&mut prefix, first);
            add(&mut patches, rest);
            [prefix, registers, patches].concat()
        }
        _ => {
            add(&mut patches, &positions);
            [prefix, registers, patches].concat()
        }
    };
    if config.pre_norm {
        tokens = tokens.chunks(width).flat_map(|token| norm(config, weights, "pre_norm", token)).collect();
    }
    tokens
}

/// Flattened patches, each channel by channel and row by row; beyond the image there are zeros.
fn cut(config: &ModelConfig, map: &Map) -> Vec<Vec<f32>> {
    let (grid, patch, size) = (config.grid(), config.patch_size, map.size);
    let mut patches = Vec::new();
    for place in 0..grid.area() {
        let (top, left) = (place / grid.width * patch.height, place % grid.width * patch.width);
        let mut values = Vec::new();
        for channel in 0..map.channels {
            for row in top..top + patch.height {
                for column in left..left + patch.width {
                    let inside = row < size.height && column < size.width;
                    values.push(if inside {
                        map.values[(channel * size.height + row) * size.width + column]
                    } else {
                        0.0
                    });
                }
            }
        }
        patches.push(values);
    }
    patches
}

fn sin_cos(grid: Size, width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let mut positions = Vec::new();
    for place in 0..grid.area() {
        let (y, x) = ((place / grid.width) as f32, (place % grid.width) as f32);
        let rates = (0..quarter).map(|index| 10000f32.powf(-(index as f32) / (quarter - 1) as f32));
        let rates: Vec<f32> = rates.collect();
        positions.extend(rates.iter().map(|rate| (x * rate).sin()));
        positions.extend(rates.iter().map(|rate| (x * rate).cos()));
        positions.extend(rates.iter().map(|rate| (y * rate).sin()));
        positions.extend(rates.iter().map(|rate| (y * rate).cos()));
    }
    positions
}
