//! The loops in AVX2. `pulp`'s tokens prove that the machine supports it, so that nothing here is `unsafe`.

use std::arch::x86_64::{__m128i, __m256i};

use pulp::cast;
use pulp::x86::V3;

use super::super::color::{self, BLUE_CB, GREEN_CB, GREEN_CR, RED_CR};
use super::super::tables::Quantization;
use super::super::transform::{
    self, EVEN_DIFFERENCE, EVEN_SUM, FIRST_SHIFT, ODD_1, ODD_3, ODD_5, ODD_7, ODD_FOURTH, ODD_THIRD, Pair,
    SECOND_SHIFT, Samples,
};
use super::super::upsample;
use super::work::{Kernels, Work};

#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) V3);

/// Work that is compiled for AVX2.
pub(super) struct Run<W>(pub(super) W, pub(super) Avx2);

impl<W: Work> pulp::NullaryFnOnce for Run<W> {
    type Output = W::Output;

    #[inline(always)]
    fn call(self) -> W::Output {
        self.0.run(self.1)
    }
}

/// Pixels that are converted at once.
const PIXELS: usize = 16;

impl Kernels for Avx2 {
    #[inline(always)]
    fn inverse(self, coefficients: &[i16; 64], quantization: &Quantization) -> Samples {
        let V3 { sse2, .. } = self.0;
        let coefficients: &[[i16; 8]; 8] = cast_ref(coefficients);
        let quantization: &[[i16; 8]; 8] = cast_ref(quantization);
        let mut rows = [sse2._mm_setzero_si128(); 8];
        for ((row, coefficients), quantization) in rows.iter_mut().zip(coefficients).zip(quantization) {
            *row = sse2._mm_mullo_epi16(cast(*coefficients), cast(*quantization));
        }
        let rows = self.pass::<{ FIRST_SHIFT as i32 }>(rows);
        let columns = self.pass::<{ SECOND_SHIFT as i32 }>(self.transposed(rows));
        let [a, b, c, d, e, f, g, h] = self.transposed(columns);
        let middle = sse2._mm_set1_epi8(i8::MIN);
        let level = |first, second| sse2._mm_xor_si128(sse2._mm_packs_epi16(first, second), middle);
        cast([level(a, b), level(c, d), level(e, f), level(g, h)])
    }

    #[inline(always)]
    fn red_green_blue(self, planes: [&[u8]; 3], row: &mut [u8]) {
        let (chunks, rest) = row.as_chunks_mut::<{ 3 * PIXELS }>();
        let done = chunks.len() * PIXELS;
        let [y, cb, cr] = planes.map(|plane| plane.as_chunks::<PIXELS>().0);
        for (((chunk, &y), &cb), &cr) in chunks.iter_mut().zip(y).zip(cb).zip(cr) {
            *chunk = self.interleaved(self.sixteen(y, cb, cr));
        }
        color::red_green_blue_row(planes.map(|plane| &plane[done..]), rest);
    }

    #[inline(always)]
    fn columns(self, near: &[u8], row: &mut [u8]) {
        upsample::columns(near, row);
    }

    #[inline(always)]
    fn both(self, near: &[u8], far: &[u8], row: &mut [u8]) {
        upsample::both(near, far, row);
    }
}

/// The same 64 values as rows.
#[inline(always)]
fn cast_ref(block: &[i16; 64]) -> &[[i16; 8]; 8] {
    block.as_chunks().0.first_chunk().expect("64 are 8 × 8")
}

impl Avx2 {
    /// Eight transforms side by side, as defined in [`transform`].
    #[inline(always)]
    fn pass<const SHIFT: i32>(self, rows: [__m128i; 8]) -> [__m128i; 8] {
        let V3 { sse2, avx, avx2, .. } = self.0;
        let add = |a, b| avx2._mm256_add_epi32(a, b);
        let subtract = |a, b| avx2._mm256_sub_epi32(a, b);
        // Two rows, interleaved.
        let mixed = |left, right| {
            avx._mm256_set_m128i(sse2._mm_unpackhi_epi16(left, right), sse2._mm_unpacklo_epi16(left, right))
        };
        let of = |Pair(a, b): Pair, mixed| {
            let factors = avx._mm256_set1_epi32((i32::from(b) << 16) | (i32::from(a) & 0xFFFF));
            avx2._mm256_madd_epi16(mixed, factors)
        };
        let wide = |row| avx2._mm256_slli_epi32::<{ transform::CONSTANT_BITS as i32 }>(avx2._mm256_cvtepi16_epi32(row));
        let sum = wide(sse2._mm_add_epi16(rows[0], rows[4]));
        let difference = wide(sse2._mm_sub_epi16(rows[0], rows[4]));
        let rows26 = mixed(rows[2], rows[6]);
        let (even_sum, even_difference) = (of(EVEN_SUM, rows26), of(EVEN_DIFFERENCE, rows26));
        let even = [
            add(sum, even_sum),
            add(difference, even_difference),
            subtract(difference, even_difference),
            subtract(sum, even_sum),
        ];
        let sums = mixed(sse2._mm_add_epi16(rows[7], rows[3]), sse2._mm_add_epi16(rows[5], rows[1]));
        let (third, fourth) = (of(ODD_THIRD, sums), of(ODD_FOURTH, sums));
        let (rows71, rows53) = (mixed(rows[7], rows[1]), mixed(rows[5], rows[3]));
        let odd = [
            add(of(ODD_1, rows71), fourth),
            add(of(ODD_3, rows53), third),
            add(of(ODD_5, rows53), fourth),
            add(of(ODD_7, rows71), third),
        ];
        let half = avx._mm256_set1_epi32(1 << (SHIFT - 1));
        let scaled = |value| avx2._mm256_srai_epi32::<SHIFT>(add(value, half));
        // Two results, saturated.
        let packed = |first, second| {
            let both = avx2._mm256_packs_epi32(scaled(first), scaled(second));
            let both = avx2._mm256_permute4x64_epi64::<0b11_01_10_00>(both);
            (avx._mm256_castsi256_si128(both), avx2._mm256_extracti128_si256::<1>(both))
        };
        let (out0, out7) = packed(add(even[0], odd[0]), subtract(even[0], odd[0]));
        let (out1, out6) = packed(add(even[1], odd[1]), subtract(even[1], odd[1]));
        let (out2, out5) = packed(add(even[2], odd[2]), subtract(even[2], odd[2]));
        let (out3, out4) = packed(add(even[3], odd[3]), subtract(even[3], odd[3]));
        [out0, out1, out2, out3, out4, out5, out6, out7]
    }

    #[inline(always)]
    fn transposed(self, rows: [__m128i; 8]) -> [__m128i; 8] {
        let sse2 = self.0.sse2;
        let [a, b, c, d, e, f, g, h] = rows;
        let pairs = |x, y| (sse2._mm_unpacklo_epi16(x, y), sse2._mm_unpackhi_epi16(x, y));
        let fours = |x, y| (sse2._mm_unpacklo_epi32(x, y), sse2._mm_unpackhi_epi32(x, y));
        let eights = |x, y| (sse2._mm_unpacklo_epi64(x, y), sse2._mm_unpackhi_epi64(x, y));
        let ((ab, ab4), (cd, cd4), (ef, ef4), (gh, gh4)) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
        let ((upper0, upper2), (upper4, upper6)) = (fours(ab, cd), fours(ab4, cd4));
        let ((lower0, lower2), (lower4, lower6)) = (fours(ef, gh), fours(ef4, gh4));
        let ((out0, out1), (out2, out3)) = (eights(upper0, lower0), eights(upper2, lower2));
        let ((out4, out5), (out6, out7)) = (eights(upper4, lower4), eights(upper6, lower6));
        [out0, out1, out2, out3, out4, out5, out6, out7]
    }

    /// Red, green and blue of sixteen pixels. Factors are reduced by multiples of 65536 to fit in 16 bits, which are
    /// added back as samples; halves are rounded by doubling first, `⌊(⌊2·v·f / 65536⌋ + 1) / 2⌋`.
    #[inline(always)]
    fn sixteen(self, y: [u8; PIXELS], cb: [u8; PIXELS], cr: [u8; PIXELS]) -> [__m128i; 3] {
        let V3 { avx, avx2, .. } = self.0;
        let add = |a, b| avx2._mm256_add_epi16(a, b);
        let word = |value: i32| avx._mm256_set1_epi16(value as i16);
        let wide = |plane: [u8; PIXELS]| avx2._mm256_cvtepu8_epi16(cast(plane));
        let y = wide(y);
        let (cb, cr) = (avx2._mm256_sub_epi16(wide(cb), word(128)), avx2._mm256_sub_epi16(wide(cr), word(128)));
        let (cb2, cr2) = (add(cb, cb), add(cr, cr));
        let halved = |product| avx2._mm256_srai_epi16::<1>(add(product, word(1)));
        let red = halved(avx2._mm256_mulhi_epi16(cr2, word(RED_CR - 65536)));
        let red = add(y, add(cr, red));
        let blue = halved(avx2._mm256_mulhi_epi16(cb2, word(BLUE_CB - 2 * 65536)));
        let blue = add(y, add(cb2, blue));
        let factors = avx._mm256_set1_epi32(((65536 - GREEN_CR) << 16) | (-GREEN_CB & 0xFFFF));
        let half = avx._mm256_set1_epi32(1 << 15);
        let product = |pairs| {
            let product = avx2._mm256_add_epi32(avx2._mm256_madd_epi16(pairs, factors), half);
            avx2._mm256_srai_epi32::<16>(product)
        };
        let low = product(avx2._mm256_unpacklo_epi16(cb, cr));
        let high = product(avx2._mm256_unpackhi_epi16(cb, cr));
        let green = avx2._mm256_sub_epi16(add(y, avx2._mm256_packs_epi32(low, high)), cr);
        [self.bytes(red), self.bytes(green), self.bytes(blue)]
    }

    /// Sixteen words to saturated bytes.
    #[inline(always)]
    fn bytes(self, words: __m256i) -> __m128i {
        let V3 { sse2, avx, avx2, .. } = self.0;
        sse2._mm_packus_epi16(avx._mm256_castsi256_si128(words), avx2._mm256_extracti128_si256::<1>(words))
    }

    /// Three planes to pixels.
    #[inline(always)]
    fn interleaved(self, planes: [__m128i; 3]) -> [u8; 3 * PIXELS] {
        /// For each third of the result and each plane, where its bytes come from; −1 leaves a gap.
        const PLACES: [[[i8; PIXELS]; 3]; 3] = {
            let mut places = [[[-1; PIXELS]; 3]; 3];
            let mut at = 0;
            while at < 3 * PIXELS {
                places[at / PIXELS][at % 3][at % PIXELS] = (at / 3) as i8;
                at += 1;
            }
            places
        };
        let V3 { sse2, ssse3, .. } = self.0;
        // Written out, because closures inside `array::map` are not always compiled for AVX2.
        let third = |places: &[[i8; PIXELS]; 3]| {
            let placed = |plane: usize| ssse3._mm_shuffle_epi8(planes[plane], cast(places[plane]));
            sse2._mm_or_si128(placed(0), sse2._mm_or_si128(placed(1), placed(2)))
        };
        cast([third(&PLACES[0]), third(&PLACES[1]), third(&PLACES[2])])
    }
}
