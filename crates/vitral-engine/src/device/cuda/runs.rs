//! The groups of an optimizer step, as its kernels take them.

use super::memory::Memory;
use crate::device::backend::UpdateGroup;

/// The groups of an optimizer step, cut into runs of a few thousand values.
#[derive(Clone)]
pub(super) struct RunTable {
    pub(super) groups: Vec<UpdateGroup>,
    /// Three 64-bit words a run: the start; length and the first run of its group; rate and decay.
    pub(super) memory: Memory,
    /// How many runs the group has that begins at a run.
    pub(super) tensors: Memory,
    /// For each group, its first run and how many it has.
    pub(super) of_groups: Vec<(usize, usize)>,
}
