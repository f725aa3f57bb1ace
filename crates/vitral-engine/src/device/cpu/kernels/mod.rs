//! The only place in the engine with `unsafe`: instruction sets, raw tiles, and views of memory.
#![expect(unsafe_code, reason = "vector intrinsics, and disjoint writes from several threads")]

/// Writes `$body` out for every row of a tile, with its number as `$row`: a loop that the compiler leaves a loop would keep
/// the sums in memory.
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

mod gemm;
mod joint;
mod lanes;
mod left;
mod shared;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
#[cfg(test)]
mod tests;

pub use gemm::Activation;
pub(crate) use gemm::{Epilogue, Gemm, NormOnLoad, SERIAL_WORK};
pub(crate) use joint::JointPack;
pub(crate) use lanes::{Isa, Kernel, Lanes};
pub(crate) use left::Lhs;
pub use pack::Storage;
pub(crate) use pack::{Operand, PackedRhs, Panels, Rhs, pack_rhs_parallel, pack_rhs_serial, packed_len};
pub(crate) use shared::{SharedMut, prefer_huge_pages};
