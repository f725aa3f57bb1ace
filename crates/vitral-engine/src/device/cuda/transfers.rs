//! Making tensors and copying parts of them.

use super::launch::{self, Arg, Source, spread};
use super::memory::{Element, Memory};
use super::parameters::Parameter;
use super::{Cuda, stored};
use crate::device::backend::{self, Blocks, Source as Piece};
use crate::device::storage::ParameterView;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Cuda {
    /// The transposed of `batch` matrices.
    pub(super) fn transposed(&self, x: &Memory, batch: usize, [rows, columns]: [usize; 2]) -> Memory {
        let out = self.allocate(x.element, x.len());
        let tiles = columns.div_ceil(32) * rows.div_ceil(32) * batch;
        let arguments = [Arg::Of(x), Arg::Of(&out), Arg::Int(rows), Arg::Int(columns)];
        self.launch_for(x.element, Source::Transfers, "transpose", launch::rows(tiles), &arguments);
        out
    }

    /// Copies runs of values to another memory, rounding them if that is in 16 bits.
    fn copy_runs(&self, from: (&Memory, usize), to: &Memory, blocks: Blocks) {
        let [outer, inner] = blocks.counts;
        let count = outer * inner * blocks.length;
        let [from_start, from_outer, from_inner] = blocks.from;
        let [to_start, to_outer, to_inner] = blocks.to;
        let from_start = from_start + from.1;
        let steps = [blocks.length, from_start, from_outer, from_inner, to_start, to_outer, to_inner];
        let lanes = if steps.iter().all(|step| step.is_multiple_of(8)) { 8 } else { 1 };
        let name = format!("copy_runs_{lanes}_{}{}", from.0.element.suffix(), to.element.suffix());
        let arguments = [
            Arg::Of(from.0),
            Arg::Of(to),
            Arg::Count(count),
            Arg::Count(inner),
            Arg::Count(blocks.length),
            Arg::Count(from_start),
            Arg::Count(from_outer),
            Arg::Count(from_inner),
            Arg::Count(to_start),
            Arg::Count(to_outer),
            Arg::Count(to_inner),
        ];
        let f16 = to.element == Element::F16;
        self.launch_in(f16, Source::Transfers, &name, spread(count / lanes), &arguments);
    }
}

impl backend::Memory for Cuda {
    fn full(&self, shape: Shape, value: f32) -> Tensor {
        let memory = self.allocate(Element::F32, shape.count());
        self.fill(&memory, value);
        Cuda::tensor(shape, memory)
    }

    fn parameter(&self, parameter: ParameterView<'_>) -> Tensor {
        let (memory, start) = Parameter::of(parameter).wide(self);
        let out = self.allocate(Element::F32, parameter.count());
        self.inner.run(|driver| driver.copy(out.address(0), memory.address(start), out.bytes()));
        Cuda::tensor(Shape::new(parameter.shape), out)
    }

    fn assemble(&self, shape: Shape, pieces: &[(Piece<'_>, Blocks)]) -> Tensor {
        let sources: Vec<(Memory, usize)> = pieces
            .iter()
            .map(|(piece, _)| match piece {
                Piece::Tensor(tensor) => (stored(tensor).clone(), 0),
                Piece::Parameter(view) => Parameter::of(*view).wide(self),
            })
            .collect();
        // Tokens that parameters are put beside stay tokens.
        let half = sources.iter().map(|(memory, _)| memory.element).find(|&element| element != Element::F32);
        let memory = self.allocate(half.unwrap_or(Element::F32), shape.count());
        let placed: usize = pieces.iter().map(|(_, blocks)| blocks.counts[0] * blocks.counts[1] * blocks.length).sum();
        if placed < shape.count() {
            self.clear_memory(&memory);
        }
        for ((from, start), (_, blocks)) in sources.iter().zip(pieces) {
            // In 16 bits as the others are, not as another precision made them.
            let from = if from.is_half() { self.as_element(from, memory.element) } else { from.clone() };
            self.copy_runs((&from, *start), &memory, *blocks);
        }
        Cuda::tensor(shape, memory)
    }

    fn transpose(&self, x: &Tensor) -> Tensor {
        let [batch, rows, columns] = x.shape()[..] else { panic!("three extents, not {:?}", x.shape()) };
        Cuda::tensor([batch, columns, rows], self.transposed(stored(x), batch, [rows, columns]))
    }

    fn select_columns(&self, x: &Tensor, columns: &[usize]) -> Tensor {
        let (memory, width) = (stored(x), x.shape().last());
        let out = self.allocate(memory.element, memory.len() / width.max(1) * columns.len());
        let table = self.words(&columns.iter().map(|&column| column as u32).collect::<Vec<_>>());
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&out),
            Arg::Count(out.len()),
            Arg::Int(width),
            Arg::Int(columns.len()),
            Arg::Of(&table),
        ];
        self.launch_for(memory.element, Source::Transfers, "select_columns", spread(out.len()), &arguments);
        Cuda::tensor(x.shape().with_last(columns.len()), out)
    }
}
