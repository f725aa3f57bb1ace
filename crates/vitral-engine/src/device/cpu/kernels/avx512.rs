//! AVX-512: sixteen values per vector, tiles of 14 × 32.

use std::arch::x86_64::*;

use super::lanes::{Kernel, Lanes};
use super::tile::{ATile, BTile, Init, PREFETCH_EVERY, Prefetch};

/// The token of AVX-512; made only in [`run`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Runs a kernel with AVX-512.
///
/// # Safety
/// The processor has AVX-512 F, DQ, BW, VL and FMA.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// As [`run`], with the conversions to bfloat16.
///
/// # Safety
/// As for [`run`], and the processor has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { (1u16 << count) - 1 }
}

impl Lanes for Avx512 {
    type V = __m512;
    const N: usize = 16;

    // SAFETY (all methods): the token proves the instruction set; memory is checked against the slice's length.

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        assert!(from.len() >= 16);
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(first_lanes(from.len()), from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], v: __m512) {
        assert!(to.len() >= 16);
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn store_part(self, to: &mut [f32], v: __m512) {
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first_lanes(to.len()), v) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn scale_by_power(self, a: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn scale_by_any_power(self, a: __m512, n: __m512) -> __m512 {
        self.scale_by_power(a, n)
    }

    #[inline(always)]
    fn select_less(self, x: __m512, y: __m512, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y), b, a) }
    }

    #[inline(always)]
    fn store_bf16(self, to: &mut [u16], v: __m512) {
        unsafe {
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(v));
            _mm256_mask_storeu_epi16(to.as_mut_ptr().cast(), first_lanes(to.len()), rounded);
        }
    }

    const LOOKS_UP: bool = true;

    #[inline(always)]
    fn look_up(self, table: &[f32; 32], places: __m512) -> __m512 {
        unsafe {
            let [low, high] = [0, 16].map(|first| _mm512_loadu_ps(table.as_ptr().add(first)));
            _mm512_permutex2var_ps(low, _mm512_castps_si512(places), high)
        }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], v: __m512) {
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_mask_storeu_epi8(to.as_mut_ptr().cast(), first_lanes(to.len()), bytes);
        }
    }

    #[inline(always)]
    fn centered(self, sums: &[i32], zero: i32, of: &[i32]) -> __m512 {
        assert!(sums.len() >= 16 && of.len() >= 16);
        unsafe {
            let (sums, of) = (_mm512_loadu_epi32(sums.as_ptr()), _mm512_loadu_epi32(of.as_ptr()));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_mullo_epi32(of, _mm512_set1_epi32(zero))))
        }
    }

    #[inline(always)]
    fn prefetch(self, from: &[f32], ahead: usize) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(ahead).cast()) }
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }

    #[inline(always)]
    fn greatest(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
}

/// A tile of `M × 32`: `c = init + a · b`. It prefetches what is needed next.
///
/// # Safety
/// AVX-512 is present; `a` has `M` rows and `k` steps, `b` has `k` rows of 32 values, `c` has `M` rows of as many,
/// `stride` apart; `init` is null or has such rows at its own stride.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
pub(super) unsafe fn tile<const M: usize>(
    k: usize,
    a: ATile,
    b: BTile,
    c: *mut f32,
    stride: usize,
    init: Init,
    prefetch: Prefetch,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    // SAFETY: all accesses stay within the extents that the caller promises.
    unsafe {
        if !init.data.is_null() {
            for (row, sum) in sums.iter_mut().enumerate() {
                let init = init.data.add(row * init.stride);
                *sum = [_mm512_loadu_ps(init), _mm512_loadu_ps(init.add(16))];
            }
        }
        if init.data != c.cast_const() {
            for row in 0..M {
                _mm_prefetch::<_MM_HINT_T0>(c.add(row * stride).cast());
            }
        }
        let mut a_rows = a.thirds::<M>();
        let (mut b_data, mut next) = (b.data, prefetch.from);
        for step in 0..k {
            if step % PREFETCH_EVERY == 0 {
                for _ in 0..prefetch.rows {
                    // A hint: an address that is not there does no harm.
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(16).cast());
                    next = next.wrapping_add(b.step);
                }
            }
            let b_row = [_mm512_loadu_ps(b_data), _mm512_loadu_ps(b_data.add(16))];
            for_rows!(M, ROW => {
                let value = _mm512_set1_ps(*a_rows[ROW / 3].add(ROW % 3 * a.row_stride));
                sums[ROW][0] = _mm512_fmadd_ps(value, b_row[0], sums[ROW][0]);
                sums[ROW][1] = _mm512_fmadd_ps(value, b_row[1], sums[ROW][1]);
            });
            for row in &mut a_rows {
                *row = row.wrapping_add(a.step);
            }
            b_data = b_data.wrapping_add(b.step);
        }
        for (row, sum) in sums.iter().enumerate() {
            let c = c.add(row * stride);
            _mm512_storeu_ps(c, sum[0]);
            _mm512_storeu_ps(c.add(16), sum[1]);
        }
    }
}

/// Packs `columns ≤ 32` columns of `depth` values, `stride` apart, as `[depth][32]`, with zeros beyond `columns`.
///
/// # Safety
/// AVX-512 is present; the columns are readable, and `out` has room for `32 · depth` values.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
pub(super) unsafe fn pack_columns(data: *const f32, stride: usize, columns: usize, depth: usize, out: *mut f32) {
    // SAFETY: within the extents that the caller promises; partial loads are masked.
    unsafe {
        for half in 0..2 {
            let rows = columns.saturating_sub(16 * half).min(16);
            let mut start = 0;
            while start < depth {
                let steps = (depth - start).min(16);
                let mask = first_lanes(steps);
                let mut v = [_mm512_setzero_ps(); 16];
                for (row, v) in v.iter_mut().enumerate().take(rows) {
                    *v = _mm512_maskz_loadu_ps(mask, data.add((16 * half + row) * stride + start));
                }
                let v = transpose(v);
                for (k, v) in v.iter().enumerate().take(steps) {
                    _mm512_storeu_ps(out.add((start + k) * 32 + 16 * half), *v);
                }
                start += 16;
            }
        }
    }
}

/// Transposes sixteen vectors.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(r: [__m512; 16]) -> [__m512; 16] {
    let zero = _mm512_setzero_ps();
    let mut t = [zero; 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    let mut q = [zero; 16];
    for i in 0..4 {
        let pair = |a: __m512, b: __m512| {
            let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
            (_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
        };
        (q[4 * i], q[4 * i + 1]) = pair(t[4 * i], t[4 * i + 2]);
        (q[4 * i + 2], q[4 * i + 3]) = pair(t[4 * i + 1], t[4 * i + 3]);
    }
    // q[4 i + j] holds, in its 128-bit lane b, column 4 b + j of rows 4 i … 4 i + 3.
    let mut out = [zero; 16];
    for j in 0..4 {
        let low = _mm512_shuffle_f32x4::<0x88>(q[j], q[4 + j]);
        let high = _mm512_shuffle_f32x4::<0xdd>(q[j], q[4 + j]);
        let low2 = _mm512_shuffle_f32x4::<0x88>(q[8 + j], q[12 + j]);
        let high2 = _mm512_shuffle_f32x4::<0xdd>(q[8 + j], q[12 + j]);
        out[j] = _mm512_shuffle_f32x4::<0x88>(low, low2);
        out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
        out[4 + j] = _mm512_shuffle_f32x4::<0x88>(high, high2);
        out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
    }
    out
}
