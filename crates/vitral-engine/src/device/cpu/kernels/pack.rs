//! Packing `B` on all threads, and the choice whether to pack it at all.

use std::sync::Arc;

use super::isa::Isa;
use super::matrix_b::{MatrixB, PackedB, Panels, packed_len};
use super::narrow::{Words, pack_words};
use super::panel_kind::PanelKind;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::processor::{Processor, SERIAL_WORK};
use crate::dtype::DType;

/// `B` as a product can read it: in place where that serves as well, packed otherwise.
pub(crate) enum ReadyB<'a> {
    InPlace(Panels<'a>),
    Packed(Arc<Buffer>, PanelKind),
}

impl<'a> ReadyB<'a> {
    /// `B` of `[depth, columns]` in 32 bits; panels go into recycled memory, on all threads.
    pub(crate) fn new(cpu: &Processor, b: MatrixB<'a>, depth: usize, columns: usize) -> Self {
        ReadyB::of(cpu, PanelKind::Float, b, depth, columns)
    }

    /// As [`ReadyB::new`], in panels of any kind.
    pub(crate) fn of(cpu: &Processor, kind: PanelKind, b: MatrixB<'a>, depth: usize, columns: usize) -> Self {
        ReadyB::or_packed(cpu.isa(), kind, b, columns, || {
            cpu.filled(kind.packed_len(cpu.isa(), depth, columns), |out| pack_into(cpu, kind, b, [depth, columns], out))
        })
    }

    /// As [`ReadyB::of`], if packing is left to the caller.
    pub(crate) fn or_packed(
        isa: Isa,
        kind: PanelKind,
        b: MatrixB<'a>,
        columns: usize,
        pack: impl FnOnce() -> Arc<Buffer>,
    ) -> Self {
        let unpacked = if kind == PanelKind::Float { b.unpacked(isa, columns) } else { None };
        unpacked.map_or_else(|| ReadyB::Packed(pack(), kind), ReadyB::InPlace)
    }

    pub(crate) fn panels(&self) -> Panels<'_> {
        match self {
            ReadyB::InPlace(panels) => *panels,
            ReadyB::Packed(panels, kind) => kind.panels(panels.as_slice()),
        }
    }
}

/// Packs `B` into panels of its own, on all threads, and stores them in a type.
pub(crate) fn pack(cpu: &Processor, b: MatrixB<'_>, depth: usize, columns: usize, dtype: DType) -> PackedB {
    let mut panels = Buffer::zeros(packed_len(cpu.isa(), depth, columns));
    pack_into(cpu, PanelKind::Float, b, [depth, columns], panels.as_mut_slice());
    PackedB::new(panels, (depth, columns), dtype)
}

/// Packs a weight `[columns, depth]` for products in 16 or 8 bits, on all threads.
pub(crate) fn pack_narrow(cpu: &Processor, weight: &[f32], depth: usize, columns: usize, words: Words) -> PackedB {
    PackedB::narrow(pack_words(cpu, weight, (depth, columns), words), (depth, columns))
}

/// Packs `B` into memory that is there already, on all threads.
fn pack_into(cpu: &Processor, kind: PanelKind, b: MatrixB<'_>, extents: [usize; 2], panels: &mut [f32]) {
    let ([depth, columns], length) = (extents, kind.panel_len(cpu.isa(), extents[0]));
    assert_eq!(panels.len(), kind.packed_len(cpu.isa(), depth, columns));
    let grain = if depth * columns < SERIAL_WORK { usize::MAX } else { 1 };
    cpu.parallel_rows(panels, length, grain, |first, panels| {
        for (index, out) in panels.chunks_exact_mut(length.max(1)).enumerate() {
            kind.pack(cpu.isa(), b, extents, first + index, out);
        }
    });
}
