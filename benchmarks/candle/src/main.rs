//! Times candle's ViT-B/16 with random weights, for comparison with `vitral bench --arch B/16`.
//!
//! ```text
//! RAYON_NUM_THREADS=2 RUSTFLAGS="-C target-cpu=native" cargo run --release --manifest-path benchmarks/candle/Cargo.toml
//! ```

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::vit::{Config, Model};

const RUNS: usize = 7;

fn main() -> Result<()> {
    let device = Device::Cpu;
    let weights = VarMap::new();
    let model = Model::new(&Config::vit_base_patch16_224(), 1000, VarBuilder::from_varmap(&weights, DType::F32, &device))?;
    for batch in [1usize, 8] {
        let pixels = Tensor::randn(0f32, 1f32, (batch, 3, 224, 224), &device)?;
        model.forward(&pixels)?;
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let start = Instant::now();
            model.forward(&pixels)?.sum_all()?.to_scalar::<f32>()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!("B/16, batch {batch}: median {:.1} ms of {RUNS} passes, least {:.1} ms", times[RUNS / 2], times[0]);
    }
    Ok(())
}
