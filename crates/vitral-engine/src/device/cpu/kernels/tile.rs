//! What a tile kernel is given: where its operands are, the initial value of its sums, what it prefetches.

use std::ops::Range;

/// Most rows of any tile.
pub(super) const MAX_TILE_ROWS: usize = 14;
/// Widest panel.
pub(super) const MAX_PANEL: usize = 32;

/// A kernel: depth, operands, a corner of `C` with its row stride, the initial value of the sums, what to prefetch.
pub(super) type Tile = unsafe fn(usize, ATile, BTile, *mut f32, usize, Init, Prefetch);

/// A tile of `A`: element `(row, k)` is at `row · row_stride + k · step`.
#[derive(Clone, Copy)]
pub(super) struct ATile {
    pub(super) data: *const f32,
    pub(super) row_stride: usize,
    pub(super) step: usize,
}

impl ATile {
    /// Where every third row begins: the rows between are one and two strides further, which an address can say by
    /// itself. So five registers lead to fourteen rows.
    #[inline(always)]
    pub(super) fn thirds<const M: usize>(self) -> [*const f32; MAX_TILE_ROWS.div_ceil(3)] {
        std::array::from_fn(|third| self.data.wrapping_add((3 * third).min(M - 1) * self.row_stride))
    }
}

/// A tile of `B`: element `(k, n)` is at `k · step + n`.
#[derive(Clone, Copy)]
pub(super) struct BTile {
    pub(super) data: *const f32,
    pub(super) step: usize,
}

/// The initial value of a tile's sums: row `i` is at `i · stride`; zeros where the pointer is null.
#[derive(Clone, Copy)]
pub(super) struct Init {
    pub(super) data: *const f32,
    pub(super) stride: usize,
}

/// Steps of depth between two prefetches.
pub(super) const PREFETCH_EVERY: usize = 4;

/// What a tile fetches into the cache for those after it: weights are larger than any cache, and waiting for each panel
/// from memory would cost a fifth of the time.
#[derive(Clone, Copy)]
pub(super) struct Prefetch {
    /// Where the tile's part of the next panel begins.
    pub(super) from: *const f32,
    /// Rows of the panel every [`PREFETCH_EVERY`] steps.
    pub(super) rows: usize,
}

/// How tiles divide the prefetching of a panel block.
#[derive(Clone, Copy)]
pub(super) struct PrefetchShares {
    depth: usize,
    /// Rows every [`PREFETCH_EVERY`] steps, and of a whole tile.
    rows: usize,
    each: usize,
}

impl PrefetchShares {
    pub(super) fn new(depth: usize, tiles: usize) -> Self {
        let fetches = depth.div_ceil(PREFETCH_EVERY).max(1);
        let rows = depth.div_ceil(tiles.max(1) * fetches);
        PrefetchShares { depth, rows, each: rows * fetches }
    }

    /// The part of one tile of the block that begins at `next` and has rows `step` apart.
    pub(super) fn of(self, tile: usize, next: Option<*const f32>, step: usize) -> Prefetch {
        let first = tile * self.each;
        match next {
            Some(next) if first < self.depth => Prefetch { from: next.wrapping_add(first * step), rows: self.rows },
            _ => Prefetch { from: std::ptr::null(), rows: 0 },
        }
    }
}

/// How rows are cut into tiles whose heights differ by one at most.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub(super) count: usize,
    least: usize,
    /// Tiles with one row more, the first ones.
    longer: usize,
}

impl Tiles {
    /// Tiles of at most `tile_rows` rows.
    pub(super) fn new(tile_rows: usize, rows: usize) -> Self {
        let count = rows.div_ceil(tile_rows);
        Tiles { count, least: rows / count.max(1), longer: rows % count.max(1) }
    }

    pub(super) fn rows(self, tile: usize) -> Range<usize> {
        let start = tile * self.least + tile.min(self.longer);
        start..start + self.least + usize::from(tile < self.longer)
    }
}
