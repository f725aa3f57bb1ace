//! Matrix `B` of a product `A · B`: in panels or in place, and how its values are stored.

use std::ops::Range;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::cache::{grown, stays};
use super::isa::Isa;
use super::lanes::{Kernel, Lanes};
use super::narrow::{PackedWords, WordPanels};
use super::tile::BTile;
use crate::device::cpu::buffer::Buffer;
use crate::dtype::DType;

/// `B`, `[depth, columns]`, as it is stored.
#[derive(Clone, Copy)]
pub(crate) enum MatrixB<'a> {
    /// Element `(k, n)` at `k · stride + n`.
    Rows { data: &'a [f32], stride: usize },
    /// Element `(k, n)` at `n · stride + k`: a weight `[out, in]`.
    Columns { data: &'a [f32], stride: usize },
}

/// `B` as a product reads it.
#[derive(Clone, Copy)]
pub(crate) enum Panels<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    F16(&'a [u16]),
    /// For products in 16 or 8 bits.
    Words(WordPanels<'a>),
    /// Not packed: element `(k, n)` at `k · stride + n`, and columns fill whole panels.
    Rows {
        data: &'a [f32],
        stride: usize,
    },
}

impl<'a> MatrixB<'a> {
    /// The matrix in place, where a product reads it as fast: rows of whole panels, which do not share few sets of the
    /// second cache. Tiles pass over a panel many times, and find it there whether it was packed or not.
    pub(crate) fn unpacked(self, isa: Isa, columns: usize) -> Option<Panels<'a>> {
        match self {
            MatrixB::Rows { data, stride } if columns.is_multiple_of(isa.panel()) && stays(stride) => {
                Some(Panels::Rows { data, stride })
            }
            _ => None,
        }
    }
}

impl<'a> Panels<'a> {
    /// Whether this is a matrix of such extents.
    pub(super) fn fits(&self, isa: Isa, depth: usize, columns: usize) -> bool {
        let packed = packed_len(isa, depth, columns);
        match *self {
            Panels::F32(panels) => panels.len() == packed,
            Panels::Bf16(panels) | Panels::F16(panels) => panels.len() == packed,
            Panels::Words(panels) => panels.fits(isa, depth, columns),
            Panels::Rows { data, stride } => {
                columns.is_multiple_of(isa.panel())
                    && (depth == 0 || columns == 0 || data.len() >= (depth - 1) * stride + columns)
            }
        }
    }

    /// A panel from one step of the depth on, where it is in 32 bits.
    pub(super) fn block(&self, isa: Isa, depth: usize, (panel, start): (usize, usize)) -> Option<BTile> {
        let width = isa.panel();
        match *self {
            Panels::F32(panels) => {
                let data = panels.as_ptr().wrapping_add((panel * depth + start) * width);
                Some(BTile { data, step: width })
            }
            Panels::Rows { data, stride } => {
                Some(BTile { data: data.as_ptr().wrapping_add(start * stride + panel * width), step: stride })
            }
            Panels::Bf16(_) | Panels::F16(_) | Panels::Words(_) => None,
        }
    }

    /// Panels of some columns, the first of which begins one.
    pub(crate) fn columns(self, isa: Isa, depth: usize, columns: Range<usize>) -> Self {
        assert!(columns.start.is_multiple_of(isa.panel()), "column {} does not begin a panel", columns.start);
        let range = columns.start * depth..columns.end.next_multiple_of(isa.panel()) * depth;
        match self {
            Panels::F32(panels) => Panels::F32(&panels[range]),
            Panels::Bf16(panels) => Panels::Bf16(&panels[range]),
            Panels::F16(panels) => Panels::F16(&panels[range]),
            Panels::Words(panels) => Panels::Words(panels.columns(isa, depth, columns)),
            Panels::Rows { data, stride } => Panels::Rows { data: &data[columns.start..], stride },
        }
    }

    /// Some steps of the depth of a panel, widened into `scratch`.
    pub(super) fn widened(
        &self,
        isa: Isa,
        depth: usize,
        panel: usize,
        steps: Range<usize>,
        scratch: &mut Option<Buffer>,
    ) -> BTile {
        let width = isa.panel();
        let [start, end] = [steps.start, steps.end].map(|step| (panel * depth + step) * width);
        let out = grown(scratch, end - start);
        self.widen(isa, start..end, out);
        BTile { data: out.as_ptr(), step: width }
    }

    /// A range of packed values as 32-bit floats.
    fn widen(&self, isa: Isa, range: Range<usize>, out: &mut [f32]) {
        match *self {
            Panels::F32(panels) => out.copy_from_slice(&panels[range]),
            Panels::Bf16(panels) => isa.run(Widen { panels: &panels[range], out }),
            Panels::F16(panels) => panels[range].reinterpret_cast::<half::f16>().convert_to_f32_slice(out),
            Panels::Words(_) | Panels::Rows { .. } => unreachable!("products read them as they are"),
        }
    }
}

/// bfloat16 to 32-bit floats: the upper half of their bits.
struct Widen<'a> {
    panels: &'a [u16],
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for (out, &bits) in self.out.iter_mut().zip(self.panels) {
            *out = f32::from_bits(u32::from(bits) << 16);
        }
    }
}

/// `B`, packed in panels.
pub(crate) struct PackedB {
    panels: StoredPanels,
    pub(super) depth: usize,
    pub(super) columns: usize,
}

enum StoredPanels {
    F32(Buffer),
    Bf16(Vec<u16>),
    F16(Vec<u16>),
    Words(Box<PackedWords>),
}

impl PackedB {
    pub(crate) fn panels(&self) -> Panels<'_> {
        match &self.panels {
            StoredPanels::F32(panels) => Panels::F32(panels.as_slice()),
            StoredPanels::Bf16(panels) => Panels::Bf16(panels),
            StoredPanels::F16(panels) => Panels::F16(panels),
            StoredPanels::Words(words) => Panels::Words(words.panels()),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.panels {
            StoredPanels::F32(panels) => 4 * panels.len(),
            StoredPanels::Bf16(panels) | StoredPanels::F16(panels) => 2 * panels.len(),
            StoredPanels::Words(words) => words.bytes(),
        }
    }

    /// The matrix `[columns, depth]` that was packed, rounded to what it is stored in.
    pub(crate) fn to_rows(&self, isa: Isa) -> Vec<f32> {
        if let StoredPanels::Words(words) = &self.panels {
            return words.to_rows(isa, self.depth, self.columns);
        }
        let width = isa.panel();
        let mut panels = vec![0.0; packed_len(isa, self.depth, self.columns)];
        self.panels().widen(isa, 0..panels.len(), &mut panels);
        let mut matrix = Vec::with_capacity(self.columns * self.depth);
        for n in 0..self.columns {
            let column = &panels[n / width * self.depth * width + n % width..];
            matrix.extend(column.iter().step_by(width).take(self.depth));
        }
        matrix
    }

    /// Panels in 32 bits, stored in another type.
    pub(crate) fn new(panels: Buffer, (depth, columns): (usize, usize), dtype: DType) -> Self {
        let narrow = |narrow: fn(f32) -> u16| panels.as_slice().iter().map(|&x| narrow(x)).collect();
        let panels = match dtype {
            DType::F32 => StoredPanels::F32(panels),
            DType::Bf16 => StoredPanels::Bf16(narrow(|x| half::bf16::from_f32(x).to_bits())),
            DType::F16 => StoredPanels::F16(narrow(|x| half::f16::from_f32(x).to_bits())),
            DType::I8 => unreachable!("packed in words"),
        };
        PackedB { panels, depth, columns }
    }

    /// Words.
    pub(super) fn narrow(words: PackedWords, (depth, columns): (usize, usize)) -> Self {
        PackedB { panels: StoredPanels::Words(Box::new(words)), depth, columns }
    }
}

/// Numbers that `B` takes in panels.
pub(crate) fn packed_len(isa: Isa, depth: usize, columns: usize) -> usize {
    columns.next_multiple_of(isa.panel()) * depth
}

/// Packs `B` on the calling thread.
pub(crate) fn pack_serial(isa: Isa, b: MatrixB<'_>, depth: usize, columns: usize, panels: &mut [f32]) {
    let width = isa.panel();
    for (panel, out) in panels.chunks_exact_mut((width * depth).max(1)).enumerate() {
        pack_panel(isa, b, depth, columns, panel, out);
    }
}

/// Copies `count` values of every row to rows of `width`, with zeros beyond.
struct CopyRows<'a> {
    data: &'a [f32],
    stride: usize,
    count: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        const STEPS_AHEAD: usize = 16;
        for (k, out) in self.out.chunks_exact_mut(self.width).enumerate() {
            let source = &self.data[k * self.stride..][..self.count];
            for (i, out) in out.chunks_exact_mut(L::N).enumerate() {
                l.prefetch(source, i * L::N + STEPS_AHEAD * self.stride);
                l.store(out, l.load_part(source.get(i * L::N..).unwrap_or_default()));
            }
        }
    }
}

pub(super) fn pack_panel(isa: Isa, b: MatrixB<'_>, depth: usize, columns: usize, panel: usize, out: &mut [f32]) {
    if depth == 0 {
        return;
    }
    let width = isa.panel();
    let first = panel * width;
    let count = width.min(columns - first);
    match b {
        MatrixB::Rows { data, stride } => {
            isa.run(CopyRows { data: &data[first..], stride, count, width, out });
        }
        MatrixB::Columns { data, stride } => {
            let data = &data[first * stride..];
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(_) => {
                    assert!(data.len() >= (count - 1) * stride + depth && out.len() >= depth * width);
                    // SAFETY: the instruction set was detected; lengths are checked on the line above.
                    unsafe { super::avx512::pack_columns(data.as_ptr(), stride, count, depth, out.as_mut_ptr()) };
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 { .. } => {
                    assert!(data.len() >= (count - 1) * stride + depth && out.len() >= depth * width);
                    // SAFETY: as above.
                    unsafe { super::avx2::pack_columns(data.as_ptr(), stride, count, depth, out.as_mut_ptr()) };
                }
                _ => {
                    // Sixteen steps of depth at a time: whole cache lines on both sides.
                    const STEP: usize = 16;
                    for (block, start) in out.chunks_mut(STEP * width).zip((0..depth).step_by(STEP)) {
                        for n in 0..count {
                            let column = &data[n * stride + start..][..block.len() / width];
                            for (row, &value) in block.chunks_exact_mut(width).zip(column) {
                                row[n] = value;
                            }
                        }
                        for row in block.chunks_exact_mut(width) {
                            row[count..].fill(0.0);
                        }
                    }
                }
            }
        }
    }
}
