//! Matrix products: `C = epilogue(norm(A) · B)`.
//!
//! `B` (the weights) lies in panels `[k][NR]`, packed once, or row by row where that serves as well. A task takes some rows of
//! `A` that stay in the L2 cache, and passes every panel over them. Rows are read as they lie, and columns too; they are copied
//! where a norm is taken of them on the way or where their distance would put them all in a few sets of a cache. The depth is
//! cut into blocks of a fixed length, so each element of `C` is one chain of multiply-adds that begins with the bias, in the
//! same order whatever the number of threads, rows or tiles: results do not depend on how the work was cut.

use std::cell::RefCell;
use std::ops::Range;

use super::lanes::{Isa, Kernel, Lanes};
use super::left::{Left, Lhs, Statistics};
use super::pack::{PackedRhs, Panels, Right};
use super::shared::SharedMut;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::{Cpu, math};

/// Depth of a block: two blocks of a panel and a tile of `A` fit the L1 cache.
const DEPTH_BLOCK: usize = 384;
/// Numbers of packed `A` that a task keeps in the L2 cache.
const LHS_IN_CACHE: usize = 48 * 1024;
/// Multiply-adds below which a second thread costs more than it brings.
pub(crate) const SERIAL_WORK: usize = 100_000;
/// Most rows of any tile.
pub(super) const MAX_TILE_ROWS: usize = 14;
/// Widest panel.
const MAX_PANEL: usize = 32;

type Tile = unsafe fn(usize, Left, Right, *mut f32, usize, Begin, Ahead);

/// What the sums of a tile begin with: row `i` lies at `i · stride`; nothing where the pointer is null.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    pub(super) data: *const f32,
    pub(super) stride: usize,
}

/// Steps of depth between two fetches ahead.
pub(super) const AHEAD_EVERY: usize = 4;

/// What a tile fetches into the cache for those after it: weights are larger than any cache, and waiting for each panel
/// from memory would cost a fifth of the time.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Where the tile's share of the next panel begins.
    pub(super) from: *const f32,
    /// Rows of the panel every [`AHEAD_EVERY`] steps.
    pub(super) rows: usize,
}

/// How tiles share out the fetching of a panel block between them.
#[derive(Clone, Copy)]
struct Shares {
    depth: usize,
    /// Rows every [`AHEAD_EVERY`] steps, and of a whole tile.
    rows: usize,
    each: usize,
}

impl Shares {
    fn new(depth: usize, tiles: usize) -> Self {
        let fetches = depth.div_ceil(AHEAD_EVERY).max(1);
        let rows = depth.div_ceil(tiles.max(1) * fetches);
        Shares { depth, rows, each: rows * fetches }
    }

    /// The share of one tile of the block that begins at `next` and has rows `step` apart.
    fn of(self, tile: usize, next: Option<*const f32>, step: usize) -> Ahead {
        let first = tile * self.each;
        match next {
            Some(next) if first < self.depth => Ahead { from: next.wrapping_add(first * step), rows: self.rows },
            _ => Ahead { from: std::ptr::null(), rows: 0 },
        }
    }
}

/// How rows are cut into tiles that differ by one at most.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub(super) count: usize,
    least: usize,
    /// Tiles with one row more, the first ones.
    longer: usize,
}

impl Tiles {
    pub(super) fn new(isa: Isa, rows: usize) -> Self {
        let count = rows.div_ceil(isa.tile_rows());
        Tiles { count, least: rows / count.max(1), longer: rows % count.max(1) }
    }

    pub(super) fn rows(self, tile: usize) -> Range<usize> {
        let start = tile * self.least + tile.min(self.longer);
        start..start + self.least + usize::from(tile < self.longer)
    }
}

impl Isa {
    /// Most rows of a tile.
    pub(crate) const fn tile_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 14,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 6,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 12,
            Isa::Portable => 4,
        }
    }

    /// Columns of a panel.
    pub(crate) const fn panel(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 32,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 16,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 8,
            Isa::Portable => 8,
        }
    }

    /// The tile kernel for this many rows.
    fn tile(self, rows: usize) -> Tile {
        macro_rules! table {
            ($module:ident: $($rows:literal)+) => {{
                const TILES: &[Tile] = &[$(super::$module::tile::<$rows>),+];
                TILES[rows - 1]
            }};
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => table!(avx512: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => table!(avx2: 1 2 3 4 5 6),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => table!(neon: 1 2 3 4 5 6 7 8 9 10 11 12),
            Isa::Portable => table!(portable: 1 2 3 4),
        }
    }
}

/// A norm over the depth, applied while the left operand is packed.
#[derive(Clone, Copy)]
pub(crate) struct NormOnLoad<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) epsilon: f32,
    /// Root mean square only; no mean is taken away.
    pub(crate) rms: bool,
}

/// A non-linearity in the epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU (arXiv:1606.08415), `x Φ(x)`.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
}

/// What happens to the product before it is stored: `residual + scale · activation(product + bias)`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Option<Activation>,
    pub(crate) scale: Option<&'a [f32]>,
    /// `[rows, columns]`, contiguous.
    pub(crate) residual: Option<&'a [f32]>,
}

/// Memory that a thread reuses: a copy of rows of the left operand, and panels in 32 bits.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) left: Option<Buffer>,
    widened: Option<Buffer>,
    pub(super) statistics: Vec<(f32, f32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

pub(super) fn grown(buffer: &mut Option<Buffer>, length: usize) -> &mut [f32] {
    let buffer = buffer.get_or_insert_with(|| Buffer::zeros(0));
    buffer.set_len(length);
    buffer.as_mut_slice()
}

/// One matrix product.
#[derive(Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
    pub(crate) lhs: Lhs<'a>,
    pub(crate) norm: Option<NormOnLoad<'a>>,
    /// The right operand.
    pub(crate) panels: Panels<'a>,
    pub(crate) epilogue: Epilogue<'a>,
    /// Adds to what `C` holds. Not together with an epilogue.
    pub(crate) accumulate: bool,
}

impl<'a> Gemm<'a> {
    /// The product with a packed right operand, nothing else.
    pub(crate) fn new(rows: usize, lhs: Lhs<'a>, rhs: &'a PackedRhs) -> Self {
        Gemm {
            rows,
            columns: rhs.columns,
            depth: rhs.depth,
            lhs,
            norm: None,
            panels: rhs.panels(),
            epilogue: Epilogue::default(),
            accumulate: false,
        }
    }

    /// Computes `C`, `[rows, columns]` and contiguous, on all threads.
    pub(crate) fn run(&self, cpu: &Cpu, c: &mut [f32]) {
        assert_eq!(c.len(), self.rows * self.columns, "product is {} × {}", self.rows, self.columns);
        self.run_strided(cpu, c, self.columns);
    }

    /// Computes `C` on all threads into rows `stride` apart, and leaves what lies between them as it is.
    pub(crate) fn run_strided(&self, cpu: &Cpu, c: &mut [f32], stride: usize) {
        let isa = cpu.isa();
        self.check(isa);
        if self.rows * self.columns == 0 {
            return;
        }
        assert!(stride >= self.columns && c.len() >= (self.rows - 1) * stride + self.columns);
        let tiles = self.rows.div_ceil(isa.tile_rows());
        let panels = self.columns.div_ceil(isa.panel());
        let (row_parts, column_parts) = if self.rows * self.columns * self.depth < SERIAL_WORK || cpu.threads() == 1 {
            (tiles.div_ceil(self.tiles_in_cache(isa)), 1)
        } else {
            self.split(isa, cpu.threads(), tiles, panels)
        };
        let c = SharedMut::new(c);
        cpu.parallel(row_parts * column_parts, |task| {
            let (i, j) = (task / column_parts, task % column_parts);
            let rows = self.rows * i / row_parts..self.rows * (i + 1) / row_parts;
            let panels = panels * j / column_parts..panels * (j + 1) / column_parts;
            self.run_part(isa, c, stride, rows, panels);
        });
    }

    /// Computes `C` on the calling thread, with any row stride.
    pub(crate) fn run_serial(&self, isa: Isa, c: SharedMut<'_>, start: usize, stride: usize) {
        self.check(isa);
        if self.rows * self.columns == 0 {
            return;
        }
        assert!(stride >= self.columns && c.len() - start >= (self.rows - 1) * stride + self.columns);
        let c = SharedMut::new(c.part(start, (self.rows - 1) * stride + self.columns));
        self.run_part(isa, c, stride, 0..self.rows, 0..self.columns.div_ceil(isa.panel()));
    }

    fn check(&self, isa: Isa) {
        assert!(self.panels.fits(isa, self.depth, self.columns), "right operand of another shape");
        let (data, needed) = match self.lhs {
            Lhs::Rows { data, stride } => (data, self.rows.saturating_sub(1) * stride + self.depth),
            Lhs::Columns { data, stride } => (data, self.depth.saturating_sub(1) * stride + self.rows),
        };
        assert!(data.len() >= needed || self.rows == 0 || self.depth == 0, "left operand too short");
        assert!(
            !self.accumulate || (self.epilogue.bias.is_none() && !self.epilogue.goes_on()),
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
            assert!(matches!(self.lhs, Lhs::Rows { .. }), "a norm needs whole rows");
        }
    }

    fn tiles_in_cache(&self, isa: Isa) -> usize {
        (LHS_IN_CACHE / (self.depth.clamp(1, DEPTH_BLOCK) * isa.tile_rows())).max(1)
    }

    /// Into how many parts rows and columns are cut: enough tasks that a slow thread holds up nobody, few enough that
    /// packing the rows again for each column part costs little.
    fn split(&self, isa: Isa, threads: usize, tiles: usize, panels: usize) -> (usize, usize) {
        let wanted = 2 * threads;
        let row_parts = tiles.div_ceil(self.tiles_in_cache(isa)).max(tiles.min(threads));
        let row_parts = row_parts.next_multiple_of(threads).min(tiles);
        let column_parts = wanted.div_ceil(row_parts).min(panels.div_ceil(4)).max(1);
        (row_parts, column_parts)
    }

    /// Rows and panels of one task.
    fn run_part(&self, isa: Isa, c: SharedMut<'_>, stride: usize, rows: Range<usize>, panels: Range<usize>) {
        SCRATCH.with_borrow_mut(|scratch| {
            let tiles = Tiles::new(isa, rows.len());
            if let Some(norm) = self.norm {
                scratch.statistics.clear();
                isa.run(Statistics { gemm: self, norm, rows: rows.clone(), out: &mut scratch.statistics });
            }
            let width = isa.panel();
            let mut edge = [0.0f32; MAX_TILE_ROWS * MAX_PANEL];
            let mut edge_bias = [0.0f32; MAX_PANEL];
            for start in (0..self.depth.max(1)).step_by(DEPTH_BLOCK) {
                let depth = DEPTH_BLOCK.min(self.depth - start);
                let last = start + depth >= self.depth;
                let left = self.left(isa, scratch, &rows, start..start + depth);
                let shares = Shares::new(depth, tiles.count);
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
                    let begin = match self.epilogue.bias {
                        Some(bias) if columns == width => Begin { data: bias[first..].as_ptr(), stride: 0 },
                        Some(bias) => {
                            edge_bias[..columns].copy_from_slice(&bias[first..]);
                            Begin { data: edge_bias.as_ptr(), stride: 0 }
                        }
                        None => Begin { data: std::ptr::null(), stride: 0 },
                    };
                    for t in 0..tiles.count {
                        let tile = tiles.rows(t);
                        let a = left.tile(&tile);
                        let row = rows.start + tile.start;
                        let kernel = isa.tile(tile.len());
                        let ahead = shares.of(t, next.map(|next| next.data), b.step);
                        if columns == width {
                            let corner = c.pointer(row * stride + first);
                            debug_assert!((row + tile.len() - 1) * stride + first + width <= c.len());
                            let begin = if accumulate { Begin { data: corner, stride } } else { begin };
                            // SAFETY: the instruction set was detected; `a` leads to rows of `lhs`, whose length is
                            // checked on entry, or of the copy made above; `b` leads into the right operand, whose
                            // extents are checked on entry, or into the panel widened above; the tile's rows lie in
                            // `c`, and no other task writes these rows and columns; what sums begin with is the tile
                            // itself or a whole row of the bias.
                            unsafe { kernel(depth, a, b, corner, stride, begin, ahead) };
                        } else {
                            if accumulate {
                                for (i, edge) in edge.chunks_exact_mut(width).take(tile.len()).enumerate() {
                                    edge[..columns].copy_from_slice(c.part((row + i) * stride + first, columns));
                                }
                            }
                            let corner = edge.as_mut_ptr();
                            let begin = if accumulate { Begin { data: corner, stride: width } } else { begin };
                            // SAFETY: as above; `edge` has room for a whole tile.
                            unsafe { kernel(depth, a, b, corner, width, begin, ahead) };
                            for (i, edge) in edge.chunks_exact(width).take(tile.len()).enumerate() {
                                c.part((row + i) * stride + first, columns).copy_from_slice(&edge[..columns]);
                            }
                        }
                        if last && self.epilogue.goes_on() {
                            isa.run(Finish {
                                epilogue: self.epilogue,
                                c,
                                stride,
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

impl Epilogue<'_> {
    /// Whether more follows than the bias, which sums begin with.
    fn goes_on(&self) -> bool {
        self.activation.is_some() || self.scale.is_some() || self.residual.is_some()
    }
}

/// What the epilogue does after the bias, over one tile of `C`.
struct Finish<'a> {
    epilogue: Epilogue<'a>,
    c: SharedMut<'a>,
    stride: usize,
    /// Columns of the whole product, the residual's row stride.
    total: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Epilogue { activation, scale, residual, .. } = self.epilogue;
        for row in self.rows {
            let c = self.c.part(row * self.stride + self.columns.start, self.columns.len());
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
