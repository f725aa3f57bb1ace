//! How long a forward pass takes.

use std::time::{Duration, Instant};

use vitral_engine::ops::random::uniform;
use vitral_engine::{Context, Parameters, Tensor};

use crate::config::Size;
use crate::error::Error;
use crate::model::{Input, Vit};

/// Times forward passes over `batch` made-up images of one size, from a tensor: one to warm up, then `runs`. `after` is
/// called after each.
///
/// # Errors
/// If the model does not take images of this size.
pub fn time_forward(
    vit: &Vit,
    parameters: &Parameters,
    (batch, image): (usize, Size),
    runs: usize,
    mut after: impl FnMut(),
) -> Result<Vec<Duration>, Error> {
    let device = parameters.device();
    let shape = [batch, vit.config().channels, image.height, image.width];
    let pixels = Tensor::filled(device, shape, |values| {
        for (i, value) in values.iter_mut().enumerate() {
            *value = 2.0 * uniform(0, i as u64) - 1.0;
        }
    });
    let mut times = Vec::with_capacity(runs);
    for run in 0..=runs {
        let start = Instant::now();
        let input = Input { pixels: &pixels, mask: None };
        let output = device.scope(|| vit.forward(&Context::inference(parameters), input))?;
        let time = start.elapsed();
        drop(std::hint::black_box(output));
        if run > 0 {
            times.push(time);
        }
        after();
    }
    Ok(times)
}
