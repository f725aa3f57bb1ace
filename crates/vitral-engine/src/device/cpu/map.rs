//! Elementwise work over whole buffers, on all threads.

use super::kernels::{Kernel, Lanes};
use super::processor::Processor;

/// Elements below which a second thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// A function of `N` values, for every instruction set.
pub(crate) trait Elementwise<const N: usize>: Copy + Sync + Send {
    /// The function. Must be `#[inline(always)]`.
    fn apply<L: Lanes>(self, l: L, x: [L::V; N]) -> L::V;
}

pub(crate) struct Map<'a, const N: usize, F> {
    pub(crate) inputs: [&'a [f32]; N],
    pub(crate) out: &'a mut [f32],
    pub(crate) f: F,
}

impl<const N: usize, F: Elementwise<N>> Kernel for Map<'_, N, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let whole = self.out.len() / L::N * L::N;
        let (out, out_rest) = self.out.split_at_mut(whole);
        for (i, out) in out.chunks_exact_mut(L::N).enumerate() {
            let x = std::array::from_fn(|input| l.load(&self.inputs[input][i * L::N..]));
            l.store(out, self.f.apply(l, x));
        }
        if !out_rest.is_empty() {
            let x = std::array::from_fn(|input| l.load_part(&self.inputs[input][whole..]));
            l.store_part(out_rest, self.f.apply(l, x));
        }
    }
}

impl Processor {
    /// `out[i] = f(inputs[0][i], inputs[1][i], …)`.
    pub(crate) fn map<const N: usize>(&self, inputs: [&[f32]; N], out: &mut [f32], f: impl Elementwise<N>) {
        for input in inputs {
            assert_eq!(input.len(), out.len(), "elementwise operands differ in length");
        }
        self.parallel_rows(out, 1, GRAIN, |first, out| {
            let inputs = inputs.map(|input| &input[first..first + out.len()]);
            self.isa().run(Map { inputs, out, f });
        });
    }

    /// As [`Processor::map`], with rows of `width`: the last input is one row that every row is combined with.
    pub(crate) fn map_rows<const N: usize>(
        &self,
        inputs: [&[f32]; N],
        width: usize,
        out: &mut [f32],
        f: impl Elementwise<N>,
    ) {
        self.parallel_rows(out, width, GRAIN.div_ceil(width.max(1)), |first, out| {
            for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
                let start = (first + row) * width;
                let inputs = std::array::from_fn(|i| {
                    if i == N - 1 { &inputs[i][..width] } else { &inputs[i][start..start + width] }
                });
                self.isa().run(Map { inputs, out, f });
            }
        });
    }

    /// Sums the rows of a matrix `[rows, width]` into `sums`, adding to what is there. The order is by row, whatever
    /// the threads.
    pub(crate) fn add_row_sums(&self, matrix: &[f32], sums: &mut [f32]) {
        let width = sums.len();
        self.parallel_rows(sums, 1, 64, |first, sums| {
            self.isa().run(RowSums { matrix: &matrix[first.min(matrix.len())..], width, sums });
        });
    }
}

/// Adds the first columns of every row to `sums`, in the order of rows.
struct RowSums<'a> {
    matrix: &'a [f32],
    width: usize,
    sums: &'a mut [f32],
}

impl Kernel for RowSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        /// Vectors of sums that stay in registers.
        const HELD: usize = 8;
        const ROWS_AHEAD: usize = 8;
        for (block, sums) in self.sums.chunks_mut(HELD * L::N).enumerate() {
            let mut held = [l.splat(0.0); HELD];
            for (held, sums) in held.iter_mut().zip(sums.chunks(L::N)) {
                *held = l.load_part(sums);
            }
            for row in self.matrix.chunks(self.width) {
                let row = &row[block * HELD * L::N..][..sums.len()];
                for (held, x) in held.iter_mut().zip(row.chunks(L::N)) {
                    l.prefetch(x, ROWS_AHEAD * self.width);
                    *held = l.add(*held, l.load_part(x));
                }
            }
            for (held, sums) in held.iter().zip(sums.chunks_mut(L::N)) {
                l.store_part(sums, *held);
            }
        }
    }
}
