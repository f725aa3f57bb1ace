//! AMX: products of tiles of 16 × 16 words, by instructions that stable Rust has no names for.
//!
//! They are written by `asm!`, which needs no target feature, behind the five small functions of [`Unit`](unit::Unit). [`Amx`] is
//! the processor's unit; its twin in plain Rust does what Intel's manual says of each instruction, so that everything above it is
//! tested on any machine.

mod block;
mod detect;
mod hardware;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
mod unit;

pub(super) use block::{Block, chains};
pub(super) use detect::{fault, usable};
pub(super) use hardware::Amx;
#[cfg(test)]
pub(super) use twin::Twin;
#[cfg(test)]
pub(super) use unit::Extents;
pub(super) use unit::{Holds, ROWS, WORDS};
