//! Matrices packed once for several passes.

use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::Buffer;
use super::kernels::{MatrixB, PanelKind, SharedPack};
use super::processor::Processor;

/// What the passes of one step share: each trainable matrix that has to be packed for a product is, when the first of
/// them needs it, and let go when the last had it. Where there are but two passes, side by side, few are kept at a
/// time; where some follow others, all are kept until the last. Values must not change meanwhile.
pub(super) struct PackCache {
    passes: usize,
    slots: Vec<[Mutex<Option<Slot>>; 2]>,
}

struct Slot {
    pack: Arc<SharedPack>,
    /// Passes that have not had it.
    left: usize,
}

/// What a matrix `[out, in]` is multiplied for.
#[derive(Clone, Copy)]
pub(super) enum Towards {
    /// Outputs: rows of `A` are as long as `in`.
    Output,
    /// Gradients of the input: rows of `A` are as long as `out`.
    Input,
}

impl PackCache {
    /// For so many passes over so many parameters.
    pub(super) fn new(parameters: usize, passes: usize) -> Self {
        PackCache { passes: passes.max(1), slots: (0..parameters).map(|_| Default::default()).collect() }
    }

    /// A matrix `B` `[depth, columns]` that is made of a parameter, packed.
    pub(super) fn packed(
        &self,
        cpu: &Processor,
        (parameter, towards): (usize, Towards),
        kind: PanelKind,
        (b, depth, columns): (MatrixB<'_>, usize, usize),
    ) -> Arc<Buffer> {
        let pack = {
            let mut slot = self.slots[parameter][towards as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let found = slot.get_or_insert_with(|| {
                let room = cpu.memory().take(kind.packed_len(cpu.isa(), depth, columns));
                let pack = SharedPack::new(room, |buffer| cpu.memory().register(buffer));
                Slot { pack: Arc::new(pack), left: self.passes }
            });
            found.left -= 1;
            let pack = Arc::clone(&found.pack);
            if found.left == 0 {
                *slot = None;
            }
            pack
        };
        cpu.parallel(cpu.threads(), |_| pack.help(cpu.isa(), kind, b, depth, columns));
        pack.whole(cpu.isa(), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::kernels::{Isa, ReadyB};
    use crate::random::normal;

    #[test]
    fn passes_side_by_side_get_what_one_alone_would_pack() {
        let cpu = Processor::new(2, Isa::available()[0]);
        for [out, width] in [[1, 1], [67, 130], [383, 96]] {
            let values: Vec<f32> = (0..out * width).map(|i| normal(1, i as u64)).collect();
            let packs = PackCache::new(1, 6);
            for (towards, b, depth, columns) in [
                (Towards::Output, MatrixB::Columns { data: &values, stride: width }, width, out),
                (Towards::Input, MatrixB::Rows { data: &values, stride: width }, out, width),
            ] {
                let ready = ReadyB::new(&cpu, b, depth, columns);
                let ReadyB::Packed(expected, kind) = ready else { continue };
                // Two passes more than were announced: the last are packed for again.
                std::thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| {
                            let packed = packs.packed(&cpu.alone(), (0, towards), kind, (b, depth, columns));
                            assert_eq!(packed.as_slice(), expected.as_slice());
                        });
                    }
                });
            }
        }
    }
}
