//! Progressive coding: a scan adds a band of coefficients, or one more bit of them.

use super::entropy::Bits;
use super::huffman::{Decoder, extended};
use super::scan::Scan;
use super::sequential::read_difference;
use super::tables::NATURAL;

/// The band and the bit of a scan.
#[derive(Clone, Copy)]
pub(super) struct Band {
    first: usize,
    last: usize,
    low: u32,
}

impl Band {
    pub(super) fn of(scan: &Scan) -> Self {
        Band { first: scan.first, last: scan.last, low: scan.low }
    }

    /// DC coefficients, down to the scan's bit.
    #[inline(always)]
    pub(super) fn first_means(self, bits: &mut Bits, dc: &Decoder, previous: &mut i32, block: &mut [i16; 64]) {
        *previous = previous.wrapping_add(read_difference(bits, dc));
        block[0] = (*previous << self.low) as i16;
    }

    /// One more bit of the DC coefficients.
    #[inline(always)]
    pub(super) fn refine_means(self, bits: &mut Bits, block: &mut [i16; 64]) {
        bits.refill();
        block[0] |= (bits.take(1) << self.low) as i16;
    }

    /// The band's coefficients, down to the scan's bit. `empty` counts the following blocks that have none.
    #[inline(always)]
    pub(super) fn first_coefficients(self, bits: &mut Bits, ac: &Decoder, empty: &mut u32, block: &mut [i16; 64]) {
        if *empty > 0 {
            *empty -= 1;
            return;
        }
        let mut index = self.first;
        while index <= self.last {
            bits.refill();
            let entry = ac.look(bits);
            let value = if entry.value() != 0 {
                bits.skip(entry.length());
                index += entry.symbol() as usize;
                entry.value()
            } else {
                let symbol = ac.finish(entry, bits);
                let (run, size) = (symbol >> 4, symbol & 15);
                if size == 0 {
                    if run != 15 {
                        *empty = (1 << run) + bits.take(run) - 1;
                        return;
                    }
                    index += 16;
                    continue;
                }
                index += run as usize;
                extended(bits.take(size), size)
            };
            block[usize::from(NATURAL[index]) & 63] = (value << self.low) as i16;
            index += 1;
        }
    }

    /// One more bit of existing coefficients, and new coefficients that begin at this bit.
    #[inline(always)]
    pub(super) fn refine_coefficients(self, bits: &mut Bits, ac: &Decoder, empty: &mut u32, block: &mut [i16; 64]) {
        let mut index = self.first;
        if *empty == 0 {
            while index <= self.last {
                bits.refill();
                let symbol = ac.symbol(bits);
                let (mut run, size) = (symbol >> 4, symbol & 15);
                let mut begun = 0;
                if size != 0 {
                    // A size other than 1 is an error, which changes nothing.
                    begun = if bits.take(1) == 1 { 1 << self.low } else { -1 << self.low };
                } else if run != 15 {
                    *empty = (1 << run) + bits.take(run);
                    break;
                }
                // Skip zeros that stay zero, and refine coefficients on the way.
                while index <= self.last {
                    let coefficient = &mut block[usize::from(NATURAL[index]) & 63];
                    if *coefficient != 0 {
                        self.refine(bits, coefficient);
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    index += 1;
                }
                if begun != 0 {
                    block[usize::from(NATURAL[index]) & 63] = begun as i16;
                }
                index += 1;
            }
        }
        if *empty > 0 {
            for &place in &NATURAL[index.min(self.last + 1)..=self.last] {
                let coefficient = &mut block[usize::from(place) & 63];
                if *coefficient != 0 {
                    self.refine(bits, coefficient);
                }
            }
            *empty -= 1;
        }
    }

    /// One more bit of a coefficient, away from zero.
    #[inline(always)]
    fn refine(self, bits: &mut Bits, coefficient: &mut i16) {
        bits.refill();
        let bit = 1i16 << self.low;
        if bits.take(1) == 1 && *coefficient & bit == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient > 0 { bit } else { -bit });
        }
    }
}
