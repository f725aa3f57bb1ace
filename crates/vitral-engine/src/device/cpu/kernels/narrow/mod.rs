//! Products of operands in 16 and 8 bits.
//!
//! `A` and `B` are in words of 32 bits that hold two bfloat16 or four bytes along the depth, so everything has the shape that it
//! has in 32 bits: a tile takes one word of each of its rows and a row of words of a panel, and multiplies and adds all that is
//! in them. Rows of `A` are rounded as they are packed, after a norm if there is one. Sums are in 32 bits, over the whole depth
//! at once: in floats in one order, in integers exact. What follows a product is done to a tile while it is in L1.

mod attention;
mod dot;
mod finish;
pub(super) mod gelu;
mod operand_a;
mod operand_b;
mod product;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use attention::attention;
pub(super) use operand_b::WordPanels;
pub(crate) use operand_b::{PackedWords, pack_words};
pub(super) use product::run;

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
    pub(super) fn of(self, depth: usize) -> usize {
        depth.div_ceil(self.values())
    }
}
