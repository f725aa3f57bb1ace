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
#[cfg(target_arch = "x86_64")]
use super::tiles::{BLOCK_ROWS, Operand, RowsByPanel, ThreadTiles};
use super::words::Words;
use crate::device::backend::AttentionCall;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::math;
use crate::device::cpu::processor::Processor;

const NOTHING_AHEAD: Prefetch = Prefetch { from: std::ptr::null(), rows: 0 };
/// Most rows of scores that are made at a time.
const MOST_ROWS: usize = 32;

/// Memory that a thread uses again.
#[derive(Default)]
struct Scratch {
    rounded: Option<Buffer>,
    keys: Option<Buffer>,
    values: Option<Buffer>,
    scores: Option<Buffer>,
    weights: Option<Buffer>,
    product: Option<Buffer>,
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
            let mut by = Multiplier::of(isa);
            let at_once = by.rows_at_once();
            let rounded = grown(&mut scratch.rounded, tokens.max(at_once) * packed_stride);
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
            let scores = grown(&mut scratch.scores, at_once * stride);
            let weights_stride = spread(key_steps);
            let weights = grown(&mut scratch.weights, at_once * weights_stride);
            let product = grown(&mut scratch.product, at_once * isa.panel());
            let mut sums = [0.0f32; MOST_ROWS];
            let queries = asking * part / parts..asking * (part + 1) / parts;
            for first in queries.clone().step_by(at_once) {
                let at = At { image, head, query: first };
                let rows = at_once.min(queries.end - first);
                rows_of(0).pack(isa, first..first + rows, rounded, &mut scratch.row);
                let a = (&*rounded, packed_stride);
                for column in (0..stride).step_by(isa.panel()) {
                    let b = &keys[column * steps..][..isa.panel() * steps];
                    by.multiply(isa, (rows, steps), a, (b, tokens - column), (&mut scores[column..], stride));
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
                    isa.run_bf16(RoundRow(scores, &mut weights[row * weights_stride..][..weights_stride]));
                }
                let a = (&*weights, weights_stride);
                for (panel, b) in values.chunks_exact((isa.panel() * key_steps).max(1)).enumerate() {
                    let column = panel * isa.panel();
                    let columns = isa.panel().min(width - column);
                    by.multiply(isa, (rows, key_steps), a, (b, columns), (&mut *product, isa.panel()));
                    let products = product.chunks_exact_mut(isa.panel());
                    for (row, (product, sum)) in products.zip(&sums).enumerate().take(rows) {
                        let product = &mut product[..columns];
                        isa.run(ScaleRow(product, 1.0 / sum));
                        let start = ((image * asking + first + row) * heads + head) * width + column;
                        // SAFETY: one query's output of one head belongs to one task alone.
                        unsafe { out.part(start, columns) }.copy_from_slice(product);
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

/// What multiplies the rows of a task.
enum Multiplier {
    /// A kernel for each tile of rows.
    Kernels(Dot),
    /// AMX.
    #[cfg(target_arch = "x86_64")]
    Tiles(Box<ThreadTiles>),
}

impl Multiplier {
    /// The best for bfloat16.
    fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = ThreadTiles::configured(isa) {
            return Multiplier::Tiles(Box::new(tiles));
        }
        Multiplier::Kernels(Dot::of(isa, Words::Bf16))
    }

    /// Rows of scores to make at a time.
    fn rows_at_once(&self) -> usize {
        match self {
            Multiplier::Kernels(_) => QUERY_ROWS,
            #[cfg(target_arch = "x86_64")]
            Multiplier::Tiles(_) => BLOCK_ROWS,
        }
    }

    /// Products of so many packed rows with one panel, of which some columns are wanted, into rows with room for the whole
    /// panel. For AMX, there is memory for as many rows as are taken at once, in `A` and in the products.
    fn multiply(
        &mut self,
        isa: Isa,
        (rows, steps): (usize, usize),
        (a, a_stride): (&[f32], usize),
        (panel, columns): (&[f32], usize),
        (out, stride): (&mut [f32], usize),
    ) {
        let width = isa.panel();
        assert!(a.len() >= rows * a_stride && a_stride >= steps && panel.len() == width * steps);
        assert!(columns > 0 && stride >= width && out.len() >= (rows - 1) * stride + width);
        match self {
            Multiplier::Kernels(dot) => {
                let tiles = Tiles::new(isa.tile_rows(), rows);
                for tile in (0..tiles.count).map(|tile| tiles.rows(tile)) {
                    let to = out[tile.start * stride..].as_mut_ptr();
                    let a = ATile { data: a[tile.start * a_stride..].as_ptr(), row_stride: a_stride, step: 1 };
                    let Some(kernel) = dot.tile(tile.len()) else { unreachable!("bfloat16 has its instructions") };
                    // SAFETY: the instructions were detected; extents are asserted on entry.
                    unsafe { kernel(steps, a, panel.as_ptr(), to, stride, NOTHING_AHEAD) };
                }
            }
            #[cfg(target_arch = "x86_64")]
            Multiplier::Tiles(tiles) => {
                let a = Operand::padded(a, a_stride);
                let work = RowsByPanel { words: Words::Bf16, a, rows: 0..rows, panel, columns: columns.min(width) };
                tiles.multiply(&work, out, stride);
            }
        }
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

/// A row, rounded into words, with zeros after it: tiles of AMX take what is up to a whole tile of the depth.
struct RoundRow<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        self.1[self.0.len() / 2..].fill(0.0);
        round_row(l, self.0, &mut as_halves_mut(self.1)[..self.0.len()]);
    }
}
