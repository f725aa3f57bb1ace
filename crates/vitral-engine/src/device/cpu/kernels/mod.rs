//! The only place in the engine with `unsafe`: instruction sets, raw tiles, and views of memory.
#![expect(unsafe_code, reason = "vector intrinsics, and disjoint writes from several threads")]

/// Writes `$body` out for every row of a tile, with its number as `$row`: a loop that the compiler leaves a loop would
/// keep the sums in memory.
macro_rules! for_rows {
    ($rows:ident, $row:ident => $body:block) => {
        for_rows!(@ $rows, $row => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $rows:ident, $row:ident => $body:block; $($index:literal)+) => {$(
        if $index < $rows {
            const $row: usize = $index;
            $body
        }
    )+};
}

mod attention;
mod cache;
mod epilogue;
mod gemm;
mod isa;
mod lanes;
mod matrix_a;
mod matrix_b;
mod narrow;
mod pack;
mod panel_kind;
mod shared;
mod shared_pack;
mod tile;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

pub(crate) use attention::{Problem, attention, attention_backward, output_backward, weights_backward};
pub(crate) use epilogue::GemmEpilogue;
pub(crate) use gemm::Gemm;
pub(crate) use isa::Isa;
pub(crate) use lanes::{Kernel, Lanes};
pub(crate) use matrix_a::{MatrixA, NormOnLoad};
#[cfg(test)]
pub(crate) use matrix_b::packed_len;
pub(crate) use matrix_b::{MatrixB, PackedB};
pub(crate) use narrow::{Words, attention as attention_bf16, chains as word_chains};
pub(crate) use pack::{ReadyB, pack, pack_narrow};
pub(crate) use panel_kind::PanelKind;
pub(crate) use shared::prefer_huge_pages;
pub(crate) use shared_pack::SharedPack;
