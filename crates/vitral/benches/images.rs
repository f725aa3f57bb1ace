//! Image decoding and preprocessing.
//!
//!     cargo bench -p vitral --bench images

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vitral::config::Size;
use vitral::image::{Filter, Limits, decode, resize};

const CAT: &[u8] = include_bytes!("../../../docs/cat.jpg");
const BASELINE: &[u8] = include_bytes!("../../../goldens/image/baseline.jpg");

fn images(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, bytes) in [("progressive JPEG", CAT), ("baseline JPEG", BASELINE)] {
        let image = decode(bytes, &Limits::default()).expect("an image");
        group.throughput(Throughput::Elements((image.width() * image.height()) as u64));
        group.bench_function(name, |bencher| bencher.iter(|| decode(bytes, &Limits::default())));
    }
    group.finish();

    let mut group = criterion.benchmark_group("resize");
    let image = decode(CAT, &Limits::default()).expect("an image");
    let size = Size { height: 168, width: 224 };
    group.throughput(Throughput::Elements((image.width() * image.height()) as u64));
    for (name, filter) in [("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic), ("lanczos", Filter::Lanczos)] {
        group.bench_function(name, |bencher| bencher.iter(|| resize(&image, size, filter)));
    }
    group.finish();
}

criterion_group!(benches, images);
criterion_main!(benches);
