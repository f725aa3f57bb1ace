//! Where rows of a matrix fall in the processor's caches, and scratch memory that a thread uses again.

use crate::device::cpu::buffer::Buffer;

/// Numbers in a cache line.
pub(super) const LINE: usize = 16;

/// Whether rows this far apart are in different sets of the L1 cache: a tile reads one line of each of its rows at a
/// time.
pub(super) fn spreads(stride: usize) -> bool {
    // Of 64 sets; four of them, with eight ways each, have room for the rows of a tile twice.
    !stride.is_multiple_of(LINE) || !(stride / LINE).is_multiple_of(32)
}

/// Whether a block of rows this far apart stays in the second cache, a strip of each, while tiles pass over it.
pub(super) fn stays(stride: usize) -> bool {
    // Rows a whole page apart would all fall into a few of its sets.
    !stride.is_multiple_of(LINE) || !(stride / LINE).is_multiple_of(64)
}

/// The distance at which rows of this length are in different sets of the cache: an odd number of lines.
pub(super) fn spread(depth: usize) -> usize {
    LINE * (depth.div_ceil(LINE) | 1)
}

/// Memory that a thread reuses: a copy of rows of `A`, and panels of `B` in 32 bits.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) a: Option<Buffer>,
    pub(super) widened: Option<Buffer>,
    pub(super) statistics: Vec<(f32, f32)>,
}

/// Scratch memory of at least this length.
pub(super) fn grown(buffer: &mut Option<Buffer>, length: usize) -> &mut [f32] {
    let buffer = buffer.get_or_insert_with(|| Buffer::zeros(0));
    buffer.set_len(length);
    buffer.as_mut_slice()
}
