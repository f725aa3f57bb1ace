//! Products of operands in 16 and 8 bits.
//!
//! `A` and `B` are in words of 32 bits that hold two bfloat16 or four bytes along the depth, so everything has the shape that it
//! has in 32 bits: a tile takes one word of each of its rows and a row of words of a panel, and multiplies and adds all that is
//! in them. Rows of `A` are rounded as they are packed, after a norm if there is one. Sums are in 32 bits, over the whole depth
//! at once: in floats in one order, in integers exact. What follows a product is done to a tile while it is in L1.

mod attention;
mod dot;
mod finish;
mod gelu;
mod operand_a;
mod pack;
mod pair;
mod product;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use attention::attention;
pub(super) use pack::{pack_bf16_panel, pack_words};
pub(super) use product::WordProduct;
pub(crate) use product::chains;
pub(crate) use words::Words;
pub(super) use words::{PackedWords, WordPanels};
