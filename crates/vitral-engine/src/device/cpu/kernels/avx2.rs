//! AVX2 with FMA: eight values per vector, tiles of 6 × 16.

use std::arch::x86_64::*;

use super::lanes::{Kernel, Lanes};
use super::tile::{ATile, BTile, Init, PREFETCH_EVERY, Prefetch};

/// The token of AVX2 with FMA; made only in [`run`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs a kernel with AVX2 and FMA.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// A mask whose first `count` lanes are set.
#[inline(always)]
fn first_lanes(count: usize) -> __m256i {
    const TABLE: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the offset is 0…8, so eight values remain in the table.
    unsafe { _mm256_loadu_si256(TABLE.as_ptr().add(8 - count.min(8)).cast()) }
}

impl Lanes for Avx2 {
    type V = __m256;
    const N: usize = 8;

    // SAFETY (all methods): the token proves the instruction set; memory is checked against the slice's length.

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        assert!(from.len() >= 8);
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> __m256 {
        if from.len() >= 8 {
            return self.load(from);
        }
        unsafe { _mm256_maskload_ps(from.as_ptr(), first_lanes(from.len())) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], v: __m256) {
        assert!(to.len() >= 8);
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn store_part(self, to: &mut [f32], v: __m256) {
        // Processors of AMD's take many cycles for a masked store.
        if to.len() >= 8 {
            return self.store(to, v);
        }
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), first_lanes(to.len()), v) }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], v: __m256) {
        let mut bytes = [0u8; 16];
        unsafe {
            let words = _mm256_cvtps_epi32(v);
            let halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm_packus_epi16(halves, halves));
        }
        let count = to.len().min(8);
        to[..count].copy_from_slice(&bytes[..count]);
    }

    #[inline(always)]
    fn centered(self, sums: &[i32], zero: i32, of: &[i32]) -> __m256 {
        assert!(sums.len() >= 8 && of.len() >= 8);
        unsafe {
            let [sums, of] = [sums, of].map(|values| _mm256_loadu_si256(values.as_ptr().cast()));
            _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, _mm256_mullo_epi32(of, _mm256_set1_epi32(zero))))
        }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn scale_by_power(self, a: __m256, n: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn select_less(self, x: __m256, y: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_LT_OQ>(x, y)) }
    }

    #[inline(always)]
    fn prefetch(self, from: &[f32], ahead: usize) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(ahead).cast()) }
    }

    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn greatest(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

/// A tile of `M × 16`: `c = init + a · b`. It prefetches what is needed next.
///
/// # Safety
/// AVX2 and FMA are present; `a` has `M` rows and `k` steps, `b` has `k` rows of 16 values, `c` has `M` rows of as
/// many, `stride` apart; `init` is null or has such rows at its own stride.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile<const M: usize>(
    k: usize,
    a: ATile,
    b: BTile,
    c: *mut f32,
    stride: usize,
    init: Init,
    prefetch: Prefetch,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: all accesses stay within the extents that the caller promises.
    unsafe {
        if !init.data.is_null() {
            for (row, sum) in sums.iter_mut().enumerate() {
                let init = init.data.add(row * init.stride);
                *sum = [_mm256_loadu_ps(init), _mm256_loadu_ps(init.add(8))];
            }
        }
        if init.data != c.cast_const() {
            for row in 0..M {
                _mm_prefetch::<_MM_HINT_T0>(c.add(row * stride).cast());
            }
        }
        let mut a_rows = a.thirds::<M>();
        let (mut b_data, mut next) = (b.data, prefetch.from);
        // One step of the depth.
        macro_rules! step {
            () => {{
                let b_row = [_mm256_loadu_ps(b_data), _mm256_loadu_ps(b_data.add(8))];
                for_rows!(M, ROW => {
                    let value = _mm256_broadcast_ss(&*a_rows[ROW / 3].add(ROW % 3 * a.row_stride));
                    sums[ROW][0] = _mm256_fmadd_ps(value, b_row[0], sums[ROW][0]);
                    sums[ROW][1] = _mm256_fmadd_ps(value, b_row[1], sums[ROW][1]);
                });
                for row in &mut a_rows {
                    *row = row.wrapping_add(a.step);
                }
                b_data = b_data.wrapping_add(b.step);
            }};
        }
        for _ in 0..k / PREFETCH_EVERY {
            for _ in 0..prefetch.rows {
                // A hint: an address that is not there does no harm.
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(b.step);
            }
            for _ in 0..PREFETCH_EVERY {
                step!();
            }
        }
        for _ in 0..k % PREFETCH_EVERY {
            step!();
        }
        for (row, sum) in sums.iter().enumerate() {
            let c = c.add(row * stride);
            _mm256_storeu_ps(c, sum[0]);
            _mm256_storeu_ps(c.add(8), sum[1]);
        }
    }
}

/// Packs `columns ≤ 16` columns of `depth` values, `stride` apart, as `[depth][16]`, with zeros beyond `columns`.
///
/// # Safety
/// AVX2 is present; the columns are readable, and `out` has room for `16 · depth` values.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn pack_columns(data: *const f32, stride: usize, columns: usize, depth: usize, out: *mut f32) {
    // SAFETY: within the extents that the caller promises; partial loads are masked.
    unsafe {
        for half in 0..2 {
            let rows = columns.saturating_sub(8 * half).min(8);
            for start in (0..depth).step_by(8) {
                let steps = (depth - start).min(8);
                let mut v = [_mm256_setzero_ps(); 8];
                for (row, v) in v.iter_mut().enumerate().take(rows) {
                    let from = data.add((8 * half + row) * stride + start);
                    *v = if steps == 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, first_lanes(steps)) };
                }
                let v = transpose(v);
                for (k, v) in v.iter().enumerate().take(steps) {
                    _mm256_storeu_ps(out.add((start + k) * 16 + 8 * half), *v);
                }
            }
        }
    }
}

/// Transposes eight vectors.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    let zero = _mm256_setzero_ps();
    let (mut t, mut q, mut out) = ([zero; 8], [zero; 8], [zero; 8]);
    for i in 0..4 {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // q[4 i + j] holds, in its 128-bit lane b, column 4 b + j of rows 4 i … 4 i + 3.
    for i in 0..2 {
        q[4 * i] = _mm256_shuffle_ps::<0x44>(t[4 * i], t[4 * i + 2]);
        q[4 * i + 1] = _mm256_shuffle_ps::<0xee>(t[4 * i], t[4 * i + 2]);
        q[4 * i + 2] = _mm256_shuffle_ps::<0x44>(t[4 * i + 1], t[4 * i + 3]);
        q[4 * i + 3] = _mm256_shuffle_ps::<0xee>(t[4 * i + 1], t[4 * i + 3]);
    }
    for j in 0..4 {
        out[j] = _mm256_permute2f128_ps::<0x20>(q[j], q[4 + j]);
        out[4 + j] = _mm256_permute2f128_ps::<0x31>(q[j], q[4 + j]);
    }
    out
}
