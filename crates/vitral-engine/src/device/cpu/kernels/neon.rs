//! NEON: four values per vector, tiles of 12 × 8.

use std::arch::aarch64::*;
use std::arch::asm;

use super::lanes::{Kernel, Lanes};
use super::tile::{ATile, BTile, Init, PREFETCH_EVERY, Prefetch};

/// The token of NEON; made only in [`run`].
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// Runs a kernel with NEON.
///
/// # Safety
/// The processor has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon(()))
}

impl Lanes for Neon {
    type V = float32x4_t;
    const N: usize = 4;

    // SAFETY (all methods): the token proves the instruction set; memory is checked against the slice's length.

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> float32x4_t {
        assert!(from.len() >= 4);
        unsafe { vld1q_f32(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> float32x4_t {
        let mut four = [0.0f32; 4];
        let count = from.len().min(4);
        four[..count].copy_from_slice(&from[..count]);
        unsafe { vld1q_f32(four.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], v: float32x4_t) {
        assert!(to.len() >= 4);
        unsafe { vst1q_f32(to.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn store_part(self, to: &mut [f32], v: float32x4_t) {
        let mut four = [0.0f32; 4];
        unsafe { vst1q_f32(four.as_mut_ptr(), v) };
        let count = to.len().min(4);
        to[..count].copy_from_slice(&four[..count]);
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        unsafe { vabsq_f32(a) }
    }

    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(a) }
    }

    #[inline(always)]
    fn scale_by_power(self, a: float32x4_t, n: float32x4_t) -> float32x4_t {
        unsafe {
            let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn select_less(self, x: float32x4_t, y: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(x, y), a, b) }
    }

    #[inline(always)]
    fn prefetch(self, from: &[f32], ahead: usize) {
        fetch(from.as_ptr().wrapping_add(ahead));
    }

    #[inline(always)]
    fn sum(self, a: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(a) }
    }

    #[inline(always)]
    fn greatest(self, a: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(a) }
    }
}

/// Asks for a cache line. A hint: an address that is not there does no harm.
#[inline(always)]
fn fetch(from: *const f32) {
    // SAFETY: the instruction reads nothing that a program can see, and never faults.
    unsafe { asm!("prfm pldl2keep, [{}]", in(reg) from, options(nostack, preserves_flags, readonly)) }
}

/// A tile of `M × 8`: `c = init + a · b`. It prefetches what is needed next.
///
/// # Safety
/// `a` has `M` rows and `k` steps, `b` has `k` rows of 8 values, `c` has `M` rows of as many,
/// `stride` apart; `init` is null or has such rows at its own stride.
#[target_feature(enable = "neon")]
pub(super) unsafe fn tile<const M: usize>(
    k: usize,
    a: ATile,
    b: BTile,
    c: *mut f32,
    stride: usize,
    init: Init,
    prefetch: Prefetch,
) {
    // SAFETY: all accesses stay within the extents that the caller promises.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 2]; M];
        if !init.data.is_null() {
            for (row, sum) in sums.iter_mut().enumerate() {
                let init = init.data.add(row * init.stride);
                *sum = [vld1q_f32(init), vld1q_f32(init.add(4))];
            }
        }
        let mut a_rows = a.thirds::<M>();
        let (mut b_data, mut next) = (b.data, prefetch.from);
        for step in 0..k {
            if step % PREFETCH_EVERY == 0 {
                for _ in 0..prefetch.rows {
                    fetch(next);
                    next = next.wrapping_add(b.step);
                }
            }
            let b_row = [vld1q_f32(b_data), vld1q_f32(b_data.add(4))];
            for_rows!(M, ROW => {
                let value = vdupq_n_f32(*a_rows[ROW / 3].add(ROW % 3 * a.row_stride));
                sums[ROW][0] = vfmaq_f32(sums[ROW][0], value, b_row[0]);
                sums[ROW][1] = vfmaq_f32(sums[ROW][1], value, b_row[1]);
            });
            for row in &mut a_rows {
                *row = row.wrapping_add(a.step);
            }
            b_data = b_data.wrapping_add(b.step);
        }
        for (row, sum) in sums.iter().enumerate() {
            let c = c.add(row * stride);
            vst1q_f32(c, sum[0]);
            vst1q_f32(c.add(4), sum[1]);
        }
    }
}
