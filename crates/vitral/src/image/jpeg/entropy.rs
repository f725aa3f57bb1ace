//! The entropy-coded bytes of a scan: bits, and the markers between their segments.
//!
//! Data that ends too soon, at a marker, is continued with zeros to the end of the unit; units after that are left as
//! they are until a restart marker brings new data. A wrong restart marker is skipped, accepted as the right one or
//! waited for by libjpeg's rules, so that damaged images look the same here.

use super::super::ImageError;
use super::fault::truncated;

/// The position in a segment.
#[derive(Clone, Copy, Default)]
struct Place {
    at: usize,
    window: u64,
    held: u32,
}

/// Bits of a segment, most significant first. Rare cases take it by value, so that it can stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte; beyond the end, zeros count as bytes.
    at: usize,
    /// The next bits, left-aligned. Below the `held` ones are the first bits of the byte at `at`, or zeros.
    window: u64,
    held: u32,
}

impl Bits<'_> {
    /// At least this many bits are held after [`refill`](Self::refill).
    pub(super) const REFILLED: u32 = 32;

    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.held < Self::REFILLED {
            match self.data.get(self.at..).and_then(|rest| rest.first_chunk()) {
                Some(&bytes) => {
                    self.window |= u64::from_be_bytes(bytes) >> self.held;
                    let taken = (63 - self.held) >> 3;
                    self.at += taken as usize;
                    self.held += taken * 8;
                }
                None => *self = self.refilled_at_the_end(),
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn refilled_at_the_end(mut self) -> Self {
        while self.held <= 56 {
            let byte = self.data.get(self.at).copied().unwrap_or(0);
            self.window |= u64::from(byte) << (56 - self.held);
            self.at += 1;
            self.held += 8;
        }
        self
    }

    /// The next bits, from 1 to 32, without consuming them.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> u32 {
        (self.window >> (64 - count)) as u32
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.window <<= count;
        self.held -= count;
    }

    /// The next bits, from 0 to 31.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let bits = ((self.window >> 1) >> (63 - count)) as u32;
        self.skip(count);
        bits
    }

    /// Whether bits beyond the end of the data were consumed.
    #[inline(always)]
    pub(super) fn overdrawn(&self) -> bool {
        self.at > self.data.len() && self.at * 8 - self.held as usize > self.data.len() * 8
    }

    fn place(&self) -> Place {
        Place { at: self.at, window: self.window, held: self.held }
    }
}

/// The segments of a scan, one at a time.
pub(super) struct Entropy<'a> {
    file: &'a [u8],
    /// The segment, without the zeros stuffed after 0xFF.
    data: Vec<u8>,
    place: Place,
    /// The marker that ends the segment, and its position.
    marker: u8,
    end: usize,
    /// There is no more data before the next restart.
    exhausted: bool,
    /// The number of the next restart marker.
    expected: u8,
    interval: usize,
    /// Units before the next restart, if restarts are used.
    left: usize,
}

impl<'a> Entropy<'a> {
    /// The entropy-coded data of a scan that begins at `start`.
    pub(super) fn new(file: &'a [u8], start: usize, interval: usize) -> Result<Self, ImageError> {
        let mut entropy = Entropy {
            file,
            data: Vec::new(),
            place: Place::default(),
            marker: 0,
            end: start,
            exhausted: false,
            expected: 0,
            interval,
            left: interval,
        };
        entropy.load(start)?;
        Ok(entropy)
    }

    /// The marker at which the scan's data ends.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Up to `units` units before the next restart, which is processed if it is due; the second value is whether it
    /// was.
    pub(super) fn run(&mut self, units: usize) -> Result<(usize, bool), ImageError> {
        if self.interval == 0 {
            return Ok((units, false));
        }
        let due = self.left == 0;
        if due {
            self.restart()?;
        }
        let run = units.min(self.left);
        self.left -= run;
        Ok((run, due))
    }

    /// Whether there is no more data, not even after a restart.
    pub(super) fn is_over(&self) -> bool {
        self.exhausted && self.interval == 0
    }

    /// Lets `read` consume bits, unless there are none left; it returns how many units it has read before the end of
    /// the data.
    #[inline(always)]
    pub(super) fn read(&mut self, read: impl FnOnce(&mut Bits) -> usize) -> usize {
        if self.exhausted {
            return 0;
        }
        let Place { at, window, held } = self.place;
        let mut bits = Bits { data: &self.data, at, window, held };
        let units = read(&mut bits);
        let (exhausted, place) = (bits.overdrawn(), bits.place());
        self.exhausted = exhausted;
        self.place = place;
        units
    }

    /// Processes the restart marker that is due, by the rules of libjpeg's `jpeg_resync_to_restart`.
    fn restart(&mut self) -> Result<(), ImageError> {
        self.place = Place::default();
        self.left = self.interval;
        let expected = self.expected;
        self.expected = (expected + 1) & 7;
        loop {
            let ahead = match self.marker {
                0xD0..=0xD7 => self.marker.wrapping_sub(expected) & 7,
                0xC0.. => {
                    // Another part of the file begins: this segment is empty.
                    self.data.clear();
                    return Ok(());
                }
                _ => 7,
            };
            match ahead {
                // A later one: data was lost, and this segment is empty.
                1 | 2 => {
                    self.data.clear();
                    return Ok(());
                }
                // An earlier one, or an invalid one: skip to the next.
                6 | 7 => self.load(self.end + 2)?,
                // The right one, or so far off that it is treated as such.
                _ => {
                    self.exhausted = false;
                    return self.load(self.end + 2);
                }
            }
        }
    }

    /// Reads a segment up to the marker that ends it.
    fn load(&mut self, start: usize) -> Result<(), ImageError> {
        const CHUNK: usize = 32;
        self.place = Place::default();
        self.data.clear();
        let cut = || truncated("no end marker");
        let mut rest = self.file.get(start..).ok_or_else(cut)?;
        loop {
            // Most chunks hold no 0xFF and are copied unchanged.
            while let Some((chunk, after)) = rest.split_first_chunk::<CHUNK>() {
                if chunk.iter().fold(0, |most, &byte| byte.max(most)) == 0xFF {
                    break;
                }
                self.data.extend_from_slice(chunk);
                rest = after;
            }
            let plain = rest.iter().position(|&byte| byte == 0xFF).ok_or_else(cut)?;
            self.data.extend_from_slice(&rest[..plain]);
            rest = &rest[plain..];
            // Repeated 0xFF bytes count once.
            let repeated = rest.iter().position(|&byte| byte != 0xFF).ok_or_else(cut)?;
            let code = rest[repeated];
            rest = &rest[repeated + 1..];
            if code != 0 {
                self.marker = code;
                self.end = self.file.len() - rest.len() - 2;
                return Ok(());
            }
            self.data.push(0xFF);
        }
    }
}
