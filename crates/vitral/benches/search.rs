//! Exact search: queries among 100,000 vectors of 384 numbers, one at a time and many together.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vitral::Device;
use vitral::search::Flat;

const ROWS: usize = 100_000;
const WIDTH: usize = 384;

fn queries(c: &mut Criterion) {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let vectors: Vec<f32> = (0..ROWS * WIDTH).map(|_| next()).collect();
    let flat = Flat::new(&vectors, WIDTH, &Device::cpu(0)).expect("memory");
    let mut group = c.benchmark_group("search");
    for count in [1usize, 64, 1024] {
        let some = &vectors[..count * WIDTH];
        group.throughput(Throughput::Elements(count as u64)).sample_size(20);
        group.bench_function(format!("{count} queries among {ROWS}"), |b| {
            b.iter(|| black_box(flat.nearest(some, 10).expect("computed")));
        });
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
