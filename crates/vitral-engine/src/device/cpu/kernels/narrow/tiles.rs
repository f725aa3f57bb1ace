//! Products of words by AMX.
//!
//! A panel is 32 words wide, so sixteen of its rows are two tiles of `B` as they were packed, and rows of `A` are tiles as they
//! were packed. What is left over is filled up: the panel's last rows with zeros in a copy, the last rows of `A` with whatever is
//! in memory, whose sums nobody reads. The order of a sum is that of the depth in steps of a tile, wherever its row and column
//! are and however the depth is cut: sums that were stored and loaded again have the same bits.

use std::ops::Range;

use super::super::amx::{Amx, Block, Holds, ROWS, WORDS, chains};
#[cfg(test)]
use super::super::amx::{Extents, Twin};
use super::super::cache::grown;
use super::super::isa::{Extra512, Isa};
use super::super::matrix_b::{MatrixB, pack_panel};
use super::super::tile::{Prefetch, PrefetchShares};
use super::words::Words;
use crate::device::cpu::buffer::Buffer;

/// Columns of a panel.
const PANEL: usize = 2 * WORDS;
/// Rows of a block of sums.
pub(super) const BLOCK_ROWS: usize = 2 * ROWS;
/// Rows whose sums are kept at a time: with them, and the next rows of `A` on their way through, a part of a panel stays in the
/// L1 cache.
const GROUP_ROWS: usize = 4 * BLOCK_ROWS;
/// Tiles of the depth taken at a time: 16 KiB of a panel.
const DEPTH_AT_ONCE: usize = 8;

enum Unit {
    Amx(Amx),
    #[cfg(test)]
    Twin(Box<Twin>),
}

/// The rows of a panel after whole tiles, filled up with zeros.
#[repr(align(64))]
struct Rest([f32; ROWS * PANEL]);

/// This thread's tiles, configured for one task, which runs no others meanwhile.
pub(super) struct ThreadTiles {
    unit: Unit,
    rest: Rest,
}

/// Rows of `A` in words: word `(row, k)` is at `row · row_stride + k / 32 · pair_stride + k % 32`.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    data: &'a [f32],
    row_stride: usize,
    pair_stride: usize,
    /// The first row that is not in a whole tile, and such rows with room for a tile.
    edge: Option<(usize, &'a [f32])>,
}

impl<'a> Operand<'a> {
    /// Rows `stride` apart, with numbers up to whole tiles of the depth, and memory up to whole tiles of rows.
    pub(super) fn padded(data: &'a [f32], stride: usize) -> Self {
        Operand { data, row_stride: stride, pair_stride: PANEL, edge: None }
    }

    /// As [`Operand::padded`], of so many rows and no memory after them.
    fn rows(data: &'a [f32], stride: usize, rows: usize, room: &'a mut Option<Buffer>) -> Self {
        let whole = rows / ROWS * ROWS;
        let edge = if whole < rows {
            let edge = grown(room, ROWS * stride);
            edge[..(rows - whole) * stride].copy_from_slice(&data[whole * stride..rows * stride]);
            Some((whole, &*edge))
        } else {
            None
        };
        Operand { edge, ..Operand::padded(data, stride) }
    }

    /// Rows that are stored step by step of the depth, `[steps][rows]`.
    fn columns(isa: Isa, data: &[f32], [rows, steps]: [usize; 2], room: &'a mut Option<Buffer>) -> Self {
        let pair_stride = rows.next_multiple_of(ROWS) * PANEL;
        let out = grown(room, steps.div_ceil(PANEL) * pair_stride);
        let source = MatrixB::Columns { data, stride: rows };
        for (pair, out) in out.chunks_exact_mut(pair_stride.max(1)).enumerate() {
            pack_panel(isa, source, rows, steps, pair, &mut out[..rows * PANEL]);
        }
        Operand { data: out, row_stride: PANEL, pair_stride, edge: None }
    }

    /// Where the tiles of sixteen rows begin that have so many tiles of the depth.
    fn tile(&self, row: usize, depth: usize) -> *const f32 {
        let (data, row) = match self.edge {
            Some((first, edge)) if row >= first => (edge, row - first),
            _ => (self.data, row),
        };
        if depth > 0 {
            let last = (depth - 1) / 2 * self.pair_stride + (depth - 1) % 2 * WORDS;
            let end = (row + ROWS - 1) * self.row_stride + last + WORDS;
            assert!(end <= data.len(), "rows {row} and on end at {end} of {}", data.len());
        }
        data.as_ptr().wrapping_add(row * self.row_stride)
    }
}

/// Rows and a panel.
pub(super) struct RowsByPanel<'a> {
    pub(super) words: Words,
    pub(super) a: Operand<'a>,
    /// Up to [`BLOCK_ROWS`]; the first begins a tile.
    pub(super) rows: Range<usize>,
    pub(super) panel: &'a [f32],
    /// Columns that are wanted.
    pub(super) columns: usize,
}

impl ThreadTiles {
    /// Configures the tiles of this thread; `None` for an instruction set that has none.
    pub(super) fn configured(isa: Isa) -> Option<Self> {
        let unit = match isa {
            // SAFETY: `Extra512::Amx` is only made where AMX can be used; a task holds one of these, and runs no others.
            Isa::Avx512(Extra512::Amx) => Unit::Amx(unsafe { Amx::configured() }),
            #[cfg(test)]
            Isa::Twin => Unit::Twin(Box::new(Twin::configured(&Extents::WHOLE))),
            _ => return None,
        };
        Some(ThreadTiles { unit, rest: Rest([0.0; _]) })
    }

    /// Products and nothing else, as a measure; gives the operations done.
    pub(super) fn chains(&mut self, words: Words, steps: usize) -> f64 {
        match &mut self.unit {
            Unit::Amx(unit) => chains(unit, holds(words), steps),
            #[cfg(test)]
            Unit::Twin(unit) => chains(&mut **unit, holds(words), steps),
        }
    }

    /// Takes the rest of a panel that is multiplied next.
    fn take_rest(&mut self, panel: &[f32]) {
        let rest = &panel[panel.len() / (ROWS * PANEL) * ROWS * PANEL..];
        if !rest.is_empty() {
            self.rest.0[..rest.len()].copy_from_slice(rest);
            self.rest.0[rest.len()..].fill(0.0);
        }
    }

    /// Sums of rows with a panel, into rows `stride` apart, with room for whole tiles.
    pub(super) fn multiply(&mut self, work: &RowsByPanel<'_>, out: &mut [f32], stride: usize) {
        self.take_rest(work.panel);
        let depth = work.panel.len().div_ceil(ROWS * PANEL);
        self.block(work, 0..depth, out, stride, Prefetch { from: std::ptr::null(), rows: 0 });
    }

    /// As [`ThreadTiles::multiply`], over some tiles of the depth, which are added unless they are the first. The panel's rest
    /// was taken.
    fn block(
        &mut self,
        work: &RowsByPanel<'_>,
        depth: Range<usize>,
        out: &mut [f32],
        stride: usize,
        prefetch: Prefetch,
    ) {
        let &RowsByPanel { words, a, ref rows, panel, columns } = work;
        let whole = panel.len() / (ROWS * PANEL);
        let of_rest = usize::from(!panel.len().is_multiple_of(ROWS * PANEL));
        assert!(panel.len().is_multiple_of(PANEL) && depth.end <= whole + of_rest);
        assert!((1..=BLOCK_ROWS).contains(&rows.len()) && (1..=PANEL).contains(&columns));
        let second = rows.len() > ROWS;
        let room = (rows.len().next_multiple_of(ROWS) - 1) * stride + columns.next_multiple_of(WORDS);
        assert!(out.len() >= room && stride >= columns.next_multiple_of(WORDS), "no room for whole tiles");
        let first = a.tile(rows.start, depth.end);
        let block = Block {
            a: [first, if second { a.tile(rows.start + ROWS, depth.end) } else { first }],
            row_stride: a.row_stride,
            pair_stride: a.pair_stride,
            b: panel.as_ptr(),
            whole,
            rest: self.rest.0.as_ptr(),
            continues: depth.start > 0,
            depth,
            sums: (out.as_mut_ptr(), stride),
            prefetch,
        };
        // SAFETY: whole tiles of rows and depth were asserted in `tile`, those of the panel and the sums above.
        unsafe {
            match &mut self.unit {
                Unit::Amx(unit) => block.run(unit, holds(words), rows.len(), columns),
                #[cfg(test)]
                Unit::Twin(unit) => block.run(&mut **unit, holds(words), rows.len(), columns),
            }
        }
    }
}

fn holds(words: Words) -> Holds {
    match words {
        Words::Bf16 => Holds::Bf16,
        Words::Int8 => Holds::Bytes,
    }
}

/// Packed rows and some panels.
pub(super) struct Part<'a> {
    pub(super) isa: Isa,
    pub(super) words: Words,
    /// Packed rows: `stride` apart, or together step by step of the depth.
    pub(super) a: &'a [f32],
    pub(super) stride: Option<usize>,
    pub(super) rows: usize,
    /// All panels, words of their depth, columns of all.
    pub(super) panels: &'a [f32],
    pub(super) steps: usize,
    pub(super) columns: usize,
    /// Panels that are wanted.
    pub(super) wanted: Range<usize>,
}

/// Sums of a group of rows.
#[repr(align(64))]
struct Sums([f32; GROUP_ROWS * PANEL]);

impl Part<'_> {
    /// Multiplies, and gives each block of sums to `finish`: its rows, its panel, its sums.
    pub(super) fn run(&self, room: &mut Option<Buffer>, mut finish: impl FnMut(Range<usize>, usize, &[f32])) {
        let Some(mut tiles) = ThreadTiles::configured(self.isa) else {
            unreachable!("{} has no tiles", self.isa.name())
        };
        let (rows, steps, each) = (self.rows, self.steps, self.steps * PANEL);
        let a = match self.stride {
            Some(stride) => Operand::rows(self.a, stride, rows, room),
            None => Operand::columns(self.isa, self.a, [rows, steps], room),
        };
        let depth = steps.div_ceil(ROWS);
        let shares = PrefetchShares::new(steps, rows.div_ceil(BLOCK_ROWS));
        let mut sums = Sums([0.0; _]);
        for at in self.wanted.clone() {
            let panel = &self.panels[at * each..][..each];
            let next = (at + 1 < self.wanted.end).then(|| self.panels[(at + 1) * each..].as_ptr());
            let columns = PANEL.min(self.columns - at * PANEL);
            tiles.take_rest(panel);
            for group in (0..rows).step_by(GROUP_ROWS) {
                let blocks = || {
                    let end = rows.min(group + GROUP_ROWS);
                    (group..end).step_by(BLOCK_ROWS).map(move |first| first..end.min(first + BLOCK_ROWS))
                };
                // An empty depth is a sum, too.
                for start in (0..depth.max(1)).step_by(DEPTH_AT_ONCE) {
                    for rows in blocks() {
                        let prefetch = shares.of(rows.start / BLOCK_ROWS, next, PANEL);
                        let out = &mut sums.0[(rows.start - group) * PANEL..];
                        let work = RowsByPanel { words: self.words, a, rows, panel, columns };
                        tiles.block(&work, start..depth.min(start + DEPTH_AT_ONCE), out, PANEL, prefetch);
                    }
                }
                for rows in blocks() {
                    let sums = &sums.0[(rows.start - group) * PANEL..][..rows.len() * PANEL];
                    finish(rows, at, sums);
                }
            }
        }
    }
}
