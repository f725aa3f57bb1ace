//! Single operations at the sizes of ViT-B/16, eight images of 224 × 224.
//!
//!     cargo bench -p vitral-engine --bench operations

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vitral_engine::ops::{Attention, Convolution, Linear, Norm, NormKind, Padding};
use vitral_engine::{Activation, Context, DType, Declarations, Device, ParameterId, ParameterKind, Parameters, Tensor};

const BATCH: usize = 8;
const TOKENS: usize = 197;
const WIDTH: usize = 768;
const HEADS: usize = 12;

/// Numbers between −1 and 1.
fn noise(count: usize) -> Vec<f32> {
    (0..count as u32).map(|at| at.wrapping_mul(0x9E37_79B9) as i32 as f32 / i32::MAX as f32).collect()
}

struct Bench {
    device: Device,
    parameters: Parameters,
    linears: Vec<(&'static str, usize, Linear)>,
    norm: Norm,
    convolution: Convolution,
}

impl Bench {
    fn new() -> Self {
        let mut declarations = Declarations::default();
        let mut declare = |name: String, shape: &[usize], kind| declarations.declare(name, shape, kind);
        let mut linear = |name: &'static str, inner: usize, outer: usize| {
            let weight = declare(format!("{name}.weight"), &[outer, inner], ParameterKind::Matrix);
            let bias = declare(format!("{name}.bias"), &[outer], ParameterKind::Plain);
            (name, inner, Linear { weight, bias: Some(bias) })
        };
        let linears = vec![
            linear("qkv", WIDTH, 3 * WIDTH),
            linear("projection", WIDTH, WIDTH),
            linear("mlp in", WIDTH, 4 * WIDTH),
            linear("mlp out", 4 * WIDTH, WIDTH),
        ];
        let weight = declarations.declare("norm.weight", &[WIDTH], ParameterKind::Plain);
        let bias = Some(declarations.declare("norm.bias", &[WIDTH], ParameterKind::Plain));
        let norm = Norm { weight, bias, epsilon: 1e-6, kind: NormKind::Layer };
        let weight: ParameterId = declarations.declare("convolution.weight", &[64, 64, 3, 3], ParameterKind::Plain);
        let padding = Padding::Explicit(1);
        let convolution = Convolution { weight, bias: None, stride: 1, padding, standardize: None };
        let device = Device::cpu(0);
        let read = |spec: &vitral_engine::ParameterSpec| Ok::<_, std::convert::Infallible>(noise(spec.count()).into());
        let Ok(parameters) = Parameters::prepared(declarations, device.clone(), DType::F32, read);
        Bench { device, parameters, linears, norm, convolution }
    }

    fn tensor<const AXES: usize>(&self, shape: [usize; AXES]) -> Tensor {
        self.device.constant(shape, &noise(shape.iter().product()))
    }
}

fn operations(criterion: &mut Criterion) {
    let bench = Bench::new();
    let context = Context::inference(&bench.parameters);
    let tokens = bench.tensor([BATCH, TOKENS, WIDTH]);

    let mut group = criterion.benchmark_group("linear");
    for (name, inner, linear) in &bench.linears {
        let x = bench.tensor([BATCH, TOKENS, *inner]);
        let outer = bench.parameters.declarations().spec(linear.weight).shape[0];
        group.throughput(Throughput::Elements((BATCH * TOKENS * inner * outer) as u64));
        group.bench_function(*name, |bencher| bencher.iter(|| context.linear(&x, *linear)));
    }
    group.finish();

    let mut group = criterion.benchmark_group("attention");
    let qkv = bench.tensor([BATCH, TOKENS, 3 * WIDTH]);
    let call = |capture| Attention {
        heads: HEADS,
        scale: 0.125,
        key_mask: None,
        bias: None,
        dropout: 0.0,
        queries: None,
        capture,
    };
    group.throughput(Throughput::Elements((2 * BATCH * TOKENS * TOKENS * WIDTH) as u64));
    group.bench_function("alone", |bencher| bencher.iter(|| context.attention(&qkv, call(false))));
    group.bench_function("with its weights", |bencher| bencher.iter(|| context.attention(&qkv, call(true))));
    group.finish();

    let mut group = criterion.benchmark_group("elements");
    group.throughput(Throughput::Elements((BATCH * TOKENS * WIDTH) as u64));
    group.bench_function("layer norm", |bencher| bencher.iter(|| context.norm(&tokens, &bench.norm)));
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        let name = format!("{activation:?}");
        group.bench_function(name, |bencher| bencher.iter(|| context.activation(&tokens, activation)));
    }
    group.bench_function("softmax", |bencher| bencher.iter(|| context.softmax(&tokens)));
    group.finish();

    let mut group = criterion.benchmark_group("convolution");
    let map = bench.tensor([BATCH, 64, 56, 56]);
    group.throughput(Throughput::Elements((BATCH * 64 * 64 * 9 * 56 * 56) as u64));
    group.bench_function("3 × 3", |bencher| bencher.iter(|| context.convolution(&map, &bench.convolution)));
    group.finish();
}

criterion_group!(benches, operations);
criterion_main!(benches);
