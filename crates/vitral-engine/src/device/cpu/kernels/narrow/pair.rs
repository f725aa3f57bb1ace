//! Rounding to bfloat16, and rows of a matrix in pairs.

use super::super::lanes::{Kernel, Lanes};

/// A row as bfloat16.
#[inline(always)]
pub(super) fn round_row<L: Lanes>(l: L, row: &[f32], out: &mut [u16]) {
    let mut to = out.chunks_exact_mut(L::N);
    let mut from = row.chunks_exact(L::N);
    for (to, from) in (&mut to).zip(&mut from) {
        l.store_bf16(to, l.load(from));
    }
    l.store_bf16(to.into_remainder(), l.load_part(from.remainder()));
}

/// Rows of values, rounded, as panels of pairs of rows.
pub(super) struct PairRows<'a> {
    /// Row `k` from `k · stride` on.
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) panel: usize,
    /// Room for two rows.
    pub(super) pair: &'a mut [u16],
    pub(super) out: &'a mut [f32],
}

impl Kernel for PairRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let PairRows { data, stride, rows, width, panel, pair, out } = self;
        let steps = rows.div_ceil(2);
        let (upper, lower) = pair.split_at_mut(width);
        for step in 0..steps {
            for (row, rounded) in [(2 * step, &mut *upper), (2 * step + 1, &mut *lower)] {
                if row >= rows {
                    rounded.fill(0);
                    continue;
                }
                round_row(l, &data[row * stride..][..width], rounded);
            }
            for (index, (upper, lower)) in upper.chunks(panel).zip(lower.chunks(panel)).enumerate() {
                let out = &mut out[(index * steps + step) * panel..][..panel];
                for ((out, &upper), &lower) in out.iter_mut().zip(upper).zip(lower) {
                    *out = f32::from_bits(u32::from(upper) | u32::from(lower) << 16);
                }
                out[upper.len()..].fill(0.0);
            }
        }
    }
}
