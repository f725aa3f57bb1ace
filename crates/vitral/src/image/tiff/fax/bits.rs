//! The bits of fax data, most significant first; beyond the end are zeros.

use super::codes::{self, Color, Mode};

/// Bits of an end-of-line code before its final 1.
const ZEROS: u32 = 11;

pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Bits { data, at: 0 }
    }

    /// The next bits, 16 at most, without consuming them.
    fn peek(&self, count: u32) -> u32 {
        self.peek_from(self.at, count)
    }

    fn peek_from(&self, at: usize, count: u32) -> u32 {
        let byte = |index: usize| u32::from(self.data.get(at / 8 + index).copied().unwrap_or(0));
        let window = byte(0) << 16 | byte(1) << 8 | byte(2);
        window << (8 + at % 8) >> (32 - count)
    }

    pub(super) fn take(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.at += count as usize;
        bits
    }

    /// Goes on to the next multiple of `unit` bits.
    pub(super) fn align(&mut self, unit: usize) {
        self.at = self.at.next_multiple_of(unit);
    }

    /// Whether bits beyond the end were consumed.
    pub(super) fn overdrawn(&self) -> bool {
        self.at > self.data.len() * 8
    }

    /// Whether fewer bits are left than the longest code has.
    pub(super) fn is_over(&self) -> bool {
        self.at + codes::LONGEST as usize > self.data.len() * 8
    }

    /// The length of the end-of-line code at a place, with the zeros before it; 0 if there is none.
    fn end_of_line(&self, start: usize) -> usize {
        let mut at = start;
        if self.peek_from(at, ZEROS) != 0 {
            return 0;
        }
        while at < self.data.len() * 8 {
            if self.peek_from(at, 1) == 1 {
                return at + 1 - start;
            }
            // Fill may be long.
            at += if at.is_multiple_of(8) && self.peek_from(at, 8) == 0 { 8 } else { 1 };
        }
        0
    }

    /// Skips an end-of-line code, if there is one next.
    pub(super) fn skip_end_of_line(&mut self) -> bool {
        let length = self.end_of_line(self.at);
        self.at += length;
        length > 0
    }

    /// Whether an end-of-line code follows after `count` bits.
    pub(super) fn ends_line_after(&self, count: usize) -> bool {
        self.end_of_line(self.at + count) == ZEROS as usize + 1
    }

    /// Goes on to the next end-of-line code, or to the end of the data.
    pub(super) fn find_end_of_line(&mut self) {
        while self.at < self.data.len() * 8 && self.peek(ZEROS) != 0 {
            self.at += 1;
        }
    }

    /// A run: any number of codes for multiples of 64, and one for the rest.
    pub(super) fn run(&mut self, color: Color) -> Option<usize> {
        let mut total = 0usize;
        loop {
            let (length, run) = codes::run(color, self.peek(codes::LONGEST))?;
            self.at += length;
            total += run;
            if run < 64 {
                return Some(total);
            }
        }
    }

    pub(super) fn mode(&mut self) -> Option<Mode> {
        let (length, mode) = codes::mode(self.peek(7))?;
        self.at += length;
        Some(mode)
    }
}
