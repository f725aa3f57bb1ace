//! Parameters as operations get them.

use super::Cuda;
use super::memory::{CudaFlat, CudaWeight, Element, Memory};
use crate::device::storage::{ParameterView, Place, Weight};

/// A parameter: 32-bit values or a matrix as it is multiplied, and where it begins in its memory.
#[derive(Clone, Copy)]
pub(super) struct Parameter<'a> {
    place: Where<'a>,
    start: usize,
    pub(super) count: usize,
}

#[derive(Clone, Copy)]
enum Where<'a> {
    Flat(&'a CudaFlat),
    Prepared(&'a CudaWeight),
}

impl<'a> Parameter<'a> {
    pub(super) fn of(view: ParameterView<'a>) -> Self {
        let count = view.count();
        match view.place {
            Place::Flat(buffer, start) => Parameter { place: Where::Flat(buffer.cuda()), start, count },
            Place::Prepared(Weight::Cuda(weight)) => Parameter { place: Where::Prepared(weight), start: 0, count },
            Place::Prepared(_) => panic!("a weight of another device given to the GPU"),
        }
    }

    /// Its values in 32 bits, and where they begin.
    pub(super) fn wide(&self, cuda: &Cuda) -> (Memory, usize) {
        match self.place {
            Where::Flat(flat) => (flat.memory.clone(), self.start),
            Where::Prepared(weight) => (cuda.wide(&weight.memory), 0),
        }
    }

    /// Its values in an element, and where they begin.
    pub(super) fn as_element(&self, cuda: &Cuda, element: Element) -> (Memory, usize) {
        match (element, self.place) {
            (Element::F32, _) => self.wide(cuda),
            (_, Where::Flat(flat)) => (flat.half(cuda.operand(), |from, to| cuda.narrow_into(from, to)), self.start),
            (_, Where::Prepared(weight)) if weight.memory.is_half() => (cuda.as_element(&weight.memory, element), 0),
            (_, Where::Prepared(weight)) => (cuda.as_element(weight.half(|memory| cuda.narrow(memory)), element), 0),
        }
    }
}
