//! Making tensors, and copies of parts of them.

use crate::device::storage::ParameterView;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Making tensors, and copies of parts of them.
pub(crate) trait Memory {
    /// A tensor filled with one value.
    fn full(&self, shape: Shape, value: f32) -> Tensor;
    /// A parameter as a tensor of its own.
    fn parameter(&self, parameter: ParameterView<'_>) -> Tensor;
    /// A tensor put together of blocks of others, zero where no piece is placed.
    fn assemble(&self, shape: Shape, pieces: &[(Source<'_>, Blocks)]) -> Tensor;
    /// `[batch, rows, columns]` to `[batch, columns, rows]`.
    fn transpose(&self, x: &Tensor) -> Tensor;
    /// Columns of the innermost extent in another order, or some of them, or mirrored: `out[…, i] = x[…, columns[i]]`.
    fn select_columns(&self, x: &Tensor, columns: &[usize]) -> Tensor;
}

/// Where a piece comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Tensor(&'a Tensor),
    Parameter(ParameterView<'a>),
}

/// Runs of `length` values, counted in two levels: run `(i, j)` begins at `start + i · outer + j · inner`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    /// How many, of each level.
    pub(crate) counts: [usize; 2],
    pub(crate) length: usize,
    /// Start, outer step and inner step in the source.
    pub(crate) from: [usize; 3],
    /// The same in the result.
    pub(crate) to: [usize; 3],
}

impl Blocks {
    /// `count` runs at one level.
    pub(crate) fn runs(count: usize, length: usize, [from, from_step]: [usize; 2], [to, to_step]: [usize; 2]) -> Self {
        Blocks { counts: [count, 1], length, from: [from, from_step, 0], to: [to, to_step, 0] }
    }

    /// Where each run begins, in the source and in the result.
    pub(crate) fn starts(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.counts[0]).flat_map(move |i| {
            (0..self.counts[1]).map(move |j| {
                let at = |[start, outer, inner]: [usize; 3]| start + i * outer + j * inner;
                (at(self.from), at(self.to))
            })
        })
    }
}
