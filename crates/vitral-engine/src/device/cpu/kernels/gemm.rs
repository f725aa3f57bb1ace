//! Matrix products: `C = epilogue(norm(A) · B)`.
//!
//! `B` (the weights) is in panels `[k][panel]`, packed once, or in place where that serves as well. A task takes some rows of
//! `A` that stay in the L2 cache, and passes every panel over them. `A` is read in place, by rows or by columns; it is copied
//! where a norm is taken of its rows on the way or where their distance would put them all in a few sets of a cache.
//! The depth is cut into blocks of a fixed length, so each element of `C` is one chain of multiply-adds that begins
//! with the bias, in the same order whatever the number of threads, rows or tiles: results do not depend on how the
//! work was cut.

use std::cell::RefCell;
use std::ops::Range;

use super::cache::Scratch;
use super::epilogue::GemmEpilogue;
use super::isa::Isa;
use super::lanes::{Kernel, Lanes};
use super::matrix_a::{self, MatrixA, NormOnLoad, Statistics};
use super::matrix_b::{PackedB, Panels};
use super::narrow::WordProduct;
use super::shared::DisjointMut;
use super::tile::{Init, MAX_PANEL, MAX_TILE_ROWS, PrefetchShares, Tiles};
use crate::device::cpu::math;
use crate::device::cpu::processor::{Processor, SERIAL_WORK};

/// Values of `A` that a task keeps in the L2 cache.
const A_IN_CACHE: usize = 48 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One matrix product.
#[derive(Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
    pub(crate) a: MatrixA<'a>,
    pub(crate) norm: Option<NormOnLoad<'a>>,
    /// `B`.
    pub(crate) panels: Panels<'a>,
    pub(crate) epilogue: GemmEpilogue<'a>,
    /// Adds to what `C` holds. Not together with an epilogue.
    pub(crate) accumulate: bool,
}

impl<'a> Gemm<'a> {
    /// The product with a packed `B`, nothing else.
    pub(crate) fn new(rows: usize, a: MatrixA<'a>, b: &'a PackedB) -> Self {
        Gemm {
            rows,
            columns: b.columns,
            depth: b.depth,
            a,
            norm: None,
            panels: b.panels(),
            epilogue: GemmEpilogue::default(),
            accumulate: false,
        }
    }

    /// Computes `C`, `[rows, columns]` and contiguous, on all threads.
    pub(crate) fn run(&self, cpu: &Processor, c: &mut [f32]) {
        assert_eq!(c.len(), self.rows * self.columns, "product is {} × {}", self.rows, self.columns);
        self.run_strided(cpu, c, self.columns);
    }

    /// Computes `C` on all threads into rows `stride` apart, and leaves the memory between them unchanged.
    pub(crate) fn run_strided(&self, cpu: &Processor, c: &mut [f32], stride: usize) {
        let isa = cpu.isa();
        self.check(isa);
        if self.rows * self.columns == 0 {
            return;
        }
        assert!(stride >= self.columns && c.len() >= (self.rows - 1) * stride + self.columns);
        if let Panels::Words(panels) = self.panels {
            let (rows, columns, depth) = (self.rows, self.columns, self.depth);
            let product = WordProduct {
                rows,
                columns,
                depth,
                a: self.a,
                norm: self.norm,
                panels,
                epilogue: self.epilogue,
                accumulate: self.accumulate,
            };
            return product.run(cpu, (DisjointMut::new(c), 0, stride));
        }
        let tiles = self.rows.div_ceil(isa.tile_rows());
        let panels = self.columns.div_ceil(isa.panel());
        let (row_parts, column_parts) = if self.rows * self.columns * self.depth < SERIAL_WORK || cpu.threads() == 1 {
            (tiles.div_ceil(self.tiles_in_cache(isa)), 1)
        } else {
            self.split(isa, cpu.threads(), tiles, panels)
        };
        let c = DisjointMut::new(c);
        cpu.parallel(row_parts * column_parts, |task| {
            let (i, j) = (task / column_parts, task % column_parts);
            let rows = self.rows * i / row_parts..self.rows * (i + 1) / row_parts;
            let panels = panels * j / column_parts..panels * (j + 1) / column_parts;
            self.run_part(isa, (c, 0, stride), rows, panels);
        });
    }

    /// Computes `C` on the calling thread into rows `stride` apart, and leaves the memory between them unchanged.
    pub(crate) fn run_serial(&self, isa: Isa, c: &mut [f32], stride: usize) {
        // SAFETY: the slice is borrowed for this call alone.
        unsafe { self.run_shared(isa, DisjointMut::new(c), 0, stride) };
    }

    /// As [`Gemm::run_serial`], into rows that begin at an offset of memory shared with other threads.
    ///
    /// # Safety
    /// No other thread uses these rows and columns of `c` meanwhile.
    pub(super) unsafe fn run_shared(&self, isa: Isa, c: DisjointMut<'_>, start: usize, stride: usize) {
        self.check(isa);
        if self.rows * self.columns == 0 {
            return;
        }
        assert!(stride >= self.columns && c.len() - start >= (self.rows - 1) * stride + self.columns);
        debug_assert!(!matches!(self.panels, Panels::Words(_)), "products in words run on a processor");
        let panels = 0..self.columns.div_ceil(isa.panel());
        self.run_part(isa, (c, start, stride), 0..self.rows, panels);
    }

    fn check(&self, isa: Isa) {
        assert!(self.panels.fits(isa, self.depth, self.columns), "`B` of another shape");
        let (data, needed) = match self.a {
            MatrixA::Rows { data, stride } => (data, self.rows.saturating_sub(1) * stride + self.depth),
            MatrixA::Columns { data, stride } => (data, self.depth.saturating_sub(1) * stride + self.rows),
        };
        assert!(data.len() >= needed || self.rows == 0 || self.depth == 0, "`A` too short");
        assert!(
            !self.accumulate || (self.epilogue.bias.is_none() && !self.epilogue.continues()),
            "an epilogue of a part of the sum"
        );
        for vector in [self.epilogue.bias, self.epilogue.scale].into_iter().flatten() {
            assert_eq!(vector.len(), self.columns);
        }
        if let Some(residual) = self.epilogue.residual {
            assert_eq!(residual.len(), self.rows * self.columns);
        }
        if let Some(norm) = self.norm {
            assert_eq!(norm.weight.len(), self.depth);
            assert!(matches!(self.a, MatrixA::Rows { .. }), "a norm needs whole rows");
        }
    }

    fn tiles_in_cache(&self, isa: Isa) -> usize {
        (A_IN_CACHE / (self.depth.clamp(1, isa.depth_block(self.depth)) * isa.tile_rows())).max(1)
    }

    /// Into how many parts rows and columns are cut: enough tasks that a slow thread does not hold up the others, few
    /// enough that packing the rows again for each column part costs little.
    fn split(&self, isa: Isa, threads: usize, tiles: usize, panels: usize) -> (usize, usize) {
        let wanted = 2 * threads;
        let row_parts = tiles.div_ceil(self.tiles_in_cache(isa)).max(tiles.min(threads));
        let row_parts = row_parts.next_multiple_of(threads).min(tiles);
        let column_parts = wanted.div_ceil(row_parts).min(panels.div_ceil(4)).max(1);
        (row_parts, column_parts)
    }

    /// Rows and panels of one task.
    fn run_part(
        &self,
        isa: Isa,
        (c, origin, stride): (DisjointMut<'_>, usize, usize),
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        SCRATCH.with_borrow_mut(|scratch| {
            let tiles = Tiles::new(isa.tile_rows(), rows.len());
            if let Some(norm) = self.norm {
                scratch.statistics.clear();
                let (a, depth, rows) = (self.a, self.depth, rows.clone());
                isa.run(Statistics { a, depth, norm, rows, out: &mut scratch.statistics });
            }
            let width = isa.panel();
            let mut edge = [0.0f32; MAX_TILE_ROWS * MAX_PANEL];
            let mut edge_bias = [0.0f32; MAX_PANEL];
            let at_once = isa.depth_block(self.depth);
            for start in (0..self.depth.max(1)).step_by(at_once) {
                let depth = at_once.min(self.depth - start);
                let last = start + depth >= self.depth;
                let a_rows = matrix_a::prepare(isa, (self.a, self.norm), scratch, &rows, start..start + depth);
                let shares = PrefetchShares::new(depth, tiles.count);
                let accumulate = self.accumulate || start > 0;
                for panel in panels.clone() {
                    let block = |panel: usize, start: usize| self.panels.block(isa, self.depth, (panel, start));
                    let b = match block(panel, start) {
                        Some(b) => b,
                        None => self.panels.widened(isa, self.depth, panel, start..start + depth, &mut scratch.widened),
                    };
                    // Widened panels are read from memory when they are widened, not here.
                    let next = if panel + 1 < panels.end {
                        block(panel + 1, start)
                    } else if last {
                        None
                    } else {
                        block(panels.start, start + depth)
                    };
                    let first = panel * width;
                    let columns = width.min(self.columns - first);
                    // An empty sum is the bias, or nothing.
                    let init = match self.epilogue.bias {
                        Some(bias) if columns == width => Init { data: bias[first..].as_ptr(), stride: 0 },
                        Some(bias) => {
                            edge_bias[..columns].copy_from_slice(&bias[first..]);
                            Init { data: edge_bias.as_ptr(), stride: 0 }
                        }
                        None => Init { data: std::ptr::null(), stride: 0 },
                    };
                    for t in 0..tiles.count {
                        let tile = tiles.rows(t);
                        let a = a_rows.tile(&tile);
                        let row = rows.start + tile.start;
                        let kernel = isa.tile(tile.len());
                        let prefetch = shares.of(t, next.map(|next| next.data), b.step);
                        if columns == width {
                            let place = origin + row * stride + first;
                            let corner = c.pointer(place);
                            debug_assert!(place + (tile.len() - 1) * stride + width <= c.len());
                            let init = if accumulate { Init { data: corner, stride } } else { init };
                            // SAFETY: the instruction set was detected; `a` leads to rows of `A`, whose length is
                            // checked on entry, or of the copy made above; `b` leads into `B`, whose
                            // extents are checked on entry, or into the panel widened above; the tile's rows are in
                            // `c`, and no other task writes these rows and columns; what sums begin with is the tile
                            // itself or a whole row of the bias.
                            unsafe { kernel(depth, a, b, corner, stride, init, prefetch) };
                        } else {
                            if accumulate {
                                for (i, edge) in edge.chunks_exact_mut(width).take(tile.len()).enumerate() {
                                    // SAFETY: these rows and columns are this task's alone.
                                    let c = unsafe { c.part(origin + (row + i) * stride + first, columns) };
                                    edge[..columns].copy_from_slice(c);
                                }
                            }
                            let corner = edge.as_mut_ptr();
                            let init = if accumulate { Init { data: corner, stride: width } } else { init };
                            // SAFETY: as above; `edge` has room for a whole tile.
                            unsafe { kernel(depth, a, b, corner, width, init, prefetch) };
                            for (i, edge) in edge.chunks_exact(width).take(tile.len()).enumerate() {
                                // SAFETY: as above.
                                let c = unsafe { c.part(origin + (row + i) * stride + first, columns) };
                                c.copy_from_slice(&edge[..columns]);
                            }
                        }
                        if last && self.epilogue.continues() {
                            isa.run(EpilogueTile {
                                epilogue: self.epilogue,
                                c: (c, origin, stride),
                                total: self.columns,
                                rows: row..row + tile.len(),
                                columns: first..first + columns,
                            });
                        }
                    }
                }
            }
        });
    }
}

/// What the epilogue does after the bias, over one tile of `C`.
struct EpilogueTile<'a> {
    epilogue: GemmEpilogue<'a>,
    /// The product, where it begins, and its row stride.
    c: (DisjointMut<'a>, usize, usize),
    /// Columns of the whole product, the residual's row stride.
    total: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Kernel for EpilogueTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let GemmEpilogue { activation, scale, residual, .. } = self.epilogue;
        let (out, origin, stride) = self.c;
        for row in self.rows {
            // SAFETY: a tile is finished by the task that computed it.
            let c = unsafe { out.part(origin + row * stride + self.columns.start, self.columns.len()) };
            for (i, c) in c.chunks_mut(L::N).enumerate() {
                let column = self.columns.start + i * L::N;
                let mut v = l.load_part(c);
                if let Some(activation) = activation {
                    v = math::activate(l, activation, v);
                }
                if let Some(scale) = scale {
                    v = l.mul(v, l.load_part(&scale[column..self.columns.end]));
                }
                if let Some(residual) = residual {
                    let end = row * self.total + self.columns.end;
                    v = l.add(v, l.load_part(&residual[row * self.total + column..end]));
                }
                l.store_part(c, v);
            }
        }
    }
}
