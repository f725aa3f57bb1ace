//! The processor's own unit.

use std::arch::asm;
use std::marker::PhantomData;

use super::unit::{Extents, Unit};

/// The tiles of this thread, configured. They are released when this is dropped: a thread that goes on with other work has
/// nothing of them to save, and another library in the process finds them as they were before.
///
/// There is one of these at a time in a thread.
pub(in super::super) struct Amx(
    /// Tiles belong to a thread.
    PhantomData<*const ()>,
);

// The compiler does not use tiles by itself, so instructions need not name those that they change.
impl Amx {
    /// Configures whole tiles.
    ///
    /// # Safety
    /// The processor has AMX, the system permits this process to use it ([`usable`](super::usable)), and this thread holds no
    /// other.
    #[inline(always)]
    pub(in super::super) unsafe fn configured() -> Self {
        static WHOLE: Extents = Extents::WHOLE;
        // SAFETY: it reads the 64 bytes of the extents, which are valid ones, and changes tiles alone.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(readonly, nostack, preserves_flags));
        }
        Amx(PhantomData)
    }
}

impl Drop for Amx {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: it changes tiles alone, and there is AMX where there is such a value.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

impl Unit for Amx {
    #[inline(always)]
    fn zero<const TILE: usize>(&mut self) {
        // SAFETY: tiles are configured where there is such a value; it changes one of them.
        unsafe { asm!("tilezero tmm{}", const TILE, options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    unsafe fn load<const TILE: usize>(&mut self, from: *const f32, stride: usize) {
        // SAFETY: as in `zero`; the caller promises the memory, rows of 64 bytes as configured.
        unsafe {
            asm!(
                "tileloadd tmm{}, [{} + {} * 4]",
                const TILE,
                in(reg) from,
                in(reg) stride,
                options(readonly, nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize) {
        // SAFETY: as in `load`.
        unsafe {
            asm!(
                "tilestored [{} + {} * 4], tmm{}",
                in(reg) to,
                in(reg) stride,
                const TILE,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn multiply_bf16<const SUM: usize, const A: usize, const B: usize>(&mut self) {
        const { assert!(SUM != A && A != B && B != SUM, "the processor wants three different tiles") };
        // SAFETY: as in `zero`; the tiles are different, and their extents fit.
        unsafe {
            asm!(
                "tdpbf16ps tmm{}, tmm{}, tmm{}",
                const SUM,
                const A,
                const B,
                options(nomem, nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn multiply_bytes<const SUM: usize, const A: usize, const B: usize>(&mut self) {
        const { assert!(SUM != A && A != B && B != SUM, "the processor wants three different tiles") };
        // SAFETY: as in `multiply_bf16`.
        unsafe {
            asm!("tdpbusd tmm{}, tmm{}, tmm{}", const SUM, const A, const B, options(nomem, nostack, preserves_flags));
        }
    }
}
