//! The hybrid's convolutional stem, in plain loops.

use vitral::config::{HybridStem, Size};
use vitral::weights::Assignment;

use super::embedding::Map;

/// The feature map of one image.
pub(crate) fn forward(stem: &HybridStem, weights: &Assignment<'_>, image: &Map) -> Map {
    let mut map = convolution(stem, weights, "stem.conv", image, 2);
    group_norm(stem, weights, "stem.norm", &mut map);
    relu(&mut map);
    map = max_pool(stem, &map);
    for (stage, blocks) in stem.layers.iter().enumerate() {
        for block in 0..*blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            map = bottleneck(stem, weights, &format!("stem.stages.{stage}.{block}"), &map, stride);
        }
    }
    map
}

fn bottleneck(stem: &HybridStem, weights: &Assignment<'_>, name: &str, input: &Map, stride: usize) -> Map {
    let mut map = convolution(stem, weights, &format!("{name}.conv1"), input, 1);
    group_norm(stem, weights, &format!("{name}.norm1"), &mut map);
    relu(&mut map);
    map = convolution(stem, weights, &format!("{name}.conv2"), &map, stride);
    group_norm(stem, weights, &format!("{name}.norm2"), &mut map);
    relu(&mut map);
    map = convolution(stem, weights, &format!("{name}.conv3"), &map, 1);
    group_norm(stem, weights, &format!("{name}.norm3"), &mut map);
    let down = format!("{name}.downsample");
    let shortcut = if weights.is_assigned(&format!("{down}.conv.weight")) {
        let mut shortcut = convolution(stem, weights, &format!("{down}.conv"), input, stride);
        group_norm(stem, weights, &format!("{down}.norm"), &mut shortcut);
        shortcut.values
    } else {
        input.values.clone()
    };
    map.values.iter_mut().zip(shortcut).for_each(|(value, other)| *value += other);
    relu(&mut map);
    map
}

/// Output extent and padding before the first place.
fn padding(stem: &HybridStem, extent: usize, kernel: usize, stride: usize) -> (usize, usize) {
    if stem.same_padding {
        let out = extent.div_ceil(stride);
        let total = ((out - 1) * stride + kernel).saturating_sub(extent);
        (out, total / 2)
    } else {
        let pad = (stride - 1 + kernel - 1) / 2;
        ((extent + 2 * pad - kernel) / stride + 1, pad)
    }
}

/// Calls `take(target, source)` for each pair of places that a kernel joins, and gives the output's size.
fn slide(
    stem: &HybridStem,
    size: Size,
    kernel: usize,
    stride: usize,
    mut take: impl FnMut(usize, usize, usize),
) -> Size {
    let (height, top) = padding(stem, size.height, kernel, stride);
    let (width, left) = padding(stem, size.width, kernel, stride);
    for place in 0..height * width {
        for tap in 0..kernel * kernel {
            let row = (place / width * stride + tap / kernel).wrapping_sub(top);
            let column = (place % width * stride + tap % kernel).wrapping_sub(left);
            if row < size.height && column < size.width {
                take(place, tap, row * size.width + column);
            }
        }
    }
    Size { height, width }
}

/// A convolution with standardised weights.
fn convolution(stem: &HybridStem, weights: &Assignment<'_>, name: &str, input: &Map, stride: usize) -> Map {
    let name = format!("{name}.weight");
    let shape = weights.shape(&name).unwrap().to_vec();
    let (outputs, kernel) = (shape[0], shape[2]);
    let (taps, area) = (kernel * kernel, input.size.area());
    let mut filters = weights.read(&name).unwrap().into_owned();
    for filter in filters.chunks_mut(input.channels * taps) {
        standardise(filter, stem.standardisation_epsilon);
    }
    let mut pairs = Vec::new();
    let size = slide(stem, input.size, kernel, stride, |target, tap, source| pairs.push((target, tap, source)));
    let mut values = vec![0.0; outputs * size.area()];
    for output in 0..outputs {
        for channel in 0..input.channels {
            let filter = &filters[(output * input.channels + channel) * taps..][..taps];
            for &(target, tap, source) in &pairs {
                values[output * size.area() + target] += filter[tap] * input.values[channel * area + source];
            }
        }
    }
    Map { channels: outputs, size, values }
}

fn standardise(values: &mut [f32], epsilon: f32) {
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    let scale = (variance + f64::from(epsilon)).sqrt().recip();
    values.iter_mut().for_each(|value| *value = ((f64::from(*value) - mean) * scale) as f32);
}

fn group_norm(stem: &HybridStem, weights: &Assignment<'_>, name: &str, map: &mut Map) {
    let area = map.size.area();
    for group in map.values.chunks_mut(map.channels / stem.groups * area) {
        standardise(group, stem.norm_epsilon);
    }
    let scale = weights.read(&format!("{name}.weight")).unwrap();
    let shift = weights.read(&format!("{name}.bias")).unwrap();
    for (channel, values) in map.values.chunks_mut(area).enumerate() {
        values.iter_mut().for_each(|value| *value = *value * scale[channel] + shift[channel]);
    }
}

fn relu(map: &mut Map) {
    map.values.iter_mut().for_each(|value| *value = value.max(0.0));
}

fn max_pool(stem: &HybridStem, input: &Map) -> Map {
    let area = input.size.area();
    let mut pairs = Vec::new();
    let size = slide(stem, input.size, 3, 2, |target, _, source| pairs.push((target, source)));
    let mut values = vec![f32::NEG_INFINITY; input.channels * size.area()];
    for channel in 0..input.channels {
        for &(target, source) in &pairs {
            let place = &mut values[channel * size.area() + target];
            *place = place.max(input.values[channel * area + source]);
        }
    }
    Map { channels: input.channels, size, values }
}
