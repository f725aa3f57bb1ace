//! Right operands in panels, and how their numbers are kept.

use std::ops::Range;
use std::sync::Arc;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::gemm::{SERIAL_WORK, grown};
use super::lanes::{Isa, Kernel, Lanes};
use super::left::stays;
use super::shared::SharedMut;
use crate::device::cpu::Cpu;
use crate::device::cpu::buffer::Buffer;

/// The right operand `[depth, columns]` as it lies in memory.
#[derive(Clone, Copy)]
pub(crate) enum Rhs<'a> {
    /// Element `(k, n)` at `k · stride + n`.
    Rows { data: &'a [f32], stride: usize },
    /// Element `(k, n)` at `n · stride + k`: a weight `[out, in]`.
    Columns { data: &'a [f32], stride: usize },
}

/// How the numbers of packed weights are kept. Arithmetic is in 32 bits in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: half the memory, 8 bits of precision.
    Bf16,
    /// IEEE half floats: half the memory, 11 bits of precision, nothing beyond 65,504.
    F16,
}

/// The right operand, as a product reads it.
#[derive(Clone, Copy)]
pub(crate) enum Panels<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    F16(&'a [u16]),
    /// Not packed: element `(k, n)` at `k · stride + n`, and columns fill whole panels.
    Rows {
        data: &'a [f32],
        stride: usize,
    },
}

/// The right operand of a tile: element `(k, n)` lies at `k · step + n`.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub(super) data: *const f32,
    pub(super) step: usize,
}

impl<'a> Rhs<'a> {
    /// The operand as it lies, where a product reads it as fast: rows of whole panels, which do not share few sets of the
    /// second cache. Tiles pass over a panel many times, and find it there whether it was packed or not.
    pub(crate) fn as_it_lies(self, isa: Isa, columns: usize) -> Option<Panels<'a>> {
        match self {
            Rhs::Rows { data, stride } if columns.is_multiple_of(isa.panel()) && stays(stride) => {
                Some(Panels::Rows { data, stride })
            }
            _ => None,
        }
    }
}

/// A right operand that a product can read: as it lies where that serves as well, packed otherwise.
pub(crate) enum Operand<'a> {
    AsItLies(Panels<'a>),
    Packed(Arc<Buffer>),
}

impl<'a> Operand<'a> {
    /// Of `[depth, columns]`; what has to be packed goes into recycled memory, on all threads.
    pub(crate) fn new(cpu: &Cpu, rhs: Rhs<'a>, depth: usize, columns: usize) -> Self {
        Operand::or_packed(cpu.isa(), rhs, columns, || {
            cpu.filled(packed_len(cpu.isa(), depth, columns), |out| pack_rhs_into(cpu, rhs, depth, columns, out))
        })
    }

    /// As [`Operand::new`], where somebody else does the packing.
    pub(crate) fn or_packed(isa: Isa, rhs: Rhs<'a>, columns: usize, pack: impl FnOnce() -> Arc<Buffer>) -> Self {
        rhs.as_it_lies(isa, columns).map_or_else(|| Operand::Packed(pack()), Operand::AsItLies)
    }

    pub(crate) fn panels(&self) -> Panels<'_> {
        match self {
            Operand::AsItLies(panels) => *panels,
            Operand::Packed(panels) => Panels::F32(panels.as_slice()),
        }
    }
}

impl<'a> Panels<'a> {
    /// Whether this is an operand of such extents.
    pub(super) fn fits(&self, isa: Isa, depth: usize, columns: usize) -> bool {
        let packed = packed_len(isa, depth, columns);
        match *self {
            Panels::F32(panels) => panels.len() == packed,
            Panels::Bf16(panels) | Panels::F16(panels) => panels.len() == packed,
            Panels::Rows { data, stride } => {
                columns.is_multiple_of(isa.panel())
                    && (depth == 0 || columns == 0 || data.len() >= (depth - 1) * stride + columns)
            }
        }
    }

    /// A panel from one step of the depth on, where it is in 32 bits.
    pub(super) fn block(&self, isa: Isa, depth: usize, (panel, start): (usize, usize)) -> Option<Right> {
        let width = isa.panel();
        match *self {
            Panels::F32(panels) => {
                let data = panels.as_ptr().wrapping_add((panel * depth + start) * width);
                Some(Right { data, step: width })
            }
            Panels::Rows { data, stride } => {
                Some(Right { data: data.as_ptr().wrapping_add(start * stride + panel * width), step: stride })
            }
            Panels::Bf16(_) | Panels::F16(_) => None,
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
    ) -> Right {
        let width = isa.panel();
        let [start, end] = [steps.start, steps.end].map(|step| (panel * depth + step) * width);
        let out = grown(scratch, end - start);
        self.widen(isa, start..end, out);
        Right { data: out.as_ptr(), step: width }
    }

    /// A range of packed numbers as 32-bit floats.
    fn widen(&self, isa: Isa, range: Range<usize>, out: &mut [f32]) {
        match *self {
            Panels::F32(panels) => out.copy_from_slice(&panels[range]),
            Panels::Bf16(panels) => isa.run(Widen { panels: &panels[range], out }),
            Panels::F16(panels) => panels[range].reinterpret_cast::<half::f16>().convert_to_f32_slice(out),
            Panels::Rows { .. } => unreachable!("not packed"),
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

/// The right operand, packed in panels.
pub(crate) struct PackedRhs {
    panels: Kept,
    pub(super) depth: usize,
    pub(super) columns: usize,
}

enum Kept {
    F32(Buffer),
    Bf16(Vec<u16>),
    F16(Vec<u16>),
}

impl PackedRhs {
    pub(crate) fn panels(&self) -> Panels<'_> {
        match &self.panels {
            Kept::F32(panels) => Panels::F32(panels.as_slice()),
            Kept::Bf16(panels) => Panels::Bf16(panels),
            Kept::F16(panels) => Panels::F16(panels),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.panels {
            Kept::F32(panels) => 4 * panels.len(),
            Kept::Bf16(panels) | Kept::F16(panels) => 2 * panels.len(),
        }
    }

    /// The matrix `[columns, depth]` that was packed, with what its storage kept of it.
    pub(crate) fn unpacked(&self, isa: Isa) -> Vec<f32> {
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

    /// The same in another storage.
    pub(crate) fn stored_as(self, storage: Storage) -> Self {
        let Kept::F32(panels) = &self.panels else { return self };
        let narrow = |narrow: fn(f32) -> u16| panels.as_slice().iter().map(|&x| narrow(x)).collect();
        let panels = match storage {
            Storage::F32 => return self,
            Storage::Bf16 => Kept::Bf16(narrow(|x| half::bf16::from_f32(x).to_bits())),
            Storage::F16 => Kept::F16(narrow(|x| half::f16::from_f32(x).to_bits())),
        };
        PackedRhs { panels, ..self }
    }
}

/// Numbers that a packed right operand takes.
pub(crate) fn packed_len(isa: Isa, depth: usize, columns: usize) -> usize {
    columns.next_multiple_of(isa.panel()) * depth
}

/// Packs a right operand into panels, on all threads.
pub(crate) fn pack_rhs_parallel(cpu: &Cpu, rhs: Rhs<'_>, depth: usize, columns: usize) -> PackedRhs {
    let mut panels = Buffer::zeros(packed_len(cpu.isa(), depth, columns));
    pack_rhs_into(cpu, rhs, depth, columns, panels.as_mut_slice());
    PackedRhs { panels: Kept::F32(panels), depth, columns }
}

/// Packs a right operand into memory that is there already, on all threads.
pub(crate) fn pack_rhs_into(cpu: &Cpu, rhs: Rhs<'_>, depth: usize, columns: usize, panels: &mut [f32]) {
    let width = cpu.isa().panel();
    assert_eq!(panels.len(), packed_len(cpu.isa(), depth, columns));
    let count = columns.div_ceil(width);
    let tasks = if depth * columns < SERIAL_WORK { 1 } else { (4 * cpu.threads()).min(count) };
    let shared = SharedMut::new(panels);
    cpu.parallel(tasks, |task| {
        for panel in count * task / tasks..count * (task + 1) / tasks {
            pack_panel(cpu.isa(), rhs, depth, columns, panel, shared.part(panel * width * depth, width * depth));
        }
    });
}

/// Packs a right operand on the calling thread.
pub(crate) fn pack_rhs_serial(isa: Isa, rhs: Rhs<'_>, depth: usize, columns: usize, panels: &mut [f32]) {
    let width = isa.panel();
    for (panel, out) in panels.chunks_exact_mut((width * depth).max(1)).enumerate() {
        pack_panel(isa, rhs, depth, columns, panel, out);
    }
}

/// Copies `count` numbers of every row to rows of `width`, with zeros beyond.
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

pub(super) fn pack_panel(isa: Isa, rhs: Rhs<'_>, depth: usize, columns: usize, panel: usize, out: &mut [f32]) {
    if depth == 0 {
        return;
    }
    let width = isa.panel();
    let first = panel * width;
    let count = width.min(columns - first);
    match rhs {
        Rhs::Rows { data, stride } => {
            isa.run(CopyRows { data: &data[first..], stride, count, width, out });
        }
        Rhs::Columns { data, stride } => {
            let data = &data[first * stride..];
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => {
                    assert!(data.len() >= (count - 1) * stride + depth && out.len() >= depth * width);
                    // SAFETY: the instruction set was detected; lengths are checked on the line above.
                    unsafe { super::avx512::pack_columns(data.as_ptr(), stride, count, depth, out.as_mut_ptr()) };
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
