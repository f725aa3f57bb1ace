//! The unit in plain Rust, as Intel's manual describes each instruction.

use super::unit::{Extents, ROWS, TILES, Unit, WORDS};

/// A tile: bits of words, row by row.
type Tile = [[u32; WORDS]; ROWS];

/// Eight tiles in memory.
pub(in super::super) struct Twin {
    extents: Extents,
    tiles: [Tile; TILES],
}

impl Twin {
    /// `ldtilecfg`: tiles of these extents, all zeros.
    pub(in super::super) fn configured(extents: &Extents) -> Self {
        Twin { extents: extents.clone(), tiles: [[[0; WORDS]; ROWS]; TILES] }
    }

    /// Adds products, word by word: what a sum was, and the row of `A` and the column of `B` that meet in it.
    fn multiply(&mut self, [sum, a, b]: [usize; 3], add: impl Fn(u32, &mut dyn Iterator<Item = (u32, u32)>) -> u32) {
        assert!(sum != a && a != b && b != sum, "three different tiles");
        let extents = &self.extents;
        let (rows, columns, depth) = (extents.rows(sum), extents.words(sum), extents.words(a));
        assert_eq!(extents.rows(a), rows, "rows of `A`");
        assert_eq!(extents.words(b), columns, "columns of `B`");
        assert_eq!(extents.rows(b), depth, "depth of `A` and `B`");
        let mut sums: Tile = [[0; WORDS]; ROWS];
        for (m, sums) in sums.iter_mut().enumerate().take(rows) {
            for (n, to) in sums.iter_mut().enumerate().take(columns) {
                let mut words = (0..depth).map(|k| (self.tiles[a][m][k], self.tiles[b][k][n]));
                *to = add(self.tiles[sum][m][n], &mut words);
            }
        }
        self.tiles[sum] = sums;
    }
}

impl Unit for Twin {
    fn zero<const TILE: usize>(&mut self) {
        self.tiles[TILE] = [[0; WORDS]; ROWS];
    }

    unsafe fn load<const TILE: usize>(&mut self, from: *const f32, stride: usize) {
        self.zero::<TILE>();
        for row in 0..self.extents.rows(TILE) {
            for word in 0..self.extents.words(TILE) {
                // SAFETY: the caller promises the tile's rows.
                self.tiles[TILE][row][word] = unsafe { from.add(row * stride + word).read().to_bits() };
            }
        }
    }

    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize) {
        for row in 0..self.extents.rows(TILE) {
            for word in 0..self.extents.words(TILE) {
                // SAFETY: the caller promises the tile's rows.
                unsafe { to.add(row * stride + word).write(f32::from_bits(self.tiles[TILE][row][word])) };
            }
        }
    }

    /// Even places of the depth are one chain of fused multiply-adds from zero, odd ones another; then both are added, and that
    /// to what the sum was.
    fn multiply_bf16<const SUM: usize, const A: usize, const B: usize>(&mut self) {
        self.multiply([SUM, A, B], |before, words| {
            let (mut even, mut odd) = (0.0, 0.0);
            for (a, b) in words {
                even = fused(lower(a), lower(b), even);
                odd = fused(upper(a), upper(b), odd);
            }
            added(f32::from_bits(before), added(even, odd)).to_bits()
        });
    }

    fn multiply_bytes<const SUM: usize, const A: usize, const B: usize>(&mut self) {
        self.multiply([SUM, A, B], |before, words| {
            let each = |(a, b): (u32, u32)| {
                let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
                products.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum::<i32>()
            };
            words.map(each).fold(before as i32, i32::wrapping_add) as u32
        });
    }
}

fn lower(word: u32) -> f32 {
    f32::from_bits(word << 16)
}

fn upper(word: u32) -> f32 {
    f32::from_bits(word & 0xffff_0000)
}

/// A number, or a zero of its sign where it is below the normal ones: so the unit reads and writes them, whatever the
/// processor's flags.
fn normal(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

/// `a · b + c`, rounded once to the nearest, to even between two.
fn fused(a: f32, b: f32, c: f32) -> f32 {
    normal(normal(a).mul_add(normal(b), normal(c)))
}

fn added(a: f32, b: f32) -> f32 {
    normal(normal(a) + normal(b))
}
