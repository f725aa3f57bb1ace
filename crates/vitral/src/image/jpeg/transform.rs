//! The inverse cosine transform: libjpeg's accurate integer one, `jidctint` ("islow").
//!
//! Loeffler, Ligtenberg and Moschytz' factorization with 13-bit constants, columns first, with two more bits kept
//! between the passes. If broken data exceeds the valid range, values wrap and saturate like in the vector code that
//! libjpeg-turbo runs in its place: products and the sums before them modulo 2^16, results saturated.

use super::tables::Quantization;

/// Rows of eight samples.
pub(super) type Samples = [[u8; 8]; 8];

/// Bits of the constants.
pub(super) const CONSTANT_BITS: u32 = 13;

/// Bits kept between the passes.
const EXTRA_BITS: u32 = 2;

/// How far results are shifted right after each pass; the second also divides by 8.
pub(super) const FIRST_SHIFT: u32 = CONSTANT_BITS - EXTRA_BITS;
pub(super) const SECOND_SHIFT: u32 = CONSTANT_BITS + EXTRA_BITS + 3;

/// Two factors for two inputs whose products are summed, in 13 bits: sums of the factorization's own constants.
#[derive(Clone, Copy)]
pub(super) struct Pair(pub(super) i16, pub(super) i16);

const F0_298: i16 = 2446;
const F0_390: i16 = 3196;
const F0_541: i16 = 4433;
const F0_765: i16 = 6270;
const F0_899: i16 = 7373;
const F1_175: i16 = 9633;
const F1_501: i16 = 12299;
const F1_847: i16 = 15137;
const F1_961: i16 = 16069;
const F2_053: i16 = 16819;
const F2_562: i16 = 20995;
const F3_072: i16 = 25172;

/// Of inputs 2 and 6.
pub(super) const EVEN_SUM: Pair = Pair(F0_541 + F0_765, F0_541);
pub(super) const EVEN_DIFFERENCE: Pair = Pair(F0_541, F0_541 - F1_847);
/// Of the sums of inputs 7 and 3, and of 5 and 1.
pub(super) const ODD_THIRD: Pair = Pair(F1_175 - F1_961, F1_175);
pub(super) const ODD_FOURTH: Pair = Pair(F1_175, F1_175 - F0_390);
/// Of inputs 7 and 1.
pub(super) const ODD_7: Pair = Pair(F0_298 - F0_899, -F0_899);
pub(super) const ODD_1: Pair = Pair(-F0_899, F1_501 - F0_899);
/// Of inputs 5 and 3.
pub(super) const ODD_5: Pair = Pair(F2_053 - F2_562, -F2_562);
pub(super) const ODD_3: Pair = Pair(-F2_562, F3_072 - F2_562);

/// A block whose only coefficient is its mean: all samples are equal.
#[inline(always)]
pub(super) fn flat(mean: i16, factor: i16) -> u8 {
    let value = i32::from(mean.wrapping_mul(factor).wrapping_shl(EXTRA_BITS));
    level((value + 16) >> 5)
}

/// Coefficients to samples.
#[inline(always)]
pub(super) fn inverse(coefficients: &[i16; 64], quantization: &Quantization) -> Samples {
    let input = std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            let at = row * 8 + column;
            coefficients[at].wrapping_mul(quantization[at])
        })
    });
    let between = if coefficients[8..].iter().fold(0, |all, coefficient| all | coefficient) == 0 {
        let first: [i16; 8] = input[0];
        [first.map(|value| value.wrapping_shl(EXTRA_BITS)); 8]
    } else {
        pass::<FIRST_SHIFT>(input)
    };
    let columns = pass::<SECOND_SHIFT>(transposed(between));
    transposed(columns).map(|row| row.map(|value| level(i32::from(value))))
}

fn transposed(rows: [[i16; 8]; 8]) -> [[i16; 8]; 8] {
    std::array::from_fn(|row| std::array::from_fn(|column| rows[column][row]))
}

/// A sample centered at zero to an unsigned sample.
#[inline(always)]
fn level(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

/// Eight transforms side by side: `rows[k][i]` is the input (and the result) `k` of the transform `i`.
fn pass<const SHIFT: u32>(rows: [[i16; 8]; 8]) -> [[i16; 8]; 8] {
    let mut out = [[0; 8]; 8];
    for lane in 0..8 {
        let input = rows.map(|row| row[lane]);
        for (row, value) in out.iter_mut().zip(one::<SHIFT>(input)) {
            row[lane] = value;
        }
    }
    out
}

/// A transform.
#[inline(always)]
fn one<const SHIFT: u32>(input: [i16; 8]) -> [i16; 8] {
    let of = |Pair(a, b): Pair, left: i16, right: i16| {
        (i32::from(a) * i32::from(left)).wrapping_add(i32::from(b) * i32::from(right))
    };
    let sum = i32::from(input[0].wrapping_add(input[4])) << CONSTANT_BITS;
    let difference = i32::from(input[0].wrapping_sub(input[4])) << CONSTANT_BITS;
    let even_sum = of(EVEN_SUM, input[2], input[6]);
    let even_difference = of(EVEN_DIFFERENCE, input[2], input[6]);
    let even = [
        sum.wrapping_add(even_sum),
        difference.wrapping_add(even_difference),
        difference.wrapping_sub(even_difference),
        sum.wrapping_sub(even_sum),
    ];
    let (third, fourth) = (input[7].wrapping_add(input[3]), input[5].wrapping_add(input[1]));
    let (third, fourth) = (of(ODD_THIRD, third, fourth), of(ODD_FOURTH, third, fourth));
    let odd = [
        of(ODD_1, input[7], input[1]).wrapping_add(fourth),
        of(ODD_3, input[5], input[3]).wrapping_add(third),
        of(ODD_5, input[5], input[3]).wrapping_add(fourth),
        of(ODD_7, input[7], input[1]).wrapping_add(third),
    ];
    let scaled = |value: i32| {
        let value = value.wrapping_add(1 << (SHIFT - 1)) >> SHIFT;
        value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    };
    std::array::from_fn(|index| match index {
        0..4 => scaled(even[index].wrapping_add(odd[index])),
        _ => scaled(even[7 - index].wrapping_sub(odd[7 - index])),
    })
}
