//! Sizes, numbers and names as written by these libraries.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::{Activation, Size};
use crate::weights::WeightsError;

/// Writes a description into a folder.
pub(super) fn write(folder: &Path, name: &str, value: &Value) -> Result<(), WeightsError> {
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(value).map_err(|error| WeightsError::description(&path, error))?;
    std::fs::write(&path, text + "\n").map_err(|source| WeightsError::writing(&path, source))
}

/// A size as written by these libraries.
pub(super) fn side(size: Size) -> Value {
    if size.height == size.width { json!(size.height) } else { json!([size.height, size.width]) }
}

/// A 32-bit number in its shortest form.
pub(super) fn number(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

/// The MLP's width as a ratio, chosen so that the library's product, rounded down, gives the width again.
pub(super) fn ratio(width: usize, hidden: usize, gated: bool) -> Value {
    // DINOv2 takes two thirds of a gated MLP's width and rounds up to a multiple of eight.
    let hidden = if gated { hidden * 3 / 2 } else { hidden };
    let mut ratio = hidden as f64 / width as f64;
    if ((width as f64 * ratio) as usize) < hidden {
        ratio = ratio.next_up();
    }
    if ratio.fract() == 0.0 { json!(ratio as u64) } else { json!(ratio) }
}

pub(super) fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::QuickGelu => "quick_gelu",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
        Activation::Tanh => "tanh",
    }
}
