//! What looking inside costs, in forward passes: `cargo run --release -p vitral-assets --bin explain_speed [MODEL]`.
//!
//! All measurements are interleaved, so that other load on the machine affects them equally; medians are printed.

use std::time::Instant;

use vitral::explain::figures::{Gathered, Statistics};
use vitral::explain::{InputImage, Method, Options, Target};
use vitral::image::RgbImage;
use vitral::{Device, LoadOptions, Model, Tensor};

const ROUNDS: usize = 15;
const METHODS: [Method; 6] =
    [Method::Attention, Method::Rollout, Method::GradCam, Method::Chefer, Method::GradientRollout, Method::Gradient];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::cpu(0);
    let model = match std::env::args().nth(1) {
        Some(path) => Model::load(path, &LoadOptions::default(), &device)?,
        None => Model::embedded(&device)?,
    };
    let noise = (0..480 * 640 * 3).map(|i| (vitral_engine::random::mix(i) % 256) as u8).collect();
    let image = InputImage::new(&model, "noise", &RgbImage::new(640, 480, noise)?)?;
    let direction = model.run(&image.pixels, None)?.features.to_vec().unwrap();
    let target = Target::Feature(direction);
    let options = Options::default();

    let mut times = vec![vec![]; METHODS.len() + 1];
    for _ in 0..ROUNDS {
        times[0].push(timed(|| model.run(&image.pixels, None).map(drop))?);
        for (times, method) in times[1..].iter_mut().zip(METHODS) {
            let explain = || {
                model
                    .explain(&image, method, Some(&target), &options, &mut |_| std::ops::ControlFlow::Continue(()))
                    .map(drop)
            };
            times.push(timed(explain)?);
        }
    }
    let forward = median(&mut times[0]);
    println!("{}, one image: forward {:.2} ms", model.name(), 1e3 * forward);
    for (times, method) in times[1..].iter_mut().zip(METHODS) {
        let time = median(times);
        println!("  {:18} {:7.2} ms  {:.2} forwards", method.name(), 1e3 * time, time / forward);
    }

    let batch = model.parameters().device().concatenate(&vec![image.pixels.clone(); 8]);
    let mut plain = Vec::new();
    let mut measured = Vec::new();
    for _ in 0..4 {
        plain.push(timed(|| sixteen(|| model.run(&batch, None).map(drop)))?);
        measured.push(timed(|| distances(&model, &batch))?);
    }
    let (plain, measured) = (median(&mut plain), median(&mut measured));
    println!("128 images: forward {plain:.2} s, distance {measured:.2} s, {:.2} forwards", measured / plain);
    Ok(())
}

fn sixteen(mut work: impl FnMut() -> Result<(), vitral::Error>) -> Result<(), vitral::Error> {
    (0..16).try_for_each(|_| work())
}

fn distances(model: &Model, batch: &Tensor) -> Result<(), vitral::Error> {
    let mut statistics = Statistics::new(model, None, Gathered { distance: true, ..Gathered::default() });
    sixteen(|| statistics.add(batch, None))
}

fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
