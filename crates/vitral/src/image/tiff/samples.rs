//! From the rows of a strip or tile to samples that are 8 or 16 bits wide.

use half::f16;

use super::layout::{Color, Kind, Layout};

/// The samples of an image that are used, pixel by pixel.
pub(super) enum Samples {
    /// 8 bits, or reduced to 8.
    Bytes(Vec<u8>),
    /// Unsigned samples of 9 to 16 bits.
    Words(Vec<u16>),
}

/// What happens to a sample.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is a byte.
    Byte,
    /// It has fewer than 8 bits, and is scaled to 255.
    Scaled,
    /// It has fewer than 8 bits, and is the number of a color.
    Index,
    /// It is kept in 16 bits.
    Word,
    /// Whole numbers and real numbers are cut off at 0 and 255, as by Pillow.
    Clipped,
}

impl Step {
    pub(super) fn of(layout: &Layout) -> Self {
        match (layout.kind, layout.bits) {
            // Pillow takes the bits of signed bytes as they are.
            (Kind::Unsigned | Kind::Signed, 8) => Step::Byte,
            (Kind::Unsigned, ..8) if layout.color == Color::Palette => Step::Index,
            (Kind::Unsigned, ..8) => Step::Scaled,
            (Kind::Unsigned, ..=16) => Step::Word,
            _ => Step::Clipped,
        }
    }
}

/// A row of stored samples; those wider than a byte are little-endian if they are whole bytes.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) bits: u32,
    pub(super) kind: Kind,
}

impl Row<'_> {
    /// A sample of at most 16 bits that are stored from the highest to the lowest.
    fn packed(&self, index: usize) -> u32 {
        let at = index * self.bits as usize;
        let byte = |index: usize| u32::from(self.bytes.get(at / 8 + index).copied().unwrap_or(0));
        let window = byte(0) << 16 | byte(1) << 8 | byte(2);
        window << (8 + at % 8) >> (32 - self.bits)
    }

    pub(super) fn index(&self, index: usize) -> u8 {
        self.packed(index) as u8
    }

    /// A sample of fewer than 8 bits, scaled to 255.
    pub(super) fn scaled(&self, index: usize) -> u8 {
        let most = (1 << self.bits) - 1;
        ((self.packed(index) * 255 + most / 2) / most) as u8
    }

    /// A sample of 16 bits.
    pub(super) fn word(&self, index: usize) -> u16 {
        u16::from_le_bytes(self.array(index))
    }

    /// A sample of 9 to 15 bits.
    pub(super) fn packed_word(&self, index: usize) -> u16 {
        self.packed(index) as u16
    }

    /// A sample as the number that it is.
    pub(super) fn number(&self, index: usize) -> f32 {
        match (self.kind, self.bits) {
            (Kind::Float, 16) => f32::from(f16::from_le_bytes(self.array(index))),
            (Kind::Float, 32) => f32::from_le_bytes(self.array(index)),
            (Kind::Float, _) => f64::from_le_bytes(self.array(index)) as f32,
            (Kind::Signed, 8) => f32::from(self.bytes[index] as i8),
            (Kind::Signed, _) => f32::from(i16::from_le_bytes(self.array(index))),
            (Kind::Unsigned, 8) => f32::from(self.bytes[index]),
            (Kind::Unsigned, 16) => f32::from(self.word(index)),
            (Kind::Unsigned, _) => self.packed(index) as f32,
        }
    }

    fn array<const N: usize>(&self, index: usize) -> [u8; N] {
        self.bytes[index * N..][..N].try_into().expect("as long")
    }

    /// A number, cut off at 0 and 255.
    pub(super) fn clipped(&self, index: usize) -> u8 {
        match (self.kind, self.bits) {
            (Kind::Float, 16) => f32::from(f16::from_le_bytes(self.array(index))) as u8,
            (Kind::Float, 32) => f32::from_le_bytes(self.array(index)) as u8,
            (Kind::Float, _) => f64::from_le_bytes(self.array(index)) as u8,
            (Kind::Signed, 16) => i16::from_le_bytes(self.array(index)).clamp(0, 255) as u8,
            (Kind::Signed, 32) => i32::from_le_bytes(self.array(index)).clamp(0, 255) as u8,
            (Kind::Signed, _) => i64::from_le_bytes(self.array(index)).clamp(0, 255) as u8,
            // Pillow takes them as signed, so those above 2³¹ are black.
            (Kind::Unsigned, 32) => i32::from_le_bytes(self.array(index)).clamp(0, 255) as u8,
            (Kind::Unsigned, _) => u64::from_le_bytes(self.array(index)).min(255) as u8,
        }
    }
}
