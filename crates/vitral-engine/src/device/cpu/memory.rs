//! Making tensors and copying parts of them.

use super::parameter::plain;
use super::{Cpu, values};
use crate::device::backend::{Blocks, Memory, Source};
use crate::device::storage::ParameterView;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Memory for Cpu {
    fn full(&self, shape: Shape, value: f32) -> Tensor {
        self.tensor(shape, |out| out.fill(value))
    }

    fn parameter(&self, parameter: ParameterView<'_>) -> Tensor {
        self.tensor(Shape::new(parameter.shape), |out| out.copy_from_slice(plain(parameter)))
    }

    fn assemble(&self, shape: Shape, pieces: &[(Source<'_>, Blocks)]) -> Tensor {
        let covered: usize = pieces.iter().map(|(_, blocks)| blocks.counts[0] * blocks.counts[1] * blocks.length).sum();
        self.tensor(shape, |out| {
            if covered < out.len() {
                out.fill(0.0);
            }
            for (source, blocks) in pieces {
                let source = match source {
                    Source::Tensor(tensor) => values(tensor),
                    Source::Parameter(parameter) => plain(*parameter),
                };
                for (from, to) in blocks.starts() {
                    out[to..to + blocks.length].copy_from_slice(&source[from..from + blocks.length]);
                }
            }
        })
    }

    fn transpose(&self, x: &Tensor) -> Tensor {
        let [batch, rows, columns] = x.shape()[..] else { panic!("three extents, not {:?}", x.shape()) };
        let area = (rows * columns).max(1);
        self.tensor([batch, columns, rows], |out| {
            for (x, out) in values(x).chunks_exact(area).zip(out.chunks_exact_mut(area)) {
                for (row, x) in x.chunks_exact(columns).enumerate() {
                    for (column, &x) in x.iter().enumerate() {
                        out[column * rows + row] = x;
                    }
                }
            }
        })
    }

    fn select_columns(&self, x: &Tensor, columns: &[usize]) -> Tensor {
        let width = x.shape().last().max(1);
        self.tensor(x.shape().with_last(columns.len()), |out| {
            for (out, row) in out.chunks_exact_mut(columns.len().max(1)).zip(values(x).chunks_exact(width)) {
                out.iter_mut().zip(columns).for_each(|(out, &column)| *out = row[column]);
            }
        })
    }
}
