//! The cost of explanations compared with a forward pass. `VITRAL_BENCH_MODEL` is a model's folder; the built-in model
//! is too small for meaningful numbers.
//!
//!     VITRAL_BENCH_MODEL=dinov2-small cargo bench -p vitral --bench explain

use std::ops::ControlFlow;

use criterion::{Criterion, criterion_group, criterion_main};
use vitral::explain::figures::{Gathered, Statistics};
use vitral::explain::{Aim, InputImage, Method, Options};
use vitral::image::{Limits, decode};
use vitral::{Device, LoadOptions, Model};

/// Options with a change.
fn with(mut options: Options, change: impl FnOnce(&mut Options)) -> Options {
    change(&mut options);
    options
}

const CAT: &[u8] = include_bytes!("../../../docs/cat.jpg");

fn explain(criterion: &mut Criterion) {
    let device = Device::cpu(0);
    let model = match std::env::var_os("VITRAL_BENCH_MODEL") {
        Some(path) => Model::load(path, &LoadOptions::default(), &device),
        None => Model::embedded(&device),
    };
    let model = model.unwrap_or_else(|error| panic!("{error}"));
    let image = decode(CAT, &Limits::default()).expect("an image");
    let input = InputImage::new(&model, "cat", &image).expect("an image");
    let aim = if model.vit().config().classes > 0 { Aim::Predicted } else { Aim::Feature };
    let target = model.explained(&input, aim, 1).expect("an answer").target;

    let mut group = criterion.benchmark_group("one image");
    group.sample_size(20);
    group.bench_function("forward", |bencher| bencher.iter(|| model.run(&input.pixels, None)));
    let options = with(Options::default(), |o| {
        o.steps = 1;
        o.samples = 1
    });
    for method in [
        Method::Attention,
        Method::Rollout,
        Method::GradCam,
        Method::GradientRollout,
        Method::Chefer,
        Method::Gradient,
        Method::IntegratedGradients,
    ] {
        group.bench_function(method.name(), |bencher| {
            bencher
                .iter(|| model.explain(&input, method, target.as_ref(), &options, &mut |_| ControlFlow::Continue(())))
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("eight images");
    group.sample_size(10);
    let pixels = model.pixels(&vec![image; 8]).expect("pixels");
    group.bench_function("forward", |bencher| bencher.iter(|| model.run(&pixels, None)));
    group.bench_function("attention distance", |bencher| {
        let gathered = Gathered { distance: true, ..Gathered::default() };
        let mut statistics = Statistics::new(&model, None, gathered);
        bencher.iter(|| statistics.add(&pixels, None))
    });
    group.finish();
}

criterion_group!(benches, explain);
criterion_main!(benches);
