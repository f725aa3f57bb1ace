//! Words of 32 bits, and matrix `B` in panels of them.

use std::ops::Range;

use super::super::isa::Isa;
use crate::device::cpu::buffer::Buffer;

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Two bfloat16.
    Bf16,
    /// Four bytes: unsigned in `A`, signed in `B`.
    Int8,
}

impl Words {
    /// Values in a word.
    pub(super) fn values(self) -> usize {
        match self {
            Words::Bf16 => 2,
            Words::Int8 => 4,
        }
    }

    /// Words that hold so many values.
    pub(in super::super) fn of(self, depth: usize) -> usize {
        depth.div_ceil(self.values())
    }
}

/// `B` as a product reads it: panels `[word of the depth][panel]`.
#[derive(Clone, Copy)]
pub(crate) struct WordPanels<'a> {
    pub(super) words: Words,
    pub(super) data: &'a [f32],
    /// Of bytes.
    pub(super) int8: Int8Panels<'a>,
}

/// What comes with bytes, for every column of all panels.
#[derive(Clone, Copy, Default)]
pub(crate) struct Int8Panels<'a> {
    /// What a unit is worth.
    pub(super) scales: &'a [f32],
    /// Sums over the depth.
    pub(super) sums: &'a [i32],
}

impl<'a> WordPanels<'a> {
    /// bfloat16 that were packed anew.
    pub(in super::super) fn bf16(data: &'a [f32]) -> Self {
        WordPanels { words: Words::Bf16, data, int8: Int8Panels::default() }
    }

    /// Whether this is a matrix of such extents.
    pub(in super::super) fn fits(&self, isa: Isa, depth: usize, columns: usize) -> bool {
        let padded = columns.next_multiple_of(isa.panel());
        self.data.len() == padded * self.words.of(depth)
            && (self.words == Words::Bf16 || (self.int8.scales.len() == padded && self.int8.sums.len() == padded))
    }

    /// Panels of some columns, the first of which begins one.
    pub(in super::super) fn columns(self, isa: Isa, depth: usize, columns: Range<usize>) -> Self {
        let padded = columns.start..columns.end.next_multiple_of(isa.panel());
        let steps = self.words.of(depth);
        let int8 = match self.words {
            Words::Bf16 => self.int8,
            Words::Int8 => {
                Int8Panels { scales: &self.int8.scales[padded.clone()], sums: &self.int8.sums[padded.clone()] }
            }
        };
        WordPanels { data: &self.data[padded.start * steps..padded.end * steps], int8, ..self }
    }

    /// One value, as it is stored.
    pub(super) fn value(&self, isa: Isa, depth: usize, (k, column): (usize, usize)) -> f32 {
        let (width, steps, each) = (isa.panel(), self.words.of(depth), self.words.values());
        let word = self.data[column / width * width * steps + k / each * width + column % width].to_bits();
        match self.words {
            Words::Bf16 => f32::from_bits(if k % 2 == 0 { word << 16 } else { word & 0xffff_0000 }),
            Words::Int8 => f32::from(word.to_le_bytes()[k % 4] as i8),
        }
    }
}

/// `B`, packed in words.
pub(crate) struct PackedWords {
    pub(super) words: Words,
    pub(super) data: Buffer,
    pub(super) scales: Vec<f32>,
    pub(super) sums: Vec<i32>,
}

impl PackedWords {
    pub(crate) fn panels(&self) -> WordPanels<'_> {
        let int8 = Int8Panels { scales: &self.scales, sums: &self.sums };
        WordPanels { words: self.words, data: self.data.as_slice(), int8 }
    }

    pub(crate) fn bytes(&self) -> usize {
        4 * (self.data.len() + self.scales.len() + self.sums.len())
    }

    /// The matrix `[columns, depth]` that was packed, rounded as it is.
    pub(crate) fn to_rows(&self, isa: Isa, depth: usize, columns: usize) -> Vec<f32> {
        let panels = self.panels();
        let mut matrix = Vec::with_capacity(columns * depth);
        for column in 0..columns {
            let scale = if self.words == Words::Int8 { self.scales[column] } else { 1.0 };
            matrix.extend((0..depth).map(|k| scale * panels.value(isa, depth, (k, column))));
        }
        matrix
    }
}
