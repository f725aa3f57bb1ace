//! The input of the first block, computed from assigned parameters by a few plain loops: it shows that tokens, positions,
//! patch layouts and resampled grids are what the libraries take them for.

use vitral::config::{ModelConfig, NormKind, Positions, Size, Stem};
use vitral::weights::{Assignment, Container, ResolveOptions, resolve};

use super::{cases, describe, dialect, goldens, specs};

#[test]
fn first_hidden_states_are_those_of_the_libraries() {
    let mut compared = 0;
    for case in cases() {
        let folder = goldens().join("models").join(&case);
        let mut config = describe(&case).config;
        if matches!(config.stem, Stem::Hybrid(_)) {
            continue;
        }
        let input = Container::open(&folder.join("input.safetensors")).unwrap();
        let shape = input.shape("pixel_values").unwrap().to_vec();
        let pixels = floats(&input, "pixel_values");
        // The model as it is loaded for this image: positions come out resampled.
        let patch = config.patch_size;
        config.image_size = Size {
            height: shape[2].div_ceil(patch.height) * patch.height,
            width: shape[3].div_ceil(patch.width) * patch.width,
        };
        let description = describe(&case);
        let container = description.open().unwrap();
        let options = ResolveOptions::for_model(&config);
        let dialect = dialect(&description, &container);
        let assignment = resolve(&specs::of(&config), &dialect, &container, &options)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let expected = Container::open(&folder.join("expected.safetensors")).unwrap();
        let expected = floats(&expected, "hidden_states.0");
        let image = &pixels[..shape[1..].iter().product()];
        let ours = embed(&config, &assignment, image, Size { height: shape[2], width: shape[3] });
        for (index, (ours, theirs)) in ours.iter().zip(&expected).enumerate() {
            let close = (ours - theirs).abs() < 2e-4 * theirs.abs().max(1.0);
            assert!(close, "{case}: token {} is {ours}, expected {theirs}", index / config.width);
        }
        assert_eq!(ours.len() * shape[0], expected.len(), "{case}");
        compared += 1;
    }
    assert!(compared > 80, "{compared}");
}

fn floats(container: &Container, name: &str) -> Vec<f32> {
    container.tensor(name).unwrap().bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Tokens of one image, in order.
fn embed(config: &ModelConfig, weights: &Assignment<'_>, image: &[f32], size: Size) -> Vec<f32> {
    let read = |name: &str| weights.read(name).unwrap().into_owned();
    let width = config.width;
    let mut patches = Vec::new();
    let (kernel, bias) = (read("patches.weight"), config.patch_bias.then(|| read("patches.bias")));
    for patch in cut(config, image, size) {
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
fn cut(config: &ModelConfig, image: &[f32], size: Size) -> Vec<Vec<f32>> {
    let (grid, patch) = (config.grid(), config.patch_size);
    let mut patches = Vec::new();
    for place in 0..grid.area() {
        let (top, left) = (place / grid.width * patch.height, place % grid.width * patch.width);
        let mut values = Vec::new();
        for channel in 0..config.channels {
            for row in top..top + patch.height {
                for column in left..left + patch.width {
                    let inside = row < size.height && column < size.width;
                    values.push(if inside { image[(channel * size.height + row) * size.width + column] } else { 0.0 });
                }
            }
        }
        patches.push(values);
    }
    patches
}

fn add(target: &mut [f32], other: &[f32]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target += other;
    }
}

fn norm(config: &ModelConfig, weights: &Assignment<'_>, name: &str, values: &[f32]) -> Vec<f32> {
    let count = values.len() as f32;
    let weight = weights.read(&format!("{name}.weight")).unwrap();
    let mean = if config.norm == NormKind::Layer { values.iter().sum::<f32>() / count } else { 0.0 };
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
    let scale = (variance + config.norm_epsilon).sqrt().recip();
    let mut out: Vec<f32> =
        values.iter().zip(&*weight).map(|(value, weight)| (value - mean) * scale * weight).collect();
    if config.norm == NormKind::Layer {
        add(&mut out, &weights.read(&format!("{name}.bias")).unwrap());
    }
    out
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
