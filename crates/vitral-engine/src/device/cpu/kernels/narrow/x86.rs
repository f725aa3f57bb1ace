//! Tiles of words with AVX512-BF16, AVX512-VNNI, AVX-VNNI, and with AVX2 alone.

use std::arch::x86_64::*;

use super::super::tile::{ATile, PREFETCH_EVERY, Prefetch};

/// A tile of `M × 32` over words; `$dot` multiplies and adds what is in them.
macro_rules! tile_avx512 {
    ($name:ident, $features:literal, $zero:expr, |$sum:ident, $a:ident, $b:ident| $dot:expr, $store:expr) => {
        /// Sums of a tile of `M × 32`, in rows `stride` apart. It prefetches what is needed next.
        ///
        /// # Safety
        /// The instructions in its name are present; `a` has `M` rows and `k` words, `b` has `k` rows of 32 words, `out` has
        /// `M` rows of 32, `stride` apart.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const M: usize>(
            k: usize,
            a: ATile,
            b: *const f32,
            out: *mut f32,
            stride: usize,
            prefetch: Prefetch,
        ) {
            let mut sums = [[$zero; 2]; M];
            // SAFETY: all accesses stay within the extents that the caller promises.
            unsafe {
                let mut a_rows = a.thirds::<M>();
                let (mut b_data, mut next) = (b, prefetch.from);
                for step in 0..k {
                    if step % PREFETCH_EVERY == 0 {
                        for _ in 0..prefetch.rows {
                            // A hint: an address that is not there does no harm.
                            _mm_prefetch::<_MM_HINT_T1>(next.cast());
                            _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(16).cast());
                            next = next.wrapping_add(32);
                        }
                    }
                    let b_row = [_mm512_loadu_ps(b_data), _mm512_loadu_ps(b_data.add(16))];
                    for_rows!(M, ROW => {
                        let $a = _mm512_set1_ps(*a_rows[ROW / 3].add(ROW % 3 * a.row_stride));
                        for half in 0..2 {
                            let ($sum, $b) = (sums[ROW][half], b_row[half]);
                            sums[ROW][half] = $dot;
                        }
                    });
                    for row in &mut a_rows {
                        *row = row.wrapping_add(a.step);
                    }
                    b_data = b_data.wrapping_add(32);
                }
                for (row, sum) in sums.iter().enumerate() {
                    let out = out.add(row * stride);
                    $store(out.cast(), sum[0]);
                    $store(out.add(16).cast(), sum[1]);
                }
            }
        }
    };
}

tile_avx512!(
    bf16_avx512,
    "avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma",
    _mm512_setzero_ps(),
    |sum, a, b| _mm512_dpbf16_ps(
        sum,
        std::mem::transmute::<__m512, __m512bh>(a),
        std::mem::transmute::<__m512, __m512bh>(b)
    ),
    _mm512_storeu_ps
);
tile_avx512!(
    int8_avx512,
    "avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma",
    _mm512_setzero_si512(),
    |sum, a, b| _mm512_dpbusd_epi32(sum, _mm512_castps_si512(a), _mm512_castps_si512(b)),
    _mm512_storeu_epi32
);

/// Sums of a tile of `M × 16` over words of four bytes, in rows `stride` apart.
///
/// # Safety
/// AVX2 and AVX-VNNI are present; `a` has `M` rows and `k` words, `b` has `k` rows of 16 words, `out` has `M` rows of 16,
/// `stride` apart.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) unsafe fn int8_avx2<const M: usize>(
    k: usize,
    a: ATile,
    b: *const f32,
    out: *mut f32,
    stride: usize,
    prefetch: Prefetch,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    // SAFETY: all accesses stay within the extents that the caller promises.
    unsafe {
        let mut a_rows = a.thirds::<M>();
        let (mut b_data, mut next) = (b, prefetch.from);
        for step in 0..k {
            if step % PREFETCH_EVERY == 0 {
                for _ in 0..prefetch.rows {
                    // A hint: an address that is not there does no harm.
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    next = next.wrapping_add(16);
                }
            }
            let b_row = [_mm256_loadu_si256(b_data.cast()), _mm256_loadu_si256(b_data.add(8).cast())];
            for_rows!(M, ROW => {
                let value = _mm256_castps_si256(_mm256_set1_ps(*a_rows[ROW / 3].add(ROW % 3 * a.row_stride)));
                sums[ROW][0] = _mm256_dpbusd_avx_epi32(sums[ROW][0], value, b_row[0]);
                sums[ROW][1] = _mm256_dpbusd_avx_epi32(sums[ROW][1], value, b_row[1]);
            });
            for row in &mut a_rows {
                *row = row.wrapping_add(a.step);
            }
            b_data = b_data.wrapping_add(16);
        }
        for (row, sum) in sums.iter().enumerate() {
            _mm256_storeu_si256(out.add(row * stride).cast(), sum[0]);
            _mm256_storeu_si256(out.add(row * stride + 8).cast(), sum[1]);
        }
    }
}

/// As [`int8_avx2`], without AVX-VNNI: bytes as 16-bit integers, two of which are multiplied and added exactly at once.
///
/// # Safety
/// AVX2 is present; `a` has `M` rows of `2 k` words as [`byte_pairs`] makes them, `b` has `2 k` rows of 16 words as
/// [`panel_pairs`] makes them, `out` has `M` rows of 16, `stride` apart.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn int8_avx2_pairs<const M: usize>(
    k: usize,
    a: ATile,
    b: *const f32,
    out: *mut f32,
    stride: usize,
    prefetch: Prefetch,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; M];
    // SAFETY: all accesses stay within the extents that the caller promises.
    unsafe {
        let mut a_rows = a.thirds::<M>();
        let (mut b_data, mut next) = (b, prefetch.from);
        // Two of the four bytes of a word.
        macro_rules! step {
            () => {{
                let b_row = [_mm256_loadu_si256(b_data.cast()), _mm256_loadu_si256(b_data.add(8).cast())];
                for_rows!(M, ROW => {
                    let pair = _mm256_castps_si256(_mm256_broadcast_ss(&*a_rows[ROW / 3].add(ROW % 3 * a.row_stride)));
                    sums[ROW][0] = _mm256_add_epi32(sums[ROW][0], _mm256_madd_epi16(pair, b_row[0]));
                    sums[ROW][1] = _mm256_add_epi32(sums[ROW][1], _mm256_madd_epi16(pair, b_row[1]));
                });
                for row in &mut a_rows {
                    *row = row.wrapping_add(a.step);
                }
                b_data = b_data.wrapping_add(16);
            }};
        }
        for _ in 0..k / PREFETCH_EVERY {
            for _ in 0..prefetch.rows {
                // A hint: an address that is not there does no harm.
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(16);
            }
            for _ in 0..2 * PREFETCH_EVERY {
                step!();
            }
        }
        for _ in 0..2 * (k % PREFETCH_EVERY) {
            step!();
        }
        for (row, sum) in sums.iter().enumerate() {
            _mm256_storeu_si256(out.add(row * stride).cast(), sum[0]);
            _mm256_storeu_si256(out.add(row * stride + 8).cast(), sum[1]);
        }
    }
}

/// A panel of words of four signed bytes, `[k][16]`, as pairs of 16-bit integers, `[2 k][16]`: of each word the first and third
/// byte, in the next row the second and fourth.
///
/// # Safety
/// AVX2 is present.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn panel_pairs(words: &[f32], pairs: &mut [f32]) {
    assert!(words.len().is_multiple_of(16) && pairs.len() == 2 * words.len());
    for (words, pairs) in words.as_chunks::<16>().0.iter().zip(pairs.as_chunks_mut::<32>().0) {
        for at in [0, 8] {
            // SAFETY: eight of sixteen words are read, and written to the same place of both rows.
            unsafe {
                let bytes = _mm256_loadu_si256(words.as_ptr().add(at).cast());
                let first = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
                _mm256_storeu_si256(pairs.as_mut_ptr().add(at).cast(), first);
                _mm256_storeu_si256(pairs.as_mut_ptr().add(16 + at).cast(), _mm256_srai_epi16::<8>(bytes));
            }
        }
    }
}

/// A word of four unsigned bytes as two words of two 16-bit integers: the first and third, the second and fourth.
pub(super) fn byte_pairs(word: u32) -> [u32; 2] {
    [word & 0x00ff_00ff, word >> 8 & 0x00ff_00ff]
}

/// Independent chains, as many as hide the latency and fit into registers.
const CHAINS: usize = 12;

/// Chains of one instruction and nothing else; gives the operations done in `$steps` turns of all chains, of `$each` each.
macro_rules! chains {
    ($name:ident, $features:literal, $each:literal, $zero:expr, $word:expr, |$sum:ident, $word_name:ident| $dot:expr) => {
        /// # Safety
        /// The instructions in its name are present.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(steps: usize) -> f64 {
            let $word_name = $word;
            let mut sums = [$zero; CHAINS];
            for _ in 0..steps {
                for sum in &mut sums {
                    let $sum = *sum;
                    *sum = $dot;
                }
            }
            std::hint::black_box(sums);
            (steps * CHAINS * $each) as f64
        }
    };
}

chains!(
    bf16_avx512_chains,
    "avx512f,avx512bf16",
    64,
    _mm512_setzero_ps(),
    std::hint::black_box(_mm512_set1_epi32(0x3f80_3f80)),
    // SAFETY: the same bits in vectors of the same size.
    |sum, word| unsafe {
        _mm512_dpbf16_ps(
            sum,
            std::mem::transmute::<__m512i, __m512bh>(word),
            std::mem::transmute::<__m512i, __m512bh>(word),
        )
    }
);
chains!(
    int8_avx512_chains,
    "avx512f,avx512vnni",
    128,
    _mm512_setzero_si512(),
    std::hint::black_box(_mm512_set1_epi32(0x0101_0101)),
    |sum, word| _mm512_dpbusd_epi32(sum, word, word)
);
chains!(
    int8_avx2_chains,
    "avx2,avxvnni",
    64,
    _mm256_setzero_si256(),
    std::hint::black_box(_mm256_set1_epi32(0x0101_0101)),
    |sum, word| _mm256_dpbusd_avx_epi32(sum, word, word)
);
