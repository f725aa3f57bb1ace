//! The entropy-coded bytes of a scan: bits, and the markers between their segments.
//!
//! Data that ends too soon, at a marker, is continued with zeros to the end of the unit; units after that stay as they
//! are until a restart marker brings new data. A wrong restart marker is skipped, taken for the right one or waited for
//! by libjpeg's rules, so that damaged images look the same here.

use super::super::ImageError;
use super::fault::truncated;

/// The place in a segment.
#[derive(Clone, Copy, Default)]
struct Place {
    at: usize,
    window: u64,
    held: u32,
}

/// Bits of a segment, from the most significant on. Rare cases take it by value, so that it can stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte; beyond the end, zeros are counted as if they were there.
    at: usize,
    /// The next bits, from the top. Below those that are held stand the first bits of the byte at `at`, or zeros.
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

    /// The next bits, from 1 to 32; they stay.
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

    /// Whether bits were taken that are not there.
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
    /// The segment, without the zeros that are stuffed behind 0xFF.
    data: Vec<u8>,
    place: Place,
    /// The marker that ends the segment, and where it stands.
    marker: u8,
    end: usize,
    /// No more data is to be had before the next restart.
    exhausted: bool,
    /// The number of the next restart marker.
    expected: u8,
    interval: usize,
    /// Units before the next restart, where there is one.
    left: usize,
}

impl<'a> Entropy<'a> {
    /// The coded data of a scan that begins at `start`.
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

    /// Up to `units` units before the next restart, which is passed if it is due; `true` says that it was.
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

    /// Nothing more will come, not even after a restart.
    pub(super) fn is_over(&self) -> bool {
        self.exhausted && self.interval == 0
    }

    /// Lets `read` take bits, unless there are none left; it says how many units it has read to the end of the data.
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

    /// Passes the restart marker that is due, by the rules of libjpeg's `jpeg_resync_to_restart`.
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
                // An earlier one, or nonsense: on to the next.
                6 | 7 => self.load(self.end + 2)?,
                // The right one, or so far off that it may as well be.
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
            // Most chunks hold no 0xFF, and are taken as they are.
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
            // However often 0xFF is repeated, it counts once.
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
