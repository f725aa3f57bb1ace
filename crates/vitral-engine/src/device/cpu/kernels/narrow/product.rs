//! The product: which rows and panels a task takes, and tiles over them.

use std::cell::RefCell;
use std::ops::Range;

use super::super::cache::grown;
use super::super::epilogue::GemmEpilogue;
use super::super::isa::Isa;
use super::super::matrix_a::{MatrixA, NormOnLoad};
use super::super::shared::{DisjointMut, as_bytes, as_integers_mut};
use super::super::tile::{ATile, BTile, Init, MAX_PANEL, MAX_TILE_ROWS, Prefetch, PrefetchShares, Tiles};
use super::dot::Dot;
use super::finish::{Finish, Int8Tile};
use super::operand_a::Rows;
#[cfg(target_arch = "x86_64")]
use super::tiles::Part;
use super::words::{Int8Panels, WordPanels, Words};
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::processor::{Processor, SERIAL_WORK};

/// Words of `A` that a task keeps in the L2 cache, with room for two panels of `B`.
const A_IN_CACHE: usize = 152 * 1024;
/// Steps of the depth over which sums of products of bytes are exact in 32-bit floats.
const EXACT_STEPS: usize = 384;

/// Memory that a thread uses again.
#[derive(Default)]
struct Scratch {
    a: Option<Buffer>,
    row: Vec<f32>,
    floats: Option<Buffer>,
    panel: Option<Buffer>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A tile of sums, on cache lines.
#[repr(align(64))]
struct TileSums([f32; MAX_TILE_ROWS * MAX_PANEL]);

/// Where the product goes: memory, its beginning, its row stride.
type Place<'a> = (DisjointMut<'a>, usize, usize);

/// Operations of chains that multiply such words and do nothing else, as a measure of what is possible; `None` where the
/// instruction set does not multiply them by itself.
pub(crate) fn chains(isa: Isa, words: Words, steps: usize) -> Option<f64> {
    Dot::available(isa, words).first()?.chains(isa, steps)
}

/// A product whose `B` is in words: `C = epilogue(norm(A) · B)`.
#[derive(Clone, Copy)]
pub(in super::super) struct WordProduct<'a> {
    pub(in super::super) rows: usize,
    pub(in super::super) columns: usize,
    pub(in super::super) depth: usize,
    pub(in super::super) a: MatrixA<'a>,
    pub(in super::super) norm: Option<NormOnLoad<'a>>,
    pub(in super::super) panels: WordPanels<'a>,
    pub(in super::super) epilogue: GemmEpilogue<'a>,
    /// Adds to what `C` holds.
    pub(in super::super) accumulate: bool,
}

impl WordProduct<'_> {
    /// Computes `C` on all threads of a processor. Extents were checked.
    pub(in super::super) fn run(&self, cpu: &Processor, c: Place<'_>) {
        self.run_by(Dot::of(cpu.isa(), self.panels.words), cpu, c);
    }

    /// As [`WordProduct::run`], by these instructions.
    pub(super) fn run_by(&self, dot: Dot, cpu: &Processor, c: Place<'_>) {
        run_by(self, dot, cpu, c);
    }
}

fn run_by(gemm: &WordProduct<'_>, dot: Dot, cpu: &Processor, c: Place<'_>) {
    let panels = gemm.panels;
    let isa = cpu.isa();
    let columns = matches!(gemm.a, MatrixA::Columns { .. });
    assert!(!columns || gemm.panels.words == Words::Bf16, "tokens of bytes that are not together");
    let rows = Rows { words: panels.words, depth: gemm.depth, a: gemm.a, norm: gemm.norm };
    let product = Product { gemm, panels, dot, isa, c, stride: rows.stride() };
    let at_once = (A_IN_CACHE / rows.stride().max(1)).max(isa.tile_rows());
    // Columns are packed by the task that multiplies them.
    let chunks = gemm.rows.div_ceil(at_once).max(if columns { cpu.threads().min(gemm.rows) } else { 1 });
    let all_panels = gemm.columns.div_ceil(isa.panel());
    let threads = match gemm.rows * gemm.columns * gemm.depth < SERIAL_WORK {
        true => 1,
        false => cpu.threads(),
    };
    let rows_of = |chunk: usize| gemm.rows * chunk / chunks..gemm.rows * (chunk + 1) / chunks;
    if threads == 1 || columns || chunks >= 2 * threads {
        cpu.parallel(chunks, |chunk| {
            SCRATCH.with_borrow_mut(|scratch| {
                let taken = rows_of(chunk);
                let a = grown(&mut scratch.a, taken.len() * product.stride);
                rows.pack(isa, taken.clone(), a, &mut scratch.row);
                product.part(a, taken, 0..all_panels, (&mut scratch.floats, &mut scratch.panel));
            });
        });
        return;
    }
    // Too few rows for all threads: they pack them together, and each takes some columns.
    let packed = cpu.filled(gemm.rows * product.stride, |out| {
        cpu.parallel_rows(out, product.stride, 8, |first, out| {
            SCRATCH.with_borrow_mut(|scratch| {
                rows.pack(isa, first..first + out.len() / product.stride, out, &mut scratch.row);
            });
        });
    });
    let parts = (2 * threads).div_ceil(chunks).min(all_panels.div_ceil(2)).max(1);
    cpu.parallel(chunks * parts, |task| {
        let (taken, part) = (rows_of(task / parts), task % parts);
        let panels = all_panels * part / parts..all_panels * (part + 1) / parts;
        let a = &packed.as_slice()[taken.start * product.stride..taken.end * product.stride];
        SCRATCH.with_borrow_mut(|scratch| {
            product.part(a, taken, panels, (&mut scratch.floats, &mut scratch.panel));
        });
    });
}

struct Product<'a> {
    gemm: &'a WordProduct<'a>,
    panels: WordPanels<'a>,
    dot: Dot,
    isa: Isa,
    c: Place<'a>,
    /// Distance of packed rows.
    stride: usize,
}

impl Product<'_> {
    /// Packed rows and some panels.
    fn part(
        &self,
        a: &[f32],
        rows: Range<usize>,
        panels: Range<usize>,
        (floats, widened): (&mut Option<Buffer>, &mut Option<Buffer>),
    ) {
        #[cfg(target_arch = "x86_64")]
        if matches!(self.dot, Dot::Bf16Amx | Dot::Int8Amx) {
            return self.part_by_tiles(a, rows, panels, floats);
        }
        let (gemm, isa) = (self.gemm, self.isa);
        let (width, steps) = (isa.panel(), self.panels.words.of(gemm.depth));
        let tiles = Tiles::new(isa.tile_rows(), rows.len());
        let shares = PrefetchShares::new(steps, tiles.count);
        let columns_of_a = matches!(gemm.a, MatrixA::Columns { .. });
        // Packed rows in another form, which all panels share.
        let formed = match self.dot {
            Dot::Int8Float => Some(self.as_floats(a, rows.len(), floats)),
            #[cfg(target_arch = "x86_64")]
            Dot::Int8Pairs => Some(self.as_pairs(a, rows.len(), floats)),
            #[cfg(target_arch = "x86_64")]
            _ => None,
        };
        let mut sums = TileSums([0.0; MAX_TILE_ROWS * MAX_PANEL]);
        for panel in panels.clone() {
            let b = |panel: usize| self.panels.data[panel * steps * width..].as_ptr();
            let next = (panel + 1 < panels.end).then(|| b(panel + 1));
            let own_words = &self.panels.data[panel * steps * width..][..steps * width];
            let multiplied = match self.dot {
                Dot::Int8Float => {
                    self.widen(own_words, widened);
                    std::ptr::null()
                }
                #[cfg(target_arch = "x86_64")]
                Dot::Int8Pairs => {
                    let pairs = grown(widened, 2 * own_words.len());
                    // SAFETY: the instructions were detected.
                    unsafe { super::x86::panel_pairs(own_words, pairs) };
                    pairs.as_ptr()
                }
                #[cfg(target_arch = "x86_64")]
                _ => own_words.as_ptr(),
            };
            for t in 0..tiles.count {
                let tile = tiles.rows(t);
                let own =
                    if columns_of_a { &a[tile.start..] } else { &a[tile.start * self.stride..tile.end * self.stride] };
                match (self.dot.tile(tile.len()), formed) {
                    (Some(kernel), formed) => {
                        let a = match formed {
                            Some(pairs) => {
                                ATile { data: pairs[tile.start * 2 * steps..].as_ptr(), row_stride: 2 * steps, step: 1 }
                            }
                            None if columns_of_a => ATile { data: own.as_ptr(), row_stride: 1, step: rows.len() },
                            None => ATile { data: own.as_ptr(), row_stride: self.stride, step: 1 },
                        };
                        let prefetch = shares.of(t, next, width);
                        // SAFETY: the instructions were detected; rows and panel have `steps` words, or `2 · steps` words of
                        // pairs, columns are packed step by step, the panels' length was checked on entry, and the sums have
                        // room for the largest tile.
                        unsafe { kernel(steps, a, multiplied, sums.0.as_mut_ptr(), width, prefetch) };
                    }
                    (None, Some(floats)) => {
                        let rows = &floats[tile.start * 4 * steps..tile.end * 4 * steps];
                        self.exact(rows, tile.len(), widened.as_ref(), &mut sums);
                    }
                    (None, None) => unreachable!("bytes are multiplied as floats"),
                }
                self.finish(own, &sums.0[..tile.len() * width], rows.start + tile.start..rows.start + tile.end, panel);
            }
        }
    }

    /// As [`Product::part`], by AMX.
    #[cfg(target_arch = "x86_64")]
    fn part_by_tiles(&self, a: &[f32], rows: Range<usize>, panels: Range<usize>, room: &mut Option<Buffer>) {
        let by_rows = matches!(self.gemm.a, MatrixA::Rows { .. });
        let part = Part {
            isa: self.isa,
            words: self.panels.words,
            a,
            stride: by_rows.then_some(self.stride),
            rows: rows.len(),
            panels: self.panels.data,
            steps: self.panels.words.of(self.gemm.depth),
            columns: self.gemm.columns,
            wanted: panels,
        };
        part.run(room, |tile, panel, sums| {
            let own = if by_rows { &a[tile.start * self.stride..tile.end * self.stride] } else { a };
            self.finish(own, sums, rows.start + tile.start..rows.start + tile.end, panel);
        });
    }

    /// What is done to the sums of some rows and a panel; `own` are the rows, as they were packed.
    fn finish(&self, own: &[f32], sums: &[f32], rows: Range<usize>, panel: usize) {
        let (gemm, width) = (self.gemm, self.isa.panel());
        let first = panel * width;
        let int8 = (self.panels.words == Words::Int8).then(|| Int8Tile {
            tokens: &own[self.panels.words.of(gemm.depth)..],
            stride: self.stride,
            panel: Int8Panels {
                scales: &self.panels.int8.scales[first..first + width],
                sums: &self.panels.int8.sums[first..first + width],
            },
        });
        self.isa.run(Finish {
            sums,
            width,
            int8,
            epilogue: gemm.epilogue,
            accumulate: gemm.accumulate,
            c: self.c,
            total: gemm.columns,
            rows,
            columns: first..gemm.columns.min(first + width),
        });
    }

    /// Packed bytes as pairs of 16-bit integers, rows `2 · steps` apart.
    #[cfg(target_arch = "x86_64")]
    fn as_pairs<'s>(&self, a: &[f32], rows: usize, pairs: &'s mut Option<Buffer>) -> &'s [f32] {
        let steps = self.panels.words.of(self.gemm.depth);
        let pairs = grown(pairs, rows * 2 * steps);
        for (row, pairs) in a.chunks_exact(self.stride).zip(pairs.chunks_exact_mut((2 * steps).max(1))) {
            for (word, pair) in row[..steps].iter().zip(pairs.as_chunks_mut().0) {
                *pair = super::x86::byte_pairs(word.to_bits()).map(f32::from_bits);
            }
        }
        pairs
    }

    /// Packed bytes as floats, rows `4 · steps` apart.
    fn as_floats<'s>(&self, a: &[f32], rows: usize, floats: &'s mut Option<Buffer>) -> &'s [f32] {
        let steps = self.panels.words.of(self.gemm.depth);
        let floats = grown(floats, rows * 4 * steps);
        for (row, floats) in a.chunks_exact(self.stride).zip(floats.chunks_exact_mut((4 * steps).max(1))) {
            floats.iter_mut().zip(as_bytes(&row[..steps])).for_each(|(float, &byte)| *float = f32::from(byte));
        }
        floats
    }

    /// A panel of bytes as floats, `[depth][panel]`.
    fn widen(&self, words: &[f32], widened: &mut Option<Buffer>) {
        let width = self.isa.panel();
        let out = grown(widened, 4 * words.len());
        for (words, out) in words.chunks_exact(width).zip(out.chunks_exact_mut(4 * width)) {
            for (k, out) in out.chunks_exact_mut(width).enumerate() {
                for (out, word) in out.iter_mut().zip(words) {
                    *out = ((word.to_bits() << (24 - 8 * k)) as i32 >> 24) as f32;
                }
            }
        }
    }

    /// Exact sums of a tile from bytes as floats, a block of the depth after the other.
    fn exact(&self, a: &[f32], rows: usize, widened: Option<&Buffer>, sums: &mut TileSums) {
        let (width, depth) = (self.isa.panel(), 4 * self.panels.words.of(self.gemm.depth));
        let b = widened.map_or(&[][..], Buffer::as_slice);
        let mut block = TileSums([0.0; MAX_TILE_ROWS * MAX_PANEL]);
        let sums = as_integers_mut(&mut sums.0);
        sums.fill(0);
        for start in (0..depth).step_by(EXACT_STEPS) {
            let count = EXACT_STEPS.min(depth - start);
            let a = ATile { data: a[start..].as_ptr(), row_stride: depth, step: 1 };
            let b = BTile { data: b[start * width..].as_ptr(), step: width };
            let (init, prefetch) =
                (Init { data: std::ptr::null(), stride: 0 }, Prefetch { from: std::ptr::null(), rows: 0 });
            // SAFETY: the instruction set was detected; rows and panel have `depth` steps, and the block has room for the
            // largest tile.
            unsafe { self.isa.tile(rows)(count, a, b, block.0.as_mut_ptr(), width, init, prefetch) };
            sums.iter_mut().zip(&block.0).take(rows * width).for_each(|(sum, &part)| *sum += part as i32);
        }
    }
}
