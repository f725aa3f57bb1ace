//! Any configuration and any image size give a result or a clear error, never a panic.

mod draw;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use draw::Draw;
use vitral::Device;
use vitral::config::Size;
use vitral::model::init::{Initialization, frozen};
use vitral::model::{Input, Vit};
use vitral_engine::Context;

/// Builds a model from bytes and runs it on its own image size and on another. Returns whether it ran on the first.
fn built_and_run(bytes: &[u8], device: &Device) -> bool {
    let mut draw = Draw(bytes);
    let config = draw.config();
    let other = draw.size(40);
    let Ok(vit) = Vit::new(config) else { return false };
    let config = vit.config();
    let parameters = frozen(&vit, Initialization::Timm, 0, device);
    let run = |Size { height, width }: Size| {
        let shape = [2, config.channels, height, width];
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 7) as f32 / 7.0).collect();
        let pixels = device.upload(shape, &values).expect("memory");
        let context = Context::inference(&parameters);
        let output = vit.forward(&context, Input { pixels: &pixels, mask: None }).map_err(|error| error.to_string());
        output.map(|output| output.features.to_vec().expect("computed"))
    };
    let found = run(config.image_size).is_ok();
    let _ = run(other);
    let _ = vit.macs(config.image_size);
    found
}

/// Bytes that differ with the seed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u8
    };
    (0..96).map(|_| next()).collect()
}

#[test]
fn any_configuration_runs_or_is_refused() {
    let device = Device::cpu(1);
    let seconds = std::env::var("VITRAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let (begun, mut tried, mut ran, mut failed) = (Instant::now(), 0, 0, Vec::new());
    while begun.elapsed() < Duration::from_secs(seconds) {
        let bytes = noise(tried);
        let found = std::panic::catch_unwind(AssertUnwindSafe(|| built_and_run(&bytes, &device)));
        match found {
            Ok(found) => ran += u64::from(found),
            Err(_) => failed.push(format!("case {tried}: {:?}", Draw(&bytes).config())),
        }
        tried += 1;
        assert!(failed.len() < 20, "{}", failed.join("\n"));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    println!("{tried} configurations, of which {ran} ran");
    assert!(ran > 10, "only {ran} of {tried} ran");
}
