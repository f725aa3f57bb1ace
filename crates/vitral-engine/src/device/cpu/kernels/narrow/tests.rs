//! Products of words against their definition, for every way that the processor has to multiply them.

use half::bf16;

use super::super::attention::Problem;
use super::super::epilogue::GemmEpilogue;
use super::super::gemm::Gemm;
use super::super::isa::Isa;
use super::super::matrix_a::{MatrixA, NormOnLoad};
use super::super::matrix_b::MatrixB;
use super::super::pack::ReadyB;
use super::super::panel_kind::PanelKind;
use super::super::shared::DisjointMut;
use super::attention::attention;
use super::dot::Dot;
use super::pack::pack_words;
use super::product::WordProduct;
#[cfg(target_arch = "x86_64")]
use super::tiles::{Operand, RowsByPanel, ThreadTiles};
use super::words::{PackedWords, Words};
use crate::activation::Activation;
use crate::device::backend::AttentionCall;
use crate::device::cpu::Cpu;
use crate::device::cpu::processor::Processor;
use crate::int8::{quantized, row_scale};
use crate::random::normal;

const SHAPES: [(usize, usize, usize); 11] = [
    (1, 1, 1),
    (1, 100, 17),
    (3, 5, 7),
    (13, 31, 40),
    (16, 33, 512),
    (15, 33, 387),
    (29, 64, 800),
    (197, 70, 130),
    (45, 96, 2),
    (9, 64, 0),
    (230, 40, 3075),
];

fn noise(count: usize, seed: u64) -> Vec<f32> {
    (0..count).map(|i| normal(seed, i as u64)).collect()
}

/// Rows of `A` as a product sees them.
fn rounded_rows(words: Words, a: &[f32], depth: usize) -> Vec<f64> {
    match words {
        Words::Bf16 => a.iter().map(|&x| bf16::from_f32(x).to_f64()).collect(),
        Words::Int8 => a
            .chunks(depth.max(1))
            .flat_map(|row| {
                let (least, most) = row.iter().fold((0.0f32, 0.0f32), |(least, most), &x| (least.min(x), most.max(x)));
                let (units, unit) = (255.0 / (most - least), (most - least) / 255.0);
                let zero = (-least * units).round_ties_even();
                row.iter()
                    .map(|x| ((x * units).round_ties_even() + zero).clamp(0.0, 255.0) - zero)
                    .map(|q| f64::from(q) * f64::from(unit))
                    .collect::<Vec<_>>()
            })
            .collect(),
    }
}

/// A weight as a product sees it.
fn rounded_weight(words: Words, weight: &[f32], depth: usize) -> Vec<f32> {
    match words {
        Words::Bf16 => weight.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
        Words::Int8 => weight
            .chunks(depth.max(1))
            .flat_map(|row| {
                let scale = row_scale(row);
                row.iter().map(move |&x| f32::from(quantized(x, scale)) * scale).collect::<Vec<_>>()
            })
            .collect(),
    }
}

/// All that this processor has, and the twin of AMX.
fn sets() -> Vec<Isa> {
    let mut sets = Isa::available();
    #[cfg(target_arch = "x86_64")]
    sets.push(Isa::Twin);
    sets
}

/// Calls `check` for every instruction set, kind of words and way to multiply them.
fn each(mut check: impl FnMut(Isa, Words, Dot)) {
    for isa in sets() {
        for words in [Words::Bf16, Words::Int8] {
            Dot::available(isa, words).into_iter().for_each(|dot| check(isa, words, dot));
        }
    }
}

/// Leaves what is no number in this thread's scratch memory, where later products must not find it.
fn poison(isa: Isa, words: Words, dot: Dot) {
    let (rows, columns, depth) = (64, 33, 3200);
    let cpu = Processor::new(1, isa);
    let packed = pack_words(&cpu, &vec![1.0; depth * columns], (depth, columns), words);
    let a = vec![f32::NAN; rows * depth];
    let c = run(&product((rows, columns, depth), &a, &packed, GemmEpilogue::default()), dot, &cpu);
    assert!(c.iter().all(|x| x.is_nan()), "{dot:?}");
}

fn product<'a>(
    (rows, columns, depth): (usize, usize, usize),
    a: &'a [f32],
    packed: &'a PackedWords,
    epilogue: GemmEpilogue<'a>,
) -> WordProduct<'a> {
    WordProduct {
        rows,
        columns,
        depth,
        a: MatrixA::Rows { data: a, stride: depth },
        norm: None,
        panels: packed.panels(),
        epilogue,
        accumulate: false,
    }
}

fn run(gemm: &WordProduct<'_>, dot: Dot, cpu: &Processor) -> Vec<f32> {
    let mut c = vec![f32::NAN; gemm.rows * gemm.columns];
    if !c.is_empty() {
        gemm.run_by(dot, cpu, (DisjointMut::new(&mut c), 0, gemm.columns));
    }
    c
}

#[test]
fn products_are_those_of_rounded_operands_over_odd_shapes_and_any_threads() {
    each(|isa, words, dot| {
        for (rows, columns, depth) in SHAPES {
            poison(isa, words, dot);
            let (a, weight) = (noise(rows * depth, 1), noise(depth * columns, 2));
            let (a_seen, seen) = (rounded_rows(words, &a, depth), rounded_weight(words, &weight, depth));
            let mut first: Option<Vec<f32>> = None;
            for threads in [1, 2, 3] {
                let cpu = Processor::new(threads, isa);
                let packed = pack_words(&cpu, &weight, (depth, columns), words);
                assert_eq!(packed.to_rows(isa, depth, columns), seen, "{dot:?}: weights");
                let gemm = product((rows, columns, depth), &a, &packed, GemmEpilogue::default());
                let c = run(&gemm, dot, &cpu);
                for (i, found) in c.iter().enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let terms = (0..depth).map(|k| a_seen[row * depth + k] * f64::from(seen[column * depth + k]));
                    let expected: f64 = terms.sum();
                    let apart = (f64::from(*found) - expected).abs();
                    let bound = 2e-5 * (depth as f64).sqrt() + 1e-6;
                    assert!(apart <= bound, "{dot:?} {rows}×{columns}×{depth}: [{i}] is {found} for {expected}");
                }
                assert_eq!(*first.get_or_insert_with(|| c.clone()), c, "{threads} threads change the bits");
                // Rows by themselves have the same bits.
                let half = rows.div_ceil(2);
                let gemm = product((half, columns, depth), &a[..half * depth], &packed, GemmEpilogue::default());
                assert_eq!(run(&gemm, dot, &cpu), c[..half * columns], "fewer rows change the bits");
            }
        }
    });
}

#[test]
fn norms_epilogues_strides_and_columns_are_applied() {
    each(|isa, words, dot| {
        let cpu = Processor::new(2, isa);
        let (rows, columns, depth) = (31, 2 * isa.panel() + 5, 75);
        let (a, weight) = (noise(rows * depth, 1), noise(depth * columns, 2));
        let (bias, scale, residual) = (noise(columns, 3), noise(columns, 4), noise(rows * columns, 5));
        let (norm_weight, norm_bias) = (noise(depth, 6), noise(depth, 7));
        let packed = pack_words(&cpu, &weight, (depth, columns), words);
        let norm = NormOnLoad { weight: &norm_weight, bias: Some(&norm_bias), epsilon: 1e-5, rms: false };
        let epilogue = GemmEpilogue {
            bias: Some(&bias),
            activation: Some(Activation::Gelu),
            scale: Some(&scale),
            residual: Some(&residual),
        };
        let gemm = WordProduct { norm: Some(norm), ..product((rows, columns, depth), &a, &packed, epilogue) };
        let whole = run(&gemm, dot, &cpu);

        let normed: Vec<f32> = a
            .chunks(depth)
            .flat_map(|row| {
                let mean = row.iter().sum::<f32>() / depth as f32;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / depth as f32;
                let of = |(i, x): (usize, &f32)| (x - mean) / (variance + 1e-5).sqrt() * norm_weight[i] + norm_bias[i];
                row.iter().enumerate().map(of).collect::<Vec<_>>()
            })
            .collect();
        let plain = product((rows, columns, depth), &normed, &packed, GemmEpilogue::default());
        let sums = run(&plain, dot, &cpu);
        for (i, (found, sum)) in whole.iter().zip(&sums).enumerate() {
            let x = f64::from(sum + bias[i % columns]);
            let gelu = 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
            let expected = f64::from(residual[i]) + f64::from(scale[i % columns]) * gelu;
            // A value that is normalized a little differently may be rounded to the next number.
            let bound = if words == Words::Bf16 { 0.06 } else { 0.3 };
            assert!((f64::from(*found) - expected).abs() < bound, "{dot:?}: [{i}] is {found} for {expected}");
        }

        // Some columns, into rows further apart.
        let (first, gap) = (isa.panel(), 3);
        let of = first..columns;
        let epilogue = GemmEpilogue { bias: Some(&bias[of.clone()]), ..GemmEpilogue::default() };
        let panels = packed.panels().columns(isa, depth, of.clone());
        let gemm = WordProduct { panels, ..product((rows, of.len(), depth), &a, &packed, epilogue) };
        let mut c = vec![7.0; rows * (of.len() + gap)];
        gemm.run_by(dot, &cpu, (DisjointMut::new(&mut c), gap, of.len() + gap));
        let all =
            product((rows, columns, depth), &a, &packed, GemmEpilogue { bias: Some(&bias), ..Default::default() });
        let all = run(&all, dot, &cpu);
        for (row, (c, all)) in c.chunks(of.len() + gap).zip(all.chunks(columns)).enumerate() {
            assert_eq!(c[..gap], [7.0; 3], "{dot:?}: between rows, at {row}");
            assert_eq!(c[gap..], all[of.clone()], "{dot:?}: row {row}");
        }
    });
}

#[test]
fn every_way_to_multiply_bytes_gives_the_same_bits() {
    for isa in sets() {
        let cpu = Processor::new(1, isa);
        let (rows, columns, depth) = (20, 50, 1001);
        // The largest sums of pairs that there are.
        let (a, mut weight) = (vec![3.0; rows * depth], vec![1.0; depth * columns]);
        weight.iter_mut().skip(depth * 7).for_each(|x| *x = -1.0);
        let packed = pack_words(&cpu, &weight, (depth, columns), Words::Int8);
        let gemm = product((rows, columns, depth), &a, &packed, GemmEpilogue::default());
        let found: Vec<_> = Dot::available(isa, Words::Int8).into_iter().map(|dot| run(&gemm, dot, &cpu)).collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{}", isa.name());
        for (i, found) in found[0].iter().enumerate() {
            let expected = if i % columns < 7 { 3.0 * 1001.0 } else { -3.0 * 1001.0 };
            assert!((found - expected).abs() < 1e-3 * 3003.0, "{found} for {expected}");
        }
    }
}

#[test]
fn rows_of_nothing_are_nothing_and_what_is_not_a_number_stays_so() {
    each(|isa, words, dot| {
        let cpu = Processor::new(1, isa);
        let (columns, depth) = (isa.panel() + 1, 37);
        let mut a = noise(3 * depth, 1);
        a[..depth].fill(0.0);
        a[2 * depth + 5] = f32::NAN;
        let weight = noise(depth * columns, 2);
        let packed = pack_words(&cpu, &weight, (depth, columns), words);
        let gemm = product((3, columns, depth), &a, &packed, GemmEpilogue::default());
        let c = run(&gemm, dot, &cpu);
        assert!(c[..columns].iter().all(|&x| x == 0.0), "{dot:?}");
        assert!(c[columns..2 * columns].iter().all(|x| x.is_finite()), "{dot:?}");
        assert!(c[2 * columns..].iter().all(|x| x.is_nan()), "{dot:?}");
    });
}

#[test]
fn columns_are_multiplied_and_added() {
    for isa in sets().into_iter().filter(|isa| isa.multiplies_bf16()) {
        for (rows, columns, depth) in SHAPES {
            let (a, b) = (noise(rows * depth, 1), noise(depth * columns, 2));
            // `A` by columns and `B` by rows, as gradients of weights have them.
            let transposed = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
            };
            let a_columns = transposed(&a, rows, depth);
            let weight = transposed(&b, depth, columns);
            let mut first: Option<Vec<f32>> = None;
            for threads in [1, 2, 3] {
                let cpu = Processor::new(threads, isa);
                let packed = pack_words(&cpu, &weight, (depth, columns), Words::Bf16);
                let expected = product((rows, columns, depth), &a, &packed, GemmEpilogue::default());
                let expected = run(&expected, Dot::of(isa, Words::Bf16), &cpu);
                let ready =
                    ReadyB::of(&cpu, PanelKind::Bf16, MatrixB::Rows { data: &b, stride: columns }, depth, columns);
                let gemm = Gemm {
                    rows,
                    columns,
                    depth,
                    a: MatrixA::Columns { data: &a_columns, stride: rows },
                    norm: None,
                    panels: ready.panels(),
                    epilogue: GemmEpilogue::default(),
                    accumulate: true,
                };
                let before = noise(rows * columns, 3);
                let mut c = before.clone();
                gemm.run(&cpu, &mut c);
                let added: Vec<f32> = expected.iter().zip(&before).map(|(product, before)| product + before).collect();
                assert_eq!(c, added, "{rows}×{columns}×{depth}");
                assert_eq!(*first.get_or_insert_with(|| c.clone()), c, "{threads} threads change the bits");
            }
        }
    }
}

/// Attention of rounded queries, keys and values in double precision: the output and the weights.
fn plain_attention(call: &AttentionCall, values: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let &AttentionCall { batch, tokens, queries, heads, width, scale, .. } = call;
    let at = |image: usize, head: usize, which: usize, token: usize, i: usize| {
        bf16::from_f32(values[call.start(image, head, which) + token * call.stride() + i]).to_f64()
    };
    let mut out = vec![0.0; batch * queries * heads * width];
    let mut all = vec![];
    for (image, head) in (0..batch).flat_map(|image| (0..heads).map(move |head| (image, head))) {
        for query in 0..queries {
            let score = |key: usize| -> f64 {
                (0..width).map(|i| at(image, head, 0, query, i) * at(image, head, 1, key, i)).sum::<f64>()
                    * f64::from(scale)
            };
            let scores: Vec<f64> = (0..tokens).map(score).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |top, &x| top.max(x));
            let total: f64 = scores.iter().map(|x| (x - top).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|x| (x - top).exp() / total).collect();
            for i in 0..width {
                out[((image * queries + query) * heads + head) * width + i] =
                    weights.iter().enumerate().map(|(key, weight)| weight * at(image, head, 2, key, i)).sum();
            }
            all.extend(weights);
        }
    }
    (out, all)
}

/// Attention of `[batch, tokens, 3 · heads · width]` values: the output and the weights, and the call.
fn attended(
    cpu: &Cpu,
    values: &[f32],
    [batch, tokens, queries, heads, width]: [usize; 5],
) -> (AttentionCall, Vec<f32>, Vec<f32>) {
    let qkv = cpu.tensor([batch, tokens, 3 * heads * width], |out| out.copy_from_slice(values));
    let scale = 1.0 / (width as f32).sqrt();
    let (key_mask, bias, dropout, kept) = (None, None, None, None);
    let call = AttentionCall { qkv, key_mask, bias, batch, tokens, queries, heads, width, scale, dropout, kept };
    let mut out = vec![f32::NAN; batch * queries * heads * width];
    let mut weights = vec![f32::NAN; batch * heads * queries * tokens];
    attention(&cpu.processor, Problem::new(&call), &mut out, Some(&mut weights));
    (call, out, weights)
}

#[test]
fn attention_is_that_of_rounded_operands_over_odd_shapes_and_any_threads() {
    for isa in sets().into_iter().filter(|isa| isa.multiplies_bf16()) {
        for shape in
            [[1, 1, 1, 1, 8], [2, 37, 37, 2, 16], [1, 197, 197, 1, 64], [1, 70, 3, 2, 40], [1, 133, 133, 2, 27]]
        {
            let [batch, tokens, _, heads, width] = shape;
            let values = noise(batch * tokens * 3 * heads * width, 1);
            let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
            for threads in [1, 2, 3] {
                let cpu = Cpu::of(Processor::new(threads, isa));
                // What is no number is left in this thread's scratch memory, where nothing may find it.
                let nothing = vec![f32::NAN; 230 * 3 * width];
                assert!(attended(&cpu, &nothing, [1, 230, 230, 1, width]).1.iter().all(|x| x.is_nan()));
                let (call, out, weights) = attended(&cpu, &values, shape);
                let what = format!("{} {shape:?}", isa.name());
                let (expected, expected_weights) = plain_attention(&call, &values);
                for (found, expected) in weights.iter().zip(&expected_weights) {
                    assert!((f64::from(*found) - expected).abs() <= 1e-5, "{what}: weight {found} for {expected}");
                }
                for (found, expected) in out.iter().zip(&expected) {
                    // Weights are rounded to 8 bits before they meet the values.
                    assert!((f64::from(*found) - expected).abs() <= 1e-2, "{what}: {found} for {expected}");
                }
                let found = (out, weights);
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{what}: {threads} threads");
            }
        }
    }
}

/// The rest of a panel has zeros after it, whatever the panel before had there.
#[cfg(target_arch = "x86_64")]
#[test]
fn what_was_left_of_one_panel_is_not_in_the_next() {
    let mut tiles = ThreadTiles::configured(Isa::Twin).expect("it has tiles");
    let word = f32::from_bits(0x0101_0101);
    let (a, mut out) = (vec![word; 16 * 32], vec![0.0; 16 * 32]);
    for steps in [26, 19, 31, 16, 3] {
        let panel = vec![word; steps * 32];
        let a = Operand::padded(&a, 32);
        let work = RowsByPanel { words: Words::Int8, a, rows: 0..1, panel: &panel, columns: 32 };
        tiles.multiply(&work, &mut out, 32);
        assert!(out[..32].iter().all(|x| x.to_bits() == 4 * steps as u32), "{steps}");
    }
}
