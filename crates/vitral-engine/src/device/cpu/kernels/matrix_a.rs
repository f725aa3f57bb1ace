//! Matrix `A` of a product `A · B`: where tiles find its rows, and how they are prepared.

use std::ops::Range;

use super::cache::{LINE, Scratch, grown, spread, spreads, stays};
use super::isa::Isa;
use super::lanes::{Kernel, Lanes};
use super::tile::{ATile, Tiles};
use crate::device::cpu::math;

/// `A`, `[rows, depth]`, as it is stored.
#[derive(Clone, Copy)]
pub(crate) enum MatrixA<'a> {
    /// Element `(row, k)` at `row · stride + k`.
    Rows { data: &'a [f32], stride: usize },
    /// Element `(row, k)` at `k · stride + row`: the transpose of a row-major matrix.
    Columns { data: &'a [f32], stride: usize },
}

/// A norm over the depth, applied while rows of `A` are copied.
#[derive(Clone, Copy)]
pub(crate) struct NormOnLoad<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) epsilon: f32,
    /// Root mean square only; no mean is taken away.
    pub(crate) rms: bool,
}

/// Rows of `A` as tiles take them.
#[derive(Clone, Copy)]
pub(super) enum ARows {
    /// Row by row, `stride` apart.
    Strided { data: *const f32, stride: usize },
    /// Tile by tile, each `[depth][rows]`.
    Tiles { data: *const f32, depth: usize },
    /// Step by step of the depth, `stride` apart.
    Columns { data: *const f32, stride: usize },
}

impl ARows {
    pub(super) fn tile(self, rows: &Range<usize>) -> ATile {
        match self {
            ARows::Strided { data, stride } => {
                ATile { data: data.wrapping_add(rows.start * stride), row_stride: stride, step: 1 }
            }
            ARows::Tiles { data, depth } => {
                ATile { data: data.wrapping_add(rows.start * depth), row_stride: 1, step: rows.len() }
            }
            ARows::Columns { data, stride } => {
                ATile { data: data.wrapping_add(rows.start), row_stride: 1, step: stride }
            }
        }
    }
}

/// Some rows of `A` and a block of the depth, ready for the tiles: in place where the caches can hold it, copied
/// otherwise.
pub(super) fn prepare<'a>(
    isa: Isa,
    (a, norm): (MatrixA<'a>, Option<NormOnLoad<'a>>),
    scratch: &mut Scratch,
    rows: &Range<usize>,
    depth: Range<usize>,
) -> ARows {
    let count = rows.len();
    match a {
        MatrixA::Rows { data, stride } if norm.is_none() && spreads(stride) => {
            ARows::Strided { data: data[rows.start * stride + depth.start..].as_ptr(), stride }
        }
        MatrixA::Rows { data, stride } => {
            let width = spread(depth.len());
            let out = grown(&mut scratch.a, count * width);
            match norm {
                Some(norm) => {
                    let (rows, statistics) = (rows.clone(), &scratch.statistics);
                    isa.run(Normalize { data, stride, rows, depth, norm, statistics, out, width });
                }
                None => {
                    for (row, out) in rows.clone().zip(out.chunks_exact_mut(width)) {
                        out[..depth.len()].copy_from_slice(&data[row * stride..][depth.clone()]);
                    }
                }
            }
            ARows::Strided { data: out.as_ptr(), stride: width }
        }
        MatrixA::Columns { data, stride } if stays(stride) => {
            ARows::Columns { data: data[depth.start * stride + rows.start..].as_ptr(), stride }
        }
        MatrixA::Columns { data, stride } => {
            let out = grown(&mut scratch.a, count * depth.len());
            let (tiles, data) = (Tiles::new(isa.tile_rows(), count), &data[depth.start * stride + rows.start..]);
            isa.run(PackColumns { data, stride, count, tiles, depth: depth.len(), out });
            ARows::Tiles { data: out.as_ptr(), depth: depth.len() }
        }
    }
}

/// Packs `count` rows, whose element `(row, k)` is at `k · stride + row`, into all their tiles `[depth][rows]`: step
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
    pub(super) a: MatrixA<'a>,
    pub(super) depth: usize,
    pub(super) norm: NormOnLoad<'a>,
    pub(super) rows: Range<usize>,
    pub(super) out: &'a mut Vec<(f32, f32)>,
}

impl Kernel for Statistics<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let MatrixA::Rows { data, stride } = self.a else { unreachable!("checked on entry") };
        for row in self.rows {
            let row = &data[row * stride..][..self.depth];
            self.out.push(math::row_statistics(l, row, self.norm.epsilon, self.norm.rms));
        }
    }
}

/// Normalizes a block of rows into dense memory.
struct Normalize<'a> {
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

impl Kernel for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let weight = &self.norm.weight[self.depth.clone()];
        let bias = self.norm.bias.map(|bias| &bias[self.depth.clone()]);
        for ((row, out), &statistics) in self.rows.zip(self.out.chunks_exact_mut(self.width)).zip(self.statistics) {
            let row = &self.data[row * self.stride..][self.depth.clone()];
            math::normalize_row(l, row, statistics, weight, bias, &mut out[..row.len()]);
        }
    }
}
