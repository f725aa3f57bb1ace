//! The left operand of a product: where tiles find its rows, and what is done to them before.

use std::ops::Range;

use super::gemm::{Gemm, MAX_TILE_ROWS, NormOnLoad, Scratch, Tiles, grown};
use super::lanes::{Isa, Kernel, Lanes};
use crate::device::cpu::math;

/// The left operand `[rows, depth]` as it lies in memory.
#[derive(Clone, Copy)]
pub(crate) enum Lhs<'a> {
    /// Element `(row, k)` at `row · stride + k`.
    Rows { data: &'a [f32], stride: usize },
    /// Element `(row, k)` at `k · stride + row`: the transpose of a row-major matrix.
    Columns { data: &'a [f32], stride: usize },
}

/// The left operand of a tile: element `(row, k)` lies at `row · row_stride + k · step`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub(super) data: *const f32,
    pub(super) row_stride: usize,
    pub(super) step: usize,
}

impl Left {
    /// Where every third row begins: the rows between are one and two strides further, which an address can say by itself.
    /// So five registers lead to fourteen rows.
    #[inline(always)]
    pub(super) fn thirds<const M: usize>(self) -> [*const f32; MAX_TILE_ROWS.div_ceil(3)] {
        std::array::from_fn(|third| self.data.wrapping_add((3 * third).min(M - 1) * self.row_stride))
    }
}

/// Rows of the left operand as tiles take them.
#[derive(Clone, Copy)]
pub(super) enum LeftRows {
    /// Row by row, `stride` apart.
    Strided { data: *const f32, stride: usize },
    /// Tile by tile, each `[depth][rows]`.
    Tiles { data: *const f32, depth: usize },
    /// Step by step of the depth as they lie, `stride` apart.
    Columns { data: *const f32, stride: usize },
}

impl LeftRows {
    pub(super) fn tile(self, rows: &Range<usize>) -> Left {
        match self {
            LeftRows::Strided { data, stride } => {
                Left { data: data.wrapping_add(rows.start * stride), row_stride: stride, step: 1 }
            }
            LeftRows::Tiles { data, depth } => {
                Left { data: data.wrapping_add(rows.start * depth), row_stride: 1, step: rows.len() }
            }
            LeftRows::Columns { data, stride } => {
                Left { data: data.wrapping_add(rows.start), row_stride: 1, step: stride }
            }
        }
    }
}

/// Numbers in a cache line.
const LINE: usize = 16;

/// Whether rows this far apart lie in different sets of the cache: a tile reads one line of each of its rows at a time.
fn spreads(stride: usize) -> bool {
    // Of 64 sets; four of them, with eight ways each, have room for the rows of a tile twice.
    !stride.is_multiple_of(LINE) || !(stride / LINE).is_multiple_of(32)
}

/// Whether a block of rows this far apart stays in the second cache, a strip of each, while tiles pass over it.
pub(super) fn stays(stride: usize) -> bool {
    // Rows a whole page apart would all fall into a few of its sets.
    !stride.is_multiple_of(LINE) || !(stride / LINE).is_multiple_of(64)
}

/// The distance of rows of this length that lie in different sets of the cache: an odd number of lines.
fn spread(depth: usize) -> usize {
    LINE * (depth.div_ceil(LINE) | 1)
}

impl Gemm<'_> {
    /// A block of the depth of some rows, ready for the tiles: as it lies where the caches can hold it, copied otherwise.
    pub(super) fn left(&self, isa: Isa, scratch: &mut Scratch, rows: &Range<usize>, depth: Range<usize>) -> LeftRows {
        let count = rows.len();
        match self.lhs {
            Lhs::Rows { data, stride } if self.norm.is_none() && spreads(stride) => {
                LeftRows::Strided { data: data[rows.start * stride + depth.start..].as_ptr(), stride }
            }
            Lhs::Rows { data, stride } => {
                let width = spread(depth.len());
                let out = grown(&mut scratch.left, count * width);
                match self.norm {
                    Some(norm) => {
                        let (rows, statistics) = (rows.clone(), &scratch.statistics);
                        isa.run(Normalise { data, stride, rows, depth, norm, statistics, out, width });
                    }
                    None => {
                        for (row, out) in rows.clone().zip(out.chunks_exact_mut(width)) {
                            out[..depth.len()].copy_from_slice(&data[row * stride..][depth.clone()]);
                        }
                    }
                }
                LeftRows::Strided { data: out.as_ptr(), stride: width }
            }
            Lhs::Columns { data, stride } if stays(stride) => {
                LeftRows::Columns { data: data[depth.start * stride + rows.start..].as_ptr(), stride }
            }
            Lhs::Columns { data, stride } => {
                let out = grown(&mut scratch.left, count * depth.len());
                let (tiles, data) = (Tiles::new(isa, count), &data[depth.start * stride + rows.start..]);
                isa.run(PackColumns { data, stride, count, tiles, depth: depth.len(), out });
                LeftRows::Tiles { data: out.as_ptr(), depth: depth.len() }
            }
        }
    }
}

/// Packs `count` rows, of which element `(row, k)` lies at `k · stride + row`, into all their tiles `[depth][rows]`: step
/// by step of the depth, so that memory is read in its order.
struct PackColumns<'a> {
    data: &'a [f32],
    stride: usize,
    count: usize,
    tiles: Tiles,
    depth: usize,
    out: &'a mut [f32],
}

impl Kernel for PackColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        const STEPS_AHEAD: usize = 16;
        let PackColumns { data, stride, count, tiles, depth, out } = self;
        for k in 0..depth {
            let source = &data[k * stride..][..count];
            // A step of the depth is a jump in memory, which the processor does not see coming.
            for line in source.chunks(LINE) {
                l.prefetch(line, STEPS_AHEAD * stride);
            }
            for tile in 0..tiles.count {
                let rows = tiles.rows(tile);
                let target = &mut out[rows.start * depth + k * rows.len()..][..rows.len()];
                for (target, source) in target.chunks_mut(L::N).zip(source[rows].chunks(L::N)) {
                    l.store_part(target, l.load_part(source));
                }
            }
        }
    }
}

/// Mean and reciprocal deviation of each row.
pub(super) struct Statistics<'a> {
    pub(super) gemm: &'a Gemm<'a>,
    pub(super) norm: NormOnLoad<'a>,
    pub(super) rows: Range<usize>,
    pub(super) out: &'a mut Vec<(f32, f32)>,
}

impl Kernel for Statistics<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Lhs::Rows { data, stride } = self.gemm.lhs else { unreachable!("checked on entry") };
        for row in self.rows {
            let row = &data[row * stride..][..self.gemm.depth];
            self.out.push(math::row_statistics(l, row, self.norm.epsilon, self.norm.rms));
        }
    }
}

/// Normalises a block of rows into dense memory.
struct Normalise<'a> {
    data: &'a [f32],
    stride: usize,
    rows: Range<usize>,
    depth: Range<usize>,
    norm: NormOnLoad<'a>,
    statistics: &'a [(f32, f32)],
    out: &'a mut [f32],
    /// Distance of rows in `out`.
    width: usize,
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let weight = &self.norm.weight[self.depth.clone()];
        let bias = self.norm.bias.map(|bias| &bias[self.depth.clone()]);
        for ((row, out), &statistics) in self.rows.zip(self.out.chunks_exact_mut(self.width)).zip(self.statistics) {
            let row = &self.data[row * self.stride..][self.depth.clone()];
            math::normalise_row(l, row, statistics, weight, bias, &mut out[..row.len()]);
        }
    }
}
