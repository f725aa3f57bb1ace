//! Products and elementary functions against plain references, on every instruction set present.

use super::matrix_b::pack_serial;
use super::*;
use crate::activation::Activation;
use crate::device::cpu::math;
use crate::device::cpu::processor::Processor;
use crate::dtype::DType;

/// Numbers in −1…1 from a seed.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn reference(rows: usize, columns: usize, depth: usize, a: &[f32], b: &[f32]) -> Vec<f64> {
    let mut c = vec![0.0; rows * columns];
    for i in 0..rows {
        for j in 0..columns {
            c[i * columns + j] = (0..depth).map(|k| f64::from(a[i * depth + k]) * f64::from(b[k * columns + j])).sum();
        }
    }
    c
}

fn transposed(rows: usize, columns: usize, a: &[f32]) -> Vec<f32> {
    let mut t = vec![0.0; a.len()];
    for i in 0..rows {
        for j in 0..columns {
            t[j * rows + i] = a[i * columns + j];
        }
    }
    t
}

fn close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(found) - expected).abs() <= tolerance, "{what}: element {i}: {found} for {expected}");
    }
}

#[test]
fn products_over_odd_shapes_and_layouts() {
    let shapes = [
        (1, 1, 1),
        (1, 1000, 17),
        (3, 5, 7),
        (13, 31, 40),
        (16, 33, 512),
        (15, 33, 385),
        (29, 64, 800),
        (197, 70, 129),
        (45, 96, 1),
        // Rows and columns a whole page apart, which are packed where others are read in place.
        (1024, 40, 9),
        (5, 1024, 9),
        (9, 64, 0),
    ];
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            let cpu = Processor::new(threads, isa);
            for &(rows, columns, depth) in &shapes {
                let a = noise(rows * depth, 1);
                let b = noise(depth * columns, 2);
                let expected = reference(rows, columns, depth, &a, &b);
                let a_t = transposed(rows, depth, &a);
                let b_t = transposed(depth, columns, &b);
                let all_a = [MatrixA::Rows { data: &a, stride: depth }, MatrixA::Columns { data: &a_t, stride: rows }];
                let all_b =
                    [MatrixB::Rows { data: &b, stride: columns }, MatrixB::Columns { data: &b_t, stride: depth }];
                let mut first: Option<Vec<f32>> = None;
                for a in all_a {
                    for b in all_b {
                        let packed = pack(&cpu, b, depth, columns, DType::F32);
                        let gemm = Gemm::new(rows, a, &packed);
                        let ready = ReadyB::new(&cpu, b, depth, columns);
                        let whole = columns % isa.panel() == 0 && columns % 1024 != 0;
                        let in_place = matches!(b, MatrixB::Rows { .. }) && whole;
                        assert!(!in_place || matches!(ready, ReadyB::InPlace(_)), "{columns} columns were packed");
                        let mut fresh = vec![f32::NAN; rows * columns];
                        Gemm { panels: ready.panels(), ..gemm }.run(&cpu, &mut fresh);
                        Gemm { panels: ready.panels(), accumulate: true, ..gemm }.run(&cpu, &mut fresh);
                        let mut kept = vec![f32::NAN; rows * columns];
                        gemm.run(&cpu, &mut kept);
                        Gemm { accumulate: true, ..gemm }.run(&cpu, &mut kept);
                        assert_eq!(fresh, kept, "what is kept packed has other bits");
                        let mut c = vec![f32::NAN; rows * columns];
                        gemm.run(&cpu, &mut c);
                        close(&c, &expected, 1e-5 * (depth as f64).sqrt() + 1e-6, isa.name());
                        match &first {
                            Some(first) => assert_eq!(first, &c, "the layout changed the bits"),
                            None => first = Some(c.clone()),
                        }
                        Gemm { accumulate: true, ..gemm }.run(&cpu, &mut c);
                        let twice: Vec<f64> = expected.iter().map(|x| 2.0 * x).collect();
                        close(&c, &twice, 4e-5 * (depth as f64).sqrt() + 1e-6, "accumulated");
                    }
                }
            }
        }
    }
}

#[test]
fn columns_of_a_product_go_where_they_belong_and_begin_with_the_bias() {
    for isa in Isa::available() {
        let cpu = Processor::new(2, isa);
        let panel = isa.panel();
        let (rows, columns, gap) = (37, 3 * panel + 5, 7);
        for depth in [0, 1, 500] {
            let (a, b, bias) = (noise(rows * depth, 3), noise(depth * columns, 4), noise(columns, 5));
            let matrix = MatrixB::Rows { data: &b, stride: columns };
            for dtype in [DType::F32, DType::Bf16, DType::F16] {
                let packed = pack(&cpu, matrix, depth, columns, dtype);
                let whole = Gemm::new(rows, MatrixA::Rows { data: &a, stride: depth }, &packed);
                let whole = Gemm { epilogue: GemmEpilogue { bias: Some(&bias), ..GemmEpilogue::default() }, ..whole };
                let mut expected = vec![f32::NAN; rows * columns];
                whole.run(&cpu, &mut expected);
                if depth == 0 {
                    assert!(expected.chunks_exact(columns).all(|row| row == bias), "an empty sum is the bias");
                }
                for range in [0..columns, panel..2 * panel, 2 * panel..columns] {
                    let part = Gemm {
                        columns: range.len(),
                        panels: whole.panels.columns(isa, depth, range.clone()),
                        epilogue: GemmEpilogue { bias: Some(&bias[range.clone()]), ..GemmEpilogue::default() },
                        ..whole
                    };
                    let stride = range.len() + gap;
                    let mut c = vec![7.0; rows * stride];
                    part.run_strided(&cpu, &mut c, stride);
                    for (c, expected) in c.chunks_exact(stride).zip(expected.chunks_exact(columns)) {
                        assert_eq!(c[..range.len()], expected[range.clone()]);
                        assert_eq!(c[range.len()..], [7.0; 7], "the memory between is unchanged");
                    }
                }
            }
        }
    }
}

#[test]
fn a_part_of_the_rows_gives_the_same_bits() {
    for isa in Isa::available() {
        let cpu = Processor::new(2, isa);
        let (rows, columns, depth) = (97, 131, 900);
        let a = noise(rows * depth, 3);
        let b = noise(depth * columns, 4);
        let packed = pack(&cpu, MatrixB::Rows { data: &b, stride: columns }, depth, columns, DType::F32);
        let product = |cpu: &Processor, a: &[f32]| {
            let mut c = vec![0.0; a.len() / depth * columns];
            Gemm::new(a.len() / depth, MatrixA::Rows { data: a, stride: depth }, &packed).run(cpu, &mut c);
            c
        };
        let whole = product(&cpu, &a);
        let one = Processor::new(1, isa);
        for (row, a) in a.chunks(depth).enumerate() {
            assert_eq!(product(&one, a), whole[row * columns..][..columns], "row {row} on {}", isa.name());
        }
    }
}

#[test]
fn norm_and_epilogue_are_fused_correctly() {
    for isa in Isa::available() {
        let cpu = Processor::new(2, isa);
        let (rows, columns, depth) = (31, 45, 777);
        let a = noise(rows * depth, 5);
        let b = noise(depth * columns, 6);
        let [gain, shift] = [noise(depth, 7), noise(depth, 8)];
        let [bias, scale] = [noise(columns, 9), noise(columns, 10)];
        let residual = noise(rows * columns, 11);
        let mut normed = Vec::new();
        for row in a.chunks(depth) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / depth as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / depth as f64;
            normed.extend(row.iter().zip(gain.iter().zip(&shift)).map(|(&x, (&g, &s))| {
                ((f64::from(x) - mean) / (variance + 1e-6).sqrt() * f64::from(g) + f64::from(s)) as f32
            }));
        }
        let mut expected = reference(rows, columns, depth, &normed, &b);
        for (i, value) in expected.iter_mut().enumerate() {
            let j = i % columns;
            let x = *value + f64::from(bias[j]);
            *value = f64::from(residual[i]) + f64::from(scale[j]) * x.max(0.0);
        }
        let packed = pack(&cpu, MatrixB::Rows { data: &b, stride: columns }, depth, columns, DType::F32);
        let gemm = Gemm {
            norm: Some(NormOnLoad { weight: &gain, bias: Some(&shift), epsilon: 1e-6, rms: false }),
            epilogue: GemmEpilogue {
                bias: Some(&bias),
                activation: Some(Activation::Relu),
                scale: Some(&scale),
                residual: Some(&residual),
            },
            ..Gemm::new(rows, MatrixA::Rows { data: &a, stride: depth }, &packed)
        };
        let mut c = vec![0.0; rows * columns];
        gemm.run(&cpu, &mut c);
        close(&c, &expected, 1e-3, isa.name());
    }
}

/// Applies a function of one vector over a slice.
struct Map<'a, F> {
    x: &'a mut [f32],
    f: F,
}

/// A function that exists for every instruction set.
trait Function: Copy {
    fn apply<L: Lanes>(self, l: L, x: L::V) -> L::V;
}

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for x in self.x.chunks_mut(L::N) {
            let y = self.f.apply(l, l.load_part(x));
            l.store_part(x, y);
        }
    }
}

macro_rules! function {
    ($name:ident: $path:path) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn apply<L: Lanes>(self, l: L, x: L::V) -> L::V {
                $path(l, x)
            }
        }
    };
}
function!(Exp: math::exp);
function!(Tanh: math::tanh);
function!(Sigmoid: math::sigmoid);
function!(NormalCdf: math::normal_cdf);

fn ulps(found: f32, expected: f64) -> f64 {
    let nearest = expected as f32;
    let ulp = f64::from(f32::from_bits(nearest.abs().max(f32::MIN_POSITIVE).to_bits() + 1))
        - f64::from(nearest.abs().max(f32::MIN_POSITIVE));
    (f64::from(found) - expected).abs() / ulp
}

fn largest_error(f: impl Function, isa: Isa, from: f32, to: f32, exact: impl Fn(f64) -> f64) -> f64 {
    let count = 200_001;
    let x: Vec<f32> = (0..count).map(|i| from + (to - from) * i as f32 / (count - 1) as f32).collect();
    let mut y = x.clone();
    isa.run(Map { x: &mut y, f });
    x.iter()
        .zip(&y)
        .map(|(&x, &y)| ulps(y, exact(f64::from(x))))
        .fold(0.0, |worst: f64, error| if error <= worst { worst } else { error })
}

/// Φ by its series, or the continued fraction of the tail.
fn exact_normal_cdf(x: f64) -> f64 {
    let t = x.abs();
    let density = (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if t < 3.0 {
        let (mut term, mut sum) = (t, t);
        for n in 1..200 {
            term *= t * t / (2 * n + 1) as f64;
            sum += term;
        }
        0.5 - density * sum
    } else {
        let mut fraction = t;
        for n in (1..200).rev() {
            fraction = t + f64::from(n) / fraction;
        }
        density / fraction
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[test]
fn elementary_functions_keep_their_bounds() {
    for isa in Isa::available() {
        let exp = largest_error(Exp, isa, -87.3, 88.7, f64::exp);
        let tanh = largest_error(Tanh, isa, -12.0, 12.0, f64::tanh);
        let sigmoid = largest_error(Sigmoid, isa, -40.0, 40.0, |x| 1.0 / (1.0 + (-x).exp()));
        let bound = if isa == Isa::Portable { 2.0 } else { 1.0 };
        assert!(exp <= 2.0 * bound && tanh <= 4.0 * bound && sigmoid <= 4.0 * bound, "{exp} {tanh} {sigmoid} ulp");
        let x: Vec<f32> = (-8000..8000).map(|i| i as f32 * 1e-3).collect();
        let mut y = x.clone();
        isa.run(Map { x: &mut y, f: NormalCdf });
        for (&x, &y) in x.iter().zip(&y) {
            let exact = exact_normal_cdf(f64::from(x));
            assert!((f64::from(y) - exact).abs() <= 1.2e-7, "Φ({x}) = {y}, not {exact}, on {}", isa.name());
        }
        let mut edges = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -88.0, 88.72, 89.0, -1e30, 0.0];
        isa.run(Map { x: &mut edges, f: Exp });
        assert!(edges[0].is_nan() && edges[1] == 0.0 && edges[2] == f32::INFINITY && edges[3] < 1e-38);
        assert!(edges[4].is_finite() && edges[5] == f32::INFINITY && edges[6] == 0.0 && edges[7] == 1.0);
    }
}

#[test]
fn packed_lengths_round_up_to_panels() {
    for isa in Isa::available() {
        let mut panels = vec![f32::NAN; packed_len(isa, 2, 3)];
        pack_serial(isa, MatrixB::Rows { data: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], stride: 3 }, 2, 3, &mut panels);
        assert_eq!(panels[..3], [1.0, 2.0, 3.0]);
        assert_eq!(panels[isa.panel()..isa.panel() + 3], [4.0, 5.0, 6.0]);
        assert_eq!(panels.iter().sum::<f32>(), 21.0, "padding is zero");
    }
}

#[test]
fn narrow_storage_is_the_product_with_rounded_weights() {
    for isa in Isa::available() {
        let cpu = Processor::new(2, isa);
        let (rows, columns, depth) = (17, 70, 401);
        let a = noise(rows * depth, 1);
        let b = noise(depth * columns, 2);
        fn columns_of(data: &[f32], stride: usize) -> MatrixB<'_> {
            MatrixB::Columns { data, stride }
        }
        let product = |packed: &PackedB| {
            let mut c = vec![0.0; rows * columns];
            Gemm::new(rows, MatrixA::Rows { data: &a, stride: depth }, packed).run(&cpu, &mut c);
            c
        };
        for (dtype, round) in [
            (DType::Bf16, (|x| half::bf16::from_f32(x).to_f32()) as fn(f32) -> f32),
            (DType::F16, |x| half::f16::from_f32(x).to_f32()),
        ] {
            let narrow = pack(&cpu, columns_of(&b, depth), depth, columns, dtype);
            let rounded: Vec<f32> = b.iter().map(|&x| round(x)).collect();
            let expected = product(&pack(&cpu, columns_of(&rounded, depth), depth, columns, DType::F32));
            assert_eq!(product(&narrow), expected, "{dtype:?} on {}", isa.name());
            assert_eq!(narrow.to_rows(isa), rounded);
            assert_eq!(2 * narrow.bytes(), pack(&cpu, columns_of(&b, depth), depth, columns, DType::F32).bytes());
        }
    }
}
