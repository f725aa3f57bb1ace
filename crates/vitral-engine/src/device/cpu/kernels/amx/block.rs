//! A block of sums, 32 × 32 at most, in four tiles: each load of a tile serves two products.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ops::Range;

use super::super::tile::{PREFETCH_EVERY, Prefetch};
use super::unit::{Holds, ROWS, Unit, WORDS};

/// Words of a row of a panel: two tiles beside each other.
const PANEL: usize = 2 * WORDS;

/// What the sums of a block are of, and where they go.
#[derive(Clone)]
pub(in super::super) struct Block {
    /// Where the first sixteen rows of `A` begin and the second: word `(row, k)` is at
    /// `row · row_stride + k / 32 · pair_stride + k % 32`.
    pub(in super::super) a: [*const f32; 2],
    pub(in super::super) row_stride: usize,
    pub(in super::super) pair_stride: usize,
    /// A panel of `B`: rows of 32 words, sixteen of which are two tiles.
    pub(in super::super) b: *const f32,
    /// How many times sixteen whole rows it has.
    pub(in super::super) whole: usize,
    /// The rows after them, with zeros up to sixteen.
    pub(in super::super) rest: *const f32,
    /// Which tiles of the depth, the rest being the last.
    pub(in super::super) depth: Range<usize>,
    /// The sums and the distance of their rows.
    pub(in super::super) sums: (*mut f32, usize),
    /// Adds to what the sums hold.
    pub(in super::super) continues: bool,
    pub(in super::super) prefetch: Prefetch,
}

impl Block {
    /// Computes the sums of so many rows and columns, up to 32 of each. Rows and columns that fill tiles up are computed, too,
    /// of whatever is there.
    ///
    /// # Safety
    /// Rows of `A` up to a whole tile have all words of the depth's tiles; `b` and `rest` have their rows; the sums have room
    /// for whole tiles, and hold numbers there where they are added to.
    pub(in super::super) unsafe fn run(&self, unit: &mut impl Unit, holds: Holds, rows: usize, columns: usize) {
        debug_assert!((1..=2 * ROWS).contains(&rows) && (1..=PANEL).contains(&columns), "{rows} × {columns}");
        // SAFETY: as the caller promises.
        unsafe {
            match (holds, rows > ROWS, columns > WORDS) {
                (Holds::Bf16, false, false) => self.sums::<false, false, false>(unit),
                (Holds::Bf16, false, true) => self.sums::<false, false, true>(unit),
                (Holds::Bf16, true, false) => self.sums::<false, true, false>(unit),
                (Holds::Bf16, true, true) => self.sums::<false, true, true>(unit),
                (Holds::Bytes, false, false) => self.sums::<true, false, false>(unit),
                (Holds::Bytes, false, true) => self.sums::<true, false, true>(unit),
                (Holds::Bytes, true, false) => self.sums::<true, true, false>(unit),
                (Holds::Bytes, true, true) => self.sums::<true, true, true>(unit),
            }
        }
    }

    /// Tiles 0 to 3 are sums, 4 and 5 rows of `A`, 6 and 7 columns of `B`.
    #[inline(always)]
    unsafe fn sums<const BYTES: bool, const TALL: bool, const WIDE: bool>(&self, unit: &mut impl Unit) {
        // SAFETY: all accesses are to whole tiles that the caller promises.
        unsafe {
            self.begin::<0>(unit, 0, 0);
            if WIDE {
                self.begin::<1>(unit, 0, 1);
            }
            if TALL {
                self.begin::<2>(unit, 1, 0);
            }
            if TALL && WIDE {
                self.begin::<3>(unit, 1, 1);
            }
            let each = ROWS / PREFETCH_EVERY * self.prefetch.rows;
            let mut next = self.prefetch.from.wrapping_add(self.depth.start * each * PANEL);
            for at in self.depth.clone() {
                for _ in 0..each {
                    // A hint: an address that is not there does no harm.
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(WORDS).cast());
                    next = next.wrapping_add(PANEL);
                }
                let b = if at < self.whole { self.b.add(at * ROWS * PANEL) } else { self.rest };
                let place = at / 2 * self.pair_stride + at % 2 * WORDS;
                unit.load::<6>(b, PANEL);
                unit.load::<4>(self.a[0].add(place), self.row_stride);
                multiply::<BYTES, 0, 4, 6>(unit);
                if WIDE {
                    unit.load::<7>(b.add(WORDS), PANEL);
                    multiply::<BYTES, 1, 4, 7>(unit);
                }
                if TALL {
                    unit.load::<5>(self.a[1].add(place), self.row_stride);
                    multiply::<BYTES, 2, 5, 6>(unit);
                }
                if TALL && WIDE {
                    multiply::<BYTES, 3, 5, 7>(unit);
                }
            }
            unit.store::<0>(self.place(0, 0), self.sums.1);
            if WIDE {
                unit.store::<1>(self.place(0, 1), self.sums.1);
            }
            if TALL {
                unit.store::<2>(self.place(1, 0), self.sums.1);
            }
            if TALL && WIDE {
                unit.store::<3>(self.place(1, 1), self.sums.1);
            }
        }
    }

    /// Where a tile of sums is.
    #[inline(always)]
    fn place(&self, row: usize, column: usize) -> *mut f32 {
        self.sums.0.wrapping_add(row * ROWS * self.sums.1 + column * WORDS)
    }

    /// What a tile of sums begins with.
    #[inline(always)]
    unsafe fn begin<const TILE: usize>(&self, unit: &mut impl Unit, row: usize, column: usize) {
        if self.continues {
            // SAFETY: the caller promises the sums.
            unsafe { unit.load::<TILE>(self.place(row, column), self.sums.1) };
        } else {
            unit.zero::<TILE>();
        }
    }
}

#[inline(always)]
fn multiply<const BYTES: bool, const SUM: usize, const A: usize, const B: usize>(unit: &mut impl Unit) {
    if BYTES {
        unit.multiply_bytes::<SUM, A, B>();
    } else {
        unit.multiply_bf16::<SUM, A, B>();
    }
}

/// Products of tiles of zeros and nothing else, `steps` of them; gives the operations done.
pub(in super::super) fn chains(unit: &mut impl Unit, holds: Holds, steps: usize) -> f64 {
    unit.zero::<0>();
    unit.zero::<1>();
    unit.zero::<2>();
    unit.zero::<3>();
    unit.zero::<4>();
    unit.zero::<5>();
    for _ in 0..steps / 4 {
        match holds {
            Holds::Bf16 => {
                unit.multiply_bf16::<0, 4, 5>();
                unit.multiply_bf16::<1, 4, 5>();
                unit.multiply_bf16::<2, 4, 5>();
                unit.multiply_bf16::<3, 4, 5>();
            }
            Holds::Bytes => {
                unit.multiply_bytes::<0, 4, 5>();
                unit.multiply_bytes::<1, 4, 5>();
                unit.multiply_bytes::<2, 4, 5>();
                unit.multiply_bytes::<3, 4, 5>();
            }
        }
    }
    let values = match holds {
        Holds::Bf16 => 2,
        Holds::Bytes => 4,
    };
    (steps / 4 * 4 * 2 * ROWS * WORDS * WORDS * values) as f64
}
