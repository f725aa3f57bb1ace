//! How long a forward pass takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vitral_engine::random::uniform;
use vitral_engine::{Context, Device, Parameters, Replays, Stages};

use crate::config::Size;
use crate::error::Error;
use crate::model::{Input, Vit};

/// Durations of timed passes.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Each pass.
    pub passes: Vec<Duration>,
    /// Each part of a pass, averaged over all: `patch_embedding`, `tokens`, `qkv`, `attention`, `projection`, `mlp`,
    /// `head`.
    pub stages: Vec<(&'static str, Duration)>,
}

/// Times forward passes over `batch` synthetic images of one size: one to warm up, then `runs`. `after` is called after
/// each pass. With `staged`, a GPU waits after each stage, so that it can be timed; passes take longer then.
///
/// # Errors
/// If the model does not accept images of this size.
pub fn time_forward(
    vit: &Vit,
    parameters: &Parameters,
    (batch, image): (usize, Size),
    runs: usize,
    staged: bool,
    mut after: impl FnMut(),
) -> Result<Timing, Error> {
    let device = parameters.device();
    let shape = [batch, vit.config().channels, image.height, image.width];
    // The synthetic images, and their copy on the device.
    device.check_memory(shape.iter().map(|&extent| extent as u64).product::<u64>().saturating_mul(8))?;
    let noise: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| 2.0 * uniform(0, i as u64) - 1.0).collect();
    let pixels = device.upload(shape, &noise)?;
    let mut passes = Vec::with_capacity(runs);
    let mut sums: BTreeMap<&'static str, Duration> = BTreeMap::new();
    // A GPU compiles and chooses in the first pass, and may record the second.
    let warm_up = if matches!(device, Device::Cuda(_)) && !staged { 4 } else { 0 };
    let replays = Replays::default();
    for _ in 0..warm_up {
        drop(device.scope(|| vit.forward_replayed(parameters, &pixels, &replays))?);
    }
    device.wait()?;
    for run in 0..=runs {
        let start = Instant::now();
        let input = Input { pixels: &pixels, mask: None };
        let (output, stages) = device.scope(|| {
            if warm_up > 0 {
                return (vit.forward_replayed(parameters, &pixels, &replays), Vec::new());
            }
            let stages = Stages::default();
            let output = vit.forward(&Context::inference(parameters).timed_by(&stages), input);
            (output, stages.times())
        });
        device.wait()?;
        let time = start.elapsed();
        drop(std::hint::black_box(output?));
        if run > 0 {
            passes.push(time);
            for (name, time) in stages {
                *sums.entry(name).or_default() += time;
            }
        }
        after();
    }
    let mean = |(name, time): (&'static str, Duration)| (name, time / runs.max(1) as u32);
    Ok(Timing { passes, stages: sums.into_iter().map(mean).collect() })
}
