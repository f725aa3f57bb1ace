//! Packing a weight `[out, in]`, rounded, into panels of words.

use std::cell::RefCell;

use half::bf16;

use super::super::isa::Isa;
use super::super::lanes::{Kernel, Lanes};
use super::super::matrix_b::{MatrixB, pack_panel};
use super::super::shared::{as_bytes_mut, as_halves_mut};
use super::pair::{PairRows, round_row};
use super::words::{PackedWords, Words};
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::processor::{Processor, SERIAL_WORK};
use crate::int8::row_scale;

/// Packs a weight `[columns, depth]`, rounded, on all threads.
pub(crate) fn pack_words(
    cpu: &Processor,
    weight: &[f32],
    (depth, columns): (usize, usize),
    words: Words,
) -> PackedWords {
    assert_eq!(weight.len(), depth * columns);
    let (isa, width, steps) = (cpu.isa(), cpu.isa().panel(), words.of(depth));
    let padded = columns.next_multiple_of(width);
    let mut data = Buffer::zeros(padded * steps);
    let grain = if depth * columns < SERIAL_WORK { usize::MAX } else { 1 };
    // Scales and sums, a panel after the other, beside the words: a row of a panel is as long as its words and both.
    let mut beside = vec![0.0f32; if words == Words::Int8 { 2 * padded } else { 0 }];
    let each = beside.len() / padded.max(1) * width;
    let outputs = [(data.as_mut_slice(), width * steps), (&mut beside[..], each)];
    cpu.parallel_rows_of(padded / width, grain, outputs, |range, [data, beside]| {
        let mut rounded = vec![0.0f32; width * steps];
        for (turn, panel) in range.enumerate() {
            let rows = panel * width..columns.min((panel + 1) * width);
            let count = rows.len();
            for (i, (row, rounded)) in rows.zip(rounded.chunks_exact_mut(steps.max(1))).enumerate() {
                let row = &weight[row * depth..][..depth];
                match words {
                    Words::Bf16 => {
                        for (to, &x) in as_halves_mut(rounded).iter_mut().zip(row) {
                            *to = bf16::from_f32(x).to_bits();
                        }
                    }
                    Words::Int8 => {
                        let scale = isa.run(Magnitude(row));
                        let sum = isa.run(Signed { row, scale, out: as_bytes_mut(rounded) });
                        beside[2 * turn * width + i] = scale;
                        beside[(2 * turn + 1) * width + i] = f32::from_bits(sum as u32);
                    }
                }
            }
            if steps > 0 {
                let source = MatrixB::Columns { data: &rounded, stride: steps };
                pack_panel(isa, source, steps, count, 0, &mut data[turn * width * steps..][..width * steps]);
            }
        }
    });
    let halves = |which: usize| beside.chunks_exact(width).skip(which).step_by(2).flatten();
    let (scales, sums) = (halves(0).copied().collect(), halves(1).map(|bits| bits.to_bits() as i32).collect());
    PackedWords { words, data, scales, sums }
}

thread_local! {
    /// Rows of a panel, rounded, and a pair of rows.
    static SCRATCH: RefCell<(Vec<f32>, Vec<u16>)> = RefCell::default();
}

/// Packs one panel of `B`, rounded to bfloat16, `[pair of the depth][panel]`.
pub(in super::super) fn pack_bf16_panel(
    isa: Isa,
    b: MatrixB<'_>,
    (depth, columns): (usize, usize),
    panel: usize,
    out: &mut [f32],
) {
    let (width, steps) = (isa.panel(), Words::Bf16.of(depth));
    let first = panel * width;
    let count = width.min(columns - first);
    SCRATCH.with_borrow_mut(|(rounded, pair)| match b {
        _ if steps == 0 => {}
        MatrixB::Columns { data, stride } => {
            rounded.resize(width * steps, 0.0);
            for (n, rounded) in rounded.chunks_exact_mut(steps).take(count).enumerate() {
                rounded[steps - 1] = 0.0;
                let row = &data[(first + n) * stride..][..depth];
                isa.run_bf16(RoundRow(row, &mut as_halves_mut(rounded)[..depth]));
            }
            let source = MatrixB::Columns { data: rounded, stride: steps };
            pack_panel(isa, source, steps, count, 0, out);
        }
        MatrixB::Rows { data, stride } => {
            pair.resize(2 * count, 0);
            let data = &data[first..];
            isa.run_bf16(PairRows { data, stride, rows: depth, width: count, panel: width, pair, out });
        }
    });
}

/// A row as bfloat16.
struct RoundRow<'a>(&'a [f32], &'a mut [u16]);

impl Kernel for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        round_row(l, self.0, self.1);
    }
}

/// The scale of a row: that of its largest value.
struct Magnitude<'a>(&'a [f32]);

impl Kernel for Magnitude<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let mut most = l.splat(0.0);
        for chunk in self.0.chunks(L::N) {
            most = l.max(l.abs(l.load_part(chunk)), most);
        }
        row_scale(&[l.greatest(most)])
    }
}

/// A row in units of its scale, as signed bytes; gives their sum.
struct Signed<'a> {
    row: &'a [f32],
    scale: f32,
    out: &'a mut [u8],
}

impl Kernel for Signed<'_> {
    type Output = i32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> i32 {
        const ZERO: u8 = 0x80;
        let out = &mut self.out[..self.row.len()];
        if self.scale == 0.0 {
            out.fill(0);
            return 0;
        }
        let scale = l.splat(self.scale);
        for (out, chunk) in out.chunks_mut(L::N).zip(self.row.chunks(L::N)) {
            let units = l.round(l.div(l.load_part(chunk), scale));
            let within = l.min(l.splat(127.0), l.max(l.splat(-127.0), units));
            l.store_bytes(out, l.add(within, l.splat(f32::from(ZERO))));
        }
        let mut sum = 0;
        for byte in out {
            *byte ^= ZERO;
            sum += i32::from(*byte as i8);
        }
        sum
    }
}
