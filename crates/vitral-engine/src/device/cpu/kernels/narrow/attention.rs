//! Self-attention with both products in bfloat16; scores, exponentials and their sums are in 32 bits.
//!
//! As in 32 bits, one task is some queries of one head of one image: keys and values are rounded and packed once, then a few
//! rows of scores at a time become weights and meet the values while they are in the cache. Weights are rounded as
//! exponentials, of which the greatest is 1, and divided by their sum after the product.

use std::cell::RefCell;

use super::super::attention::{At, Problem, QUERY_ROWS, ScaleRow};
use super::super::cache::{grown, spread};
use super::super::isa::Isa;
use super::super::lanes::{Kernel, Lanes};
use super::super::matrix_a::MatrixA;
use super::super::matrix_b::{MatrixB, pack_panel, packed_len};
use super::super::shared::{DisjointMut, as_halves_mut};
use super::super::tile::{ATile, Prefetch, Tiles};
use super::dot::Dot;
use super::operand_a::Rows;
use super::pair::{PairRows, round_row};
use super::product::TileSums;
use super::words::Words;
use crate::device::backend::AttentionCall;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::math;
use crate::device::cpu::processor::Processor;

const NOTHING_AHEAD: Prefetch = Prefetch { from: std::ptr::null(), rows: 0 };

/// Memory that a thread uses again.
#[derive(Default)]
struct Scratch {
    rounded: Option<Buffer>,
    keys: Option<Buffer>,
    values: Option<Buffer>,
    scores: Option<Buffer>,
    weights: Option<Buffer>,
    row: Vec<f32>,
    pair: Vec<u16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The output, `[batch, queries, heads · width]`, and the weights where they are wanted.
pub(crate) fn attention(cpu: &Processor, problem: Problem<'_>, out: &mut [f32], weights: Option<&mut [f32]>) {
    let &AttentionCall { batch, tokens, queries: asking, heads, width, .. } = problem.call;
    assert_eq!(out.len(), batch * asking * heads * width, "an output of another shape");
    let out = DisjointMut::new(out);
    let captured = weights.map(DisjointMut::new);
    let (isa, parts) = (cpu.isa(), problem.parts(cpu.threads()));
    let small = batch * heads * asking * tokens * width < 100_000;
    let (steps, key_steps) = (Words::Bf16.of(width), Words::Bf16.of(tokens));
    let work = |task: usize| {
        let (pair, part) = (task / parts, task % parts);
        let (image, head) = (pair / heads, pair % heads);
        let rows_of = |which: usize| Rows {
            words: Words::Bf16,
            depth: width,
            a: MatrixA::Rows { data: problem.part(image, head, which), stride: problem.call.stride() },
            norm: None,
        };
        let packed_stride = rows_of(0).stride();
        SCRATCH.with_borrow_mut(|scratch| {
            let rounded = grown(&mut scratch.rounded, tokens * packed_stride);
            rows_of(1).pack(isa, 0..tokens, rounded, &mut scratch.row);
            let keys = grown(&mut scratch.keys, packed_len(isa, steps, tokens));
            let columns = MatrixB::Columns { data: rounded, stride: packed_stride };
            for (panel, out) in keys.chunks_exact_mut((isa.panel() * steps).max(1)).enumerate() {
                pack_panel(isa, columns, steps, tokens, panel, out);
            }
            let values = grown(&mut scratch.values, packed_len(isa, key_steps, width));
            let (data, stride) = (problem.part(image, head, 2), problem.call.stride());
            scratch.pair.resize(2 * width, 0);
            isa.run_bf16(PairRows {
                data,
                stride,
                rows: tokens,
                width,
                panel: isa.panel(),
                pair: &mut scratch.pair,
                out: values,
            });

            let stride = tokens.next_multiple_of(isa.panel());
            let scores = grown(&mut scratch.scores, QUERY_ROWS * stride);
            let weights_stride = spread(key_steps);
            let weights = grown(&mut scratch.weights, QUERY_ROWS * weights_stride);
            let mut sums = [0.0f32; QUERY_ROWS];
            let mut product = TileSums([0.0; _]);
            let queries = asking * part / parts..asking * (part + 1) / parts;
            for first in queries.clone().step_by(QUERY_ROWS) {
                let at = At { image, head, query: first };
                let rows = QUERY_ROWS.min(queries.end - first);
                rows_of(0).pack(isa, first..first + rows, rounded, &mut scratch.row);
                let a = (&*rounded, packed_stride);
                for panel in 0..stride / isa.panel() {
                    let b = &keys[panel * isa.panel() * steps..][..isa.panel() * steps];
                    tiles(isa, rows, steps, a, b, |tile| {
                        (scores[tile.start * stride + panel * isa.panel()..].as_mut_ptr(), stride)
                    });
                }
                let scale = problem.adjust(isa, at, rows, (scores, stride));
                for (row, scores) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
                    let scores = &mut scores[..tokens];
                    sums[row] = isa.run_bf16(Exponentials(scores, scale));
                    if let Some(captured) = captured {
                        let start = ((image * heads + head) * asking + first + row) * tokens;
                        // SAFETY: a row of weights belongs to one query of one head, which is in one task alone.
                        let captured = unsafe { captured.part(start, tokens) };
                        captured.copy_from_slice(scores);
                        isa.run(ScaleRow(captured, 1.0 / sums[row]));
                    }
                    problem.drop_row(at, row, scores);
                    isa.run_bf16(RoundRow(scores, &mut weights[row * weights_stride..][..key_steps]));
                }
                let a = (&*weights, weights_stride);
                for (panel, b) in values.chunks_exact((isa.panel() * key_steps).max(1)).enumerate() {
                    let column = panel * isa.panel();
                    let columns = isa.panel().min(width - column);
                    for tile in each_tile(isa, rows) {
                        let sums_of = &sums[tile.clone()];
                        let own = (&a.0[tile.start * a.1..], a.1);
                        tiles(isa, tile.len(), key_steps, own, b, |_| (product.0.as_mut_ptr(), isa.panel()));
                        let products = product.0.chunks_exact_mut(isa.panel());
                        for ((row, product), sum) in tile.zip(products).zip(sums_of) {
                            let product = &mut product[..columns];
                            isa.run(ScaleRow(product, 1.0 / sum));
                            let start = ((image * asking + first + row) * heads + head) * width + column;
                            // SAFETY: one query's output of one head belongs to one task alone.
                            unsafe { out.part(start, columns) }.copy_from_slice(product);
                        }
                    }
                }
            }
        });
    };
    if small {
        (0..batch * heads * parts).for_each(work);
    } else {
        cpu.parallel(batch * heads * parts, work);
    }
}

fn each_tile(isa: Isa, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let tiles = Tiles::new(isa.tile_rows(), rows);
    (0..tiles.count).map(move |tile| tiles.rows(tile))
}

/// Products of packed rows with one panel; `out` gives where a tile goes and the distance of its rows.
fn tiles(
    isa: Isa,
    rows: usize,
    steps: usize,
    (a, a_stride): (&[f32], usize),
    b: &[f32],
    mut out: impl FnMut(&std::ops::Range<usize>) -> (*mut f32, usize),
) {
    let dot = Dot::of(isa, Words::Bf16);
    assert!(a.len() >= rows * a_stride && a_stride >= steps && b.len() == isa.panel() * steps);
    for tile in each_tile(isa, rows) {
        let (to, stride) = out(&tile);
        let a = ATile { data: a[tile.start * a_stride..].as_ptr(), row_stride: a_stride, step: 1 };
        let Some(kernel) = dot.tile(tile.len()) else { unreachable!("bfloat16 has its instructions") };
        // SAFETY: the instructions were detected; extents of `A` and `B` are asserted on entry, and callers give room for a
        // whole tile.
        unsafe { kernel(steps, a, b.as_ptr(), to, stride, NOTHING_AHEAD) };
    }
}

/// Exponentials of one scaled row and their sum.
struct Exponentials<'a>(&'a mut [f32], f32);

impl Kernel for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        math::exp_row(l, self.0, self.1)
    }
}

/// A row, rounded into words.
struct RoundRow<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        if let Some(last) = self.1.last_mut() {
            *last = 0.0;
        }
        round_row(l, self.0, &mut as_halves_mut(self.1)[..self.0.len()]);
    }
}
