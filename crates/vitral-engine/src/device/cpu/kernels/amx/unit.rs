//! What a unit that multiplies tiles does.
//!
//! After the chapter on AMX of Intel's manual (Intel 64 and IA-32 Architectures Software Developer's Manual, volumes 1 and 2).

/// Most rows of a tile.
pub(in super::super) const ROWS: usize = 16;
/// Most words of 32 bits in a row of a tile.
pub(in super::super) const WORDS: usize = 16;
/// Tiles that there are.
pub(super) const TILES: usize = 8;

/// What the words of factors hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Holds {
    /// Two bfloat16.
    Bf16,
    /// Four bytes: unsigned in `A`, signed in `B`.
    Bytes,
}

/// The extents of all tiles, in the form that `ldtilecfg` reads.
#[repr(C, align(64))]
#[derive(Clone)]
pub(in super::super) struct Extents {
    /// The first, the only one so far: eight tiles of a KiB.
    palette: u8,
    /// Where an instruction that was interrupted goes on.
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Extents {
    /// All tiles as large as they can be. Smaller products are made of these, too, with zeros beyond or what nobody reads: other
    /// extents would take a new configuration, which clears all tiles.
    pub(in super::super) const WHOLE: Extents = Extents::of([(ROWS, WORDS); TILES]);

    /// Rows and words of a row, for each tile.
    pub(super) const fn of(tiles: [(usize, usize); TILES]) -> Self {
        let mut extents = Extents { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut tile = 0;
        while tile < TILES {
            let (rows, words) = tiles[tile];
            assert!(rows <= ROWS && words <= WORDS, "more than a tile holds");
            extents.rows[tile] = rows as u8;
            extents.row_bytes[tile] = 4 * words as u16;
            tile += 1;
        }
        extents
    }

    /// Rows of a tile.
    #[cfg(test)]
    pub(super) fn rows(&self, tile: usize) -> usize {
        usize::from(self.rows[tile])
    }

    /// Words in a row of a tile.
    #[cfg(test)]
    pub(super) fn words(&self, tile: usize) -> usize {
        usize::from(self.row_bytes[tile]) / 4
    }
}

/// Eight tiles that are configured, and what multiplies them. Strides are in words.
pub(in super::super) trait Unit {
    /// `tilezero`: a tile of zeros.
    fn zero<const TILE: usize>(&mut self);

    /// `tileloadd`: a tile from rows `stride` apart.
    ///
    /// # Safety
    /// The tile's rows can be read there.
    unsafe fn load<const TILE: usize>(&mut self, from: *const f32, stride: usize);

    /// `tilestored`: a tile into rows `stride` apart.
    ///
    /// # Safety
    /// The tile's rows can be written there.
    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize);

    /// `tdpbf16ps`: adds the product of two tiles of pairs of bfloat16 to a tile of 32-bit floats. Word `(k, n)` of `B` has
    /// rows `2 k` and `2 k + 1` of column `n`.
    fn multiply_bf16<const SUM: usize, const A: usize, const B: usize>(&mut self);

    /// `tdpbusd`: adds the product of a tile of unsigned bytes and one of signed bytes to a tile of integers.
    fn multiply_bytes<const SUM: usize, const A: usize, const B: usize>(&mut self);
}
