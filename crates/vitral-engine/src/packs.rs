//! Matrices packed once for several passes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::arena::{ParameterId, Parameters};
use crate::device::cpu::Cpu;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::kernels::{JointPack, Operand, Rhs, packed_len};

/// What the passes of one step share: each matrix that learns and has to be packed for a product is, when the first of them needs it, and let
/// go when the last had it. Where there are but two passes, side by side, few are kept at a time; where some follow others, all
/// are kept until the last. Values must not change meanwhile.
pub struct Packs {
    passes: usize,
    slots: Vec<[Mutex<Option<Slot>>; 2]>,
}

struct Slot {
    pack: Arc<JointPack>,
    /// Passes that have not had it.
    left: usize,
}

/// What a matrix `[out, in]` is multiplied for.
#[derive(Clone, Copy)]
pub(crate) enum Towards {
    /// Outputs: rows of `in` come from the left.
    Output,
    /// Gradients of the input: rows of `out` come from the left.
    Input,
}

/// A matrix of these values and extents `[out, in]` as the right operand of a product: shared by the passes of a step where
/// they have `packs`.
pub(crate) fn operand<'a>(
    device: &Cpu,
    packs: Option<&Packs>,
    (id, towards): (ParameterId, Towards),
    (values, [out, width]): (&'a [f32], [usize; 2]),
) -> Operand<'a> {
    let (rhs, depth, columns) = match towards {
        Towards::Output => (Rhs::Columns { data: values, stride: width }, width, out),
        Towards::Input => (Rhs::Rows { data: values, stride: width }, out, width),
    };
    match packs {
        Some(packs) => Operand::or_packed(device.isa(), rhs, columns, || {
            packs.packed(device, (id, towards), (rhs, depth, columns))
        }),
        None => Operand::new(device, rhs, depth, columns),
    }
}

impl Packs {
    /// For so many passes over these parameters.
    pub fn new(parameters: &Parameters, passes: usize) -> Self {
        Packs { passes: passes.max(1), slots: parameters.declarations().ids().map(|_| Default::default()).collect() }
    }

    /// A right operand `[depth, columns]` that is made of a matrix, packed.
    fn packed(
        &self,
        device: &Cpu,
        (id, towards): (ParameterId, Towards),
        (rhs, depth, columns): (Rhs<'_>, usize, usize),
    ) -> Arc<Buffer> {
        let pack = {
            let mut slot = self.slots[id.index()][towards as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let found = slot.get_or_insert_with(|| Slot {
                pack: Arc::new(device.joint_pack(packed_len(device.isa(), depth, columns))),
                left: self.passes,
            });
            found.left -= 1;
            let pack = Arc::clone(&found.pack);
            if found.left == 0 {
                *slot = None;
            }
            pack
        };
        device.parallel(device.threads(), |_| pack.help(device.isa(), rhs, depth, columns));
        pack.whole(device.isa(), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{Declarations, ParameterKind};
    use crate::device::cpu::kernels::pack_rhs_serial;
    use crate::ops::random::normal;

    #[test]
    fn passes_side_by_side_get_what_one_alone_would_pack() {
        let device = Cpu::with_threads(2);
        for [out, width] in [[1, 1], [67, 130], [384, 96]] {
            let mut declarations = Declarations::default();
            let id = declarations.declare("weight", &[out, width], ParameterKind::Matrix);
            let parameters = Parameters::zeros(declarations, device.clone());
            let values: Vec<f32> = (0..out * width).map(|i| normal(1, i as u64)).collect();
            let packs = Packs::new(&parameters, 6);
            for (towards, rhs, depth, columns) in [
                (Towards::Output, Rhs::Columns { data: &values, stride: width }, width, out),
                (Towards::Input, Rhs::Rows { data: &values, stride: width }, out, width),
            ] {
                let mut expected = vec![0.0; packed_len(device.isa(), depth, columns)];
                pack_rhs_serial(device.isa(), rhs, depth, columns, &mut expected);
                // Two passes more than were announced: the last are packed for again.
                std::thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| {
                            let packed = packs.packed(&device.alone(), (id, towards), (rhs, depth, columns));
                            assert_eq!(packed.as_slice(), expected);
                        });
                    }
                });
            }
        }
    }
}
