//! Matrix `A` in words: rows are normalized where there is a norm, rounded, and packed once for all panels.

use std::ops::Range;

use super::super::cache::spread;
use super::super::isa::Isa;
use super::super::lanes::{Kernel, Lanes};
use super::super::matrix_a::{MatrixA, NormOnLoad};
use super::super::shared::{as_bytes_mut, as_halves_mut};
use super::pair::{PairRows, round_row};
use super::words::Words;
use crate::device::cpu::math;

/// Rows of `A`, as they are to be packed.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) words: Words,
    pub(super) depth: usize,
    pub(super) a: MatrixA<'a>,
    pub(super) norm: Option<NormOnLoad<'a>>,
}

impl Rows<'_> {
    /// The distance of packed rows, or the words of one where `A` is stored by columns, which are packed step by step of the
    /// depth. Rows: their words, then what a unit is worth and where zero is, in rows of different sets of
    /// a cache.
    pub(super) fn stride(&self) -> usize {
        let steps = self.words.of(self.depth);
        match self.a {
            MatrixA::Rows { .. } => spread(steps + 2),
            MatrixA::Columns { .. } => steps,
        }
    }

    /// Packs some rows, a stride apart, or together step by step. `scratch` keeps its memory.
    pub(super) fn pack(&self, isa: Isa, rows: Range<usize>, out: &mut [f32], scratch: &mut Vec<f32>) {
        if let MatrixA::Columns { data, stride } = self.a {
            if rows.is_empty() || self.depth == 0 {
                return;
            }
            let (data, width) = (&data[rows.start..], rows.len());
            let out = &mut out[..width * self.words.of(self.depth)];
            let mut pair = vec![0; 2 * width];
            isa.run_bf16(PairRows { data, stride, rows: self.depth, width, panel: width, pair: &mut pair, out });
            return;
        }
        scratch.resize(self.depth, 0.0);
        let pack = Pack { of: *self, rows, out, scratch };
        match self.words {
            Words::Bf16 => isa.run_bf16(pack),
            Words::Int8 => isa.run(pack),
        }
    }
}

struct Pack<'a> {
    of: Rows<'a>,
    rows: Range<usize>,
    out: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Rows { words, depth, a, norm } = self.of;
        let MatrixA::Rows { data, stride } = a else { unreachable!("columns are packed in pairs") };
        let steps = words.of(depth);
        for (row, out) in self.rows.zip(self.out.chunks_exact_mut(self.of.stride())) {
            let source = &data[row * stride..][..depth];
            let row = match norm {
                Some(norm) => {
                    let statistics = math::row_statistics(l, source, norm.epsilon, norm.rms);
                    math::normalize_row(l, source, statistics, norm.weight, norm.bias, self.scratch);
                    &*self.scratch
                }
                None => source,
            };
            let (values, token) = out.split_at_mut(steps);
            if let Some(last) = values.last_mut() {
                // Values beyond the depth are multiplied by zeros, but must be numbers.
                *last = 0.0;
            }
            match words {
                Words::Bf16 => {
                    // Tiles of AMX take what is up to a whole tile of the depth.
                    token.fill(0.0);
                    round_row(l, row, &mut as_halves_mut(values)[..depth]);
                }
                Words::Int8 => {
                    let (scale, zero) = unsigned(l, row, &mut as_bytes_mut(values)[..depth]);
                    token[0] = scale;
                    token[1] = f32::from_bits(zero);
                }
            }
        }
    }
}

/// A token as bytes: its least value and zero to its largest take all 256. Gives what a unit is worth and the place of zero.
#[inline(always)]
fn unsigned<L: Lanes>(l: L, row: &[f32], out: &mut [u8]) -> (f32, u32) {
    let nothing = l.splat(0.0);
    let (mut least, mut most, mut faults) = ([nothing; 2], [nothing; 2], [nothing; 2]);
    let mut pairs = row.chunks_exact(2 * L::N);
    for pair in &mut pairs {
        for i in 0..2 {
            let x = l.load(&pair[i * L::N..]);
            least[i] = l.min(x, least[i]);
            most[i] = l.max(x, most[i]);
            faults[i] = l.fma(x, nothing, faults[i]);
        }
    }
    for rest in pairs.remainder().chunks(L::N) {
        let x = l.load_part(rest);
        least[0] = l.min(x, least[0]);
        most[0] = l.max(x, most[0]);
        faults[0] = l.fma(x, nothing, faults[0]);
    }
    let most = l.greatest(l.max(most[0], most[1]));
    let least = -l.greatest(l.sub(nothing, l.min(least[0], least[1])));
    // Not a number where one of the row's is not, or is infinite.
    let fault = l.sum(l.add(faults[0], faults[1]));
    let range = most - least;
    if !(range > 0.0 && range.is_finite() && fault == 0.0) {
        out.fill(0);
        return (if fault == 0.0 && range == 0.0 { 0.0 } else { f32::NAN }, 0);
    }
    let units = 255.0 / range;
    if !units.is_finite() {
        // Too small to be told from nothing.
        out.fill(0);
        return (0.0, 0);
    }
    let zero = (-least * units).round_ties_even();
    let (units, zeros, top) = (l.splat(units), l.splat(zero), l.splat(255.0));
    let place = |x| l.min(top, l.max(nothing, l.add(l.round(l.mul(x, units)), zeros)));
    let mut to = out.chunks_exact_mut(L::N);
    let mut from = row.chunks_exact(L::N);
    for (to, from) in (&mut to).zip(&mut from) {
        l.store_bytes(to, place(l.load(from)));
    }
    l.store_bytes(to.into_remainder(), place(l.load_part(from.remainder())));
    (range / 255.0, zero as u32)
}
