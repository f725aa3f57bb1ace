//! Making tensors and copying parts of them.

use super::memory::Memory;
use super::{Parameter, Reference, stored};
use crate::device::backend::{self, Blocks, Source};
use crate::device::storage::ParameterView;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl backend::Memory for Reference {
    fn full(&self, shape: Shape, value: f32) -> Tensor {
        self.compute(shape, [], move |[], out| out.fill(f64::from(value)))
    }

    fn parameter(&self, parameter: ParameterView<'_>) -> Tensor {
        let source = Parameter::of(parameter);
        let range = source.range();
        self.compute(Shape::new(parameter.shape), [&source.memory], move |[x], out| out.copy_from_slice(&x[range]))
    }

    fn assemble(&self, shape: Shape, pieces: &[(Source<'_>, Blocks)]) -> Tensor {
        let tensor = self.compute(shape, [], |[], out| out.fill(0.0));
        for (source, blocks) in pieces {
            let (from, start): (Memory, usize) = match source {
                Source::Tensor(tensor) => (stored(tensor).clone(), 0),
                Source::Parameter(view) => {
                    let parameter = Parameter::of(*view);
                    (parameter.memory.clone(), parameter.start)
                }
            };
            let blocks = *blocks;
            self.0.launch([&from], [stored(&tensor)], move |[x], [out]| {
                for (from, to) in blocks.starts() {
                    for i in 0..blocks.length {
                        out[to + i] = x[start + from + i];
                    }
                }
            });
        }
        tensor
    }

    fn transpose(&self, x: &Tensor) -> Tensor {
        let [batch, rows, columns] = x.shape()[..] else { panic!("three extents, not {:?}", x.shape()) };
        self.compute([batch, columns, rows], [stored(x)], move |[x], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (sample, column, row) = (i / (rows * columns), i / rows % columns, i % rows);
                *out = x[(sample * rows + row) * columns + column];
            }
        })
    }

    fn select_columns(&self, x: &Tensor, columns: &[usize]) -> Tensor {
        let (width, columns) = (x.shape().last(), columns.to_vec());
        self.compute(x.shape().with_last(columns.len()), [stored(x)], move |[x], out| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = x[i / columns.len() * width + columns[i % columns.len()]];
            }
        })
    }
}
