//! What is done to a tile of sums before it is stored.

use std::ops::Range;

use super::super::epilogue::GemmEpilogue;
use super::super::lanes::{Kernel, Lanes};
use super::super::shared::{DisjointMut, as_integers};
use super::gelu::gelu_near;
use super::words::Int8Panels;
use crate::activation::Activation;
use crate::device::cpu::math;

/// Vectors of a panel, at most.
const VECTORS: usize = 2;

/// The sums of a tile on their way to `C`: `residual + scale · activation(sum + bias)`, integers turned into floats first.
pub(super) struct Finish<'a> {
    /// Rows of a whole panel.
    pub(super) sums: &'a [f32],
    pub(super) width: usize,
    /// Of sums of bytes.
    pub(super) int8: Option<Int8Tile<'a>>,
    pub(super) epilogue: GemmEpilogue<'a>,
    /// Adds to what `C` holds.
    pub(super) accumulate: bool,
    /// The product, where it begins, and its row stride.
    pub(super) c: (DisjointMut<'a>, usize, usize),
    /// Columns of the whole product, the residual's row stride.
    pub(super) total: usize,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// What turns sums of bytes into numbers.
#[derive(Clone, Copy)]
pub(super) struct Int8Tile<'a> {
    /// Of the tile's rows of `A`: what a unit is worth and where zero is, each row a stride further.
    pub(super) tokens: &'a [f32],
    pub(super) stride: usize,
    /// What comes with the columns, from the panel's first on.
    pub(super) panel: Int8Panels<'a>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        match self.epilogue.activation {
            None => self.with(l, |x| x),
            Some(Activation::Gelu) => self.with(l, |x| gelu_near(l, x)),
            Some(activation) => self.with(l, |x| math::activate(l, activation, x)),
        }
    }
}

impl Finish<'_> {
    /// Every row, with this activation.
    #[inline(always)]
    fn with<L: Lanes>(self, l: L, activate: impl Fn(L::V) -> L::V) {
        let GemmEpilogue { bias, scale, residual, .. } = self.epilogue;
        let (out, origin, stride) = self.c;
        let (first, count) = (self.columns.start, self.columns.len());
        // What belongs to columns is the same for all rows.
        let of_columns = |values: Option<&[f32]>, absent: f32| -> [L::V; VECTORS] {
            let Some(values) = values else { return [l.splat(absent); VECTORS] };
            let values = &values[first..self.columns.end];
            std::array::from_fn(|at| l.load_part(values.get(at * L::N..).unwrap_or_default()))
        };
        let (bias, factor) = (of_columns(bias, 0.0), of_columns(scale, 1.0));
        let units = match self.int8 {
            Some(int8) => std::array::from_fn(|at| l.load_part(int8.panel.scales.get(at * L::N..).unwrap_or_default())),
            None => [l.splat(1.0); VECTORS],
        };
        let after = scale.is_some() || residual.is_some();
        for (i, row) in self.rows.enumerate() {
            let sums = &self.sums[i * self.width..][..self.width];
            // SAFETY: a tile is finished by the task that computed it.
            let c = unsafe { out.part(origin + row * stride + first, count) };
            let residual = residual.map(|residual| &residual[row * self.total + first..][..count]);
            let token = self.int8.map(|int8| {
                let token = &int8.tokens[i * int8.stride..][..2];
                (l.splat(token[0]), token[1].to_bits() as i32, int8.panel.sums)
            });
            for at in 0..VECTORS.min(self.width / L::N) {
                let column = at * L::N;
                let mut v = match token {
                    Some((unit, zero, of)) => {
                        let sum = l.centered(&as_integers(sums)[column..], zero, &of[column..]);
                        l.fma(l.mul(sum, unit), units[at], bias[at])
                    }
                    None => l.add(l.load(&sums[column..]), bias[at]),
                };
                v = activate(v);
                if let Some(c) = c.get_mut(column..).filter(|c| c.len() >= L::N) {
                    if after {
                        let added = residual.map_or(l.splat(0.0), |residual| l.load(&residual[column..]));
                        v = l.fma(v, factor[at], added);
                    }
                    if self.accumulate {
                        v = l.add(v, l.load(c));
                    }
                    l.store(c, v);
                } else if let Some(c) = c.get_mut(column..) {
                    if after {
                        let added = residual.map_or(l.splat(0.0), |residual| l.load_part(&residual[column..]));
                        v = l.fma(v, factor[at], added);
                    }
                    if self.accumulate {
                        v = l.add(v, l.load_part(c));
                    }
                    l.store_part(c, v);
                }
            }
        }
    }
}
