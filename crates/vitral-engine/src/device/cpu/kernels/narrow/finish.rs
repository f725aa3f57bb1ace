//! What is done to a tile of sums before it is stored.

use std::ops::Range;

use super::super::gemm::GemmEpilogue;
use super::super::lanes::{Kernel, Lanes};
use super::super::shared::{DisjointMut, as_integers};
use super::operand_b::Int8Panels;
use crate::device::cpu::math;

/// The sums of a tile on their way to `C`: `residual + scale · activation(sum + bias)`, integers turned into floats first.
pub(super) struct Finish<'a> {
    /// Rows of a whole panel.
    pub(super) sums: &'a [f32],
    pub(super) width: usize,
    /// Sums of bytes: the tile's rows of `A`, whose last two numbers say what a unit is worth and where zero is; and what
    /// comes with the columns, from the panel's first on.
    pub(super) int8: Option<(&'a [f32], usize, Int8Panels<'a>)>,
    pub(super) epilogue: GemmEpilogue<'a>,
    /// The product, where it begins, and its row stride.
    pub(super) c: (DisjointMut<'a>, usize, usize),
    /// Columns of the whole product, the residual's row stride.
    pub(super) total: usize,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let GemmEpilogue { bias, activation, scale, residual } = self.epilogue;
        let (out, origin, stride) = self.c;
        let columns = self.columns;
        for (i, row) in self.rows.enumerate() {
            let sums = &self.sums[i * self.width..][..self.width];
            // SAFETY: a tile is finished by the task that computed it.
            let c = unsafe { out.part(origin + row * stride + columns.start, columns.len()) };
            let token = self.int8.map(|(tokens, stride, panels)| {
                let token = &tokens[i * stride..];
                (l.splat(token[0]), token[1].to_bits() as i32, panels)
            });
            for (at, c) in c.chunks_mut(L::N).enumerate() {
                let at = at * L::N;
                let column = columns.start + at;
                let mut v = match token {
                    Some((unit, zero, panels)) => {
                        let sum = l.centered(&as_integers(sums)[at..], zero, &panels.sums[at..]);
                        l.mul(sum, l.mul(unit, l.load(&panels.scales[at..])))
                    }
                    None => l.load(&sums[at..]),
                };
                if let Some(bias) = bias {
                    v = l.add(v, l.load_part(&bias[column..columns.end]));
                }
                if let Some(activation) = activation {
                    v = math::activate(l, activation, v);
                }
                if let Some(scale) = scale {
                    v = l.mul(v, l.load_part(&scale[column..columns.end]));
                }
                if let Some(residual) = residual {
                    let end = row * self.total + columns.end;
                    v = l.add(v, l.load_part(&residual[row * self.total + column..end]));
                }
                l.store_part(c, v);
            }
        }
    }
}
