//! Elementary functions on vectors, each with a stated bound against the exact value.
//!
//! Coefficients are minimax fits made for this file by `tools/golden/minimax.py`.

use super::kernels::Lanes;
use crate::activation::Activation;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// The high part of ln 2, with enough trailing zeros that its products with small integers are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^x`, within 2 ulp; zero below −104, infinity above 88.72, NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(l: L, x: L::V) -> L::V {
    // The second operand survives when it is NaN.
    exp_within(l, l.max(l.splat(-104.0), l.min(l.splat(89.0), x)))
}

/// As [`exp`], for values that are not above 0.
#[inline(always)]
pub(crate) fn exp_of_nonpositive<L: Lanes>(l: L, x: L::V) -> L::V {
    exp_within(l, l.max(l.splat(-104.0), x))
}

/// As [`exp`], for values within −104 and 89.
#[inline(always)]
fn exp_within<L: Lanes>(l: L, x: L::V) -> L::V {
    let (p, n) = exp_parts(l, x);
    l.scale_by_any_power(p, n)
}

/// As [`exp`], for values within −87 and 88, whose results are normal numbers.
#[inline(always)]
fn exp_to_normal<L: Lanes>(l: L, x: L::V) -> L::V {
    let (p, n) = exp_parts(l, x);
    l.scale_by_power(p, n)
}

/// `p` and an integral `n` with `e^x = p · 2^n`.
#[inline(always)]
fn exp_parts<L: Lanes>(l: L, x: L::V) -> (L::V, L::V) {
    let n = l.round(l.mul(x, l.splat(LOG2_E)));
    let r = l.fma(n, l.splat(-LN2_HIGH), x);
    let r = l.fma(n, l.splat(-LN2_LOW), r);
    let mut p = l.splat(EXP[0]);
    for &coefficient in &EXP[1..] {
        p = l.fma(p, r, l.splat(coefficient));
    }
    (l.fma(l.mul(r, r), p, l.add(r, l.splat(1.0))), n)
}

/// (e^r − 1 − r) / r² on |r| ≤ ln 2 / 2.
const EXP: [f32; 5] = [1.395_060_2e-3, 8.368_953e-3, 4.166_620_6e-2, 1.666_651_8e-1, 0.5];

/// The logistic function `1 / (1 + e^−x)`, within 4 ulp.
#[inline(always)]
pub(crate) fn sigmoid<L: Lanes>(l: L, x: L::V) -> L::V {
    let one = l.splat(1.0);
    l.div(one, l.add(one, exp(l, l.sub(l.splat(0.0), x))))
}

/// Hyperbolic tangent, within 4 ulp.
#[inline(always)]
pub(crate) fn tanh<L: Lanes>(l: L, x: L::V) -> L::V {
    let size = l.abs(x);
    let square = l.mul(x, x);
    let mut p = l.splat(TANH[0]);
    for &coefficient in &TANH[1..] {
        p = l.fma(p, square, l.splat(coefficient));
    }
    let small = l.fma(l.mul(x, square), p, x);
    let one = l.splat(1.0);
    let e = exp(l, l.add(size, size));
    let large = l.sub(one, l.div(l.splat(2.0), l.add(e, one)));
    let large = l.select_less(x, l.splat(0.0), l.sub(l.splat(0.0), large), large);
    l.select_less(size, l.splat(0.55), small, large)
}

/// (tanh x − x) / x³ as a polynomial in x² on |x| ≤ 0.55.
const TANH: [f32; 5] = [-6.282_473_4e-3, 2.107_775_8e-2, -5.385_386e-2, 1.333_260_2e-1, -3.333_332e-1];

/// The standard normal distribution function Φ(x), absolute error at most 1.2e-7.
///
/// Computed from the tail `q(t) = Φ(−t) = exp(P(t))` on `t ∈ [0, 6]`, so that both tails are smooth; beyond 6 the tail
/// is below 1e-9 and taken as that of 6, times a vanishing factor.
#[inline(always)]
pub(crate) fn normal_cdf<L: Lanes>(l: L, x: L::V) -> L::V {
    let t = l.min(l.splat(6.0), l.abs(x));
    let mut p = l.splat(NORMAL_TAIL[0]);
    for &coefficient in &NORMAL_TAIL[1..] {
        p = l.fma(p, t, l.splat(coefficient));
    }
    // Φ(−6) is not below 2^−31.
    let tail = exp_to_normal(l, p);
    let tail = l.select_less(l.splat(6.0), l.abs(x), l.splat(0.0), tail);
    l.select_less(x, l.splat(0.0), tail, l.sub(l.splat(1.0), tail))
}

/// ln Φ(−t) on 0 ≤ t ≤ 6, highest power first.
const NORMAL_TAIL: [f32; 9] = [
    -1.589_646e-6,
    2.292_076_9e-5,
    -1.088_945_65e-4,
    -1.419_986e-4,
    4.955_342e-3,
    -3.642_726_3e-2,
    -3.182_860_3e-1,
    -7.978_869e-1,
    -std::f32::consts::LN_2,
];

/// The standard normal density `exp(−x²/2) / √(2π)`.
#[inline(always)]
pub(crate) fn normal_density<L: Lanes>(l: L, x: L::V) -> L::V {
    let square = l.mul(l.mul(x, x), l.splat(-0.5));
    l.mul(exp_of_nonpositive(l, square), l.splat(0.398_942_3))
}

/// An activation of a vector.
#[inline(always)]
pub(crate) fn activate<L: Lanes>(l: L, activation: Activation, x: L::V) -> L::V {
    match activation {
        Activation::Gelu => l.mul(x, normal_cdf(l, x)),
        Activation::GeluTanh => l.mul(x, sigmoid(l, gelu_tanh_argument(l, x))),
        Activation::QuickGelu => l.mul(x, sigmoid(l, l.mul(x, l.splat(1.702)))),
        // The second operand survives when it is NaN.
        Activation::Relu => l.max(l.splat(0.0), x),
        Activation::Silu => l.mul(x, sigmoid(l, x)),
        Activation::Tanh => tanh(l, x),
    }
}

/// `2 √(2/π) (x + 0.044715 x³)`: the tanh form of GELU is `x · sigmoid` of it.
#[inline(always)]
fn gelu_tanh_argument<L: Lanes>(l: L, x: L::V) -> L::V {
    let square = l.mul(x, x);
    l.mul(x, l.fma_scalar(square, 2.0 * 0.797_884_6 * 0.044_715, 2.0 * 0.797_884_6))
}

/// The derivative of an activation at `x`.
#[inline(always)]
pub(crate) fn activate_derivative<L: Lanes>(l: L, activation: Activation, x: L::V) -> L::V {
    let one = l.splat(1.0);
    // d/dx [x s(u)] = s + x u' s (1 − s)
    let gated = |s: L::V, slope: L::V| l.fma(l.mul(x, slope), l.mul(s, l.sub(one, s)), s);
    match activation {
        Activation::Gelu => l.fma(x, normal_density(l, x), normal_cdf(l, x)),
        Activation::GeluTanh => {
            let slope = l.fma_scalar(l.mul(x, x), 6.0 * 0.797_884_6 * 0.044_715, 2.0 * 0.797_884_6);
            gated(sigmoid(l, gelu_tanh_argument(l, x)), slope)
        }
        Activation::QuickGelu => gated(sigmoid(l, l.mul(x, l.splat(1.702))), l.splat(1.702)),
        Activation::Relu => l.select_less(l.splat(0.0), x, one, l.splat(0.0)),
        Activation::Silu => gated(sigmoid(l, x), one),
        Activation::Tanh => {
            let y = tanh(l, x);
            l.fma(l.sub(l.splat(0.0), y), y, one)
        }
    }
}

/// Mean and reciprocal standard deviation of a row (mean zero and reciprocal root mean square for RMS norm).
///
/// The variance is taken around the mean in a second pass, so that large means cost no digits.
#[inline(always)]
pub(crate) fn row_statistics<L: Lanes>(l: L, row: &[f32], epsilon: f32, rms: bool) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = if rms { 0.0 } else { sum(l, row) / count };
    let center = l.splat(mean);
    let square = |x: L::V, total: L::V| {
        let d = l.sub(x, center);
        l.fma(d, d, total)
    };
    let mut totals = [l.splat(0.0); 4];
    let mut groups = row.chunks_exact(4 * L::N);
    for group in &mut groups {
        for (i, total) in totals.iter_mut().enumerate() {
            *total = square(l.load(&group[i * L::N..]), *total);
        }
    }
    let mut chunks = groups.remainder().chunks_exact(L::N);
    for chunk in &mut chunks {
        totals[0] = square(l.load(chunk), totals[0]);
    }
    let mut squares = l.sum(l.add(l.add(totals[0], totals[1]), l.add(totals[2], totals[3])));
    for &x in chunks.remainder() {
        squares += (x - mean) * (x - mean);
    }
    (mean, 1.0 / (squares / count + epsilon).sqrt())
}

/// Sum of a slice, in a fixed order.
#[inline(always)]
pub(crate) fn sum<L: Lanes>(l: L, row: &[f32]) -> f32 {
    let mut totals = [l.splat(0.0); 4];
    let mut groups = row.chunks_exact(4 * L::N);
    for group in &mut groups {
        for (i, total) in totals.iter_mut().enumerate() {
            *total = l.add(*total, l.load(&group[i * L::N..]));
        }
    }
    let rest = groups.remainder();
    let mut chunks = rest.chunks(L::N);
    for chunk in &mut chunks {
        totals[0] = l.add(totals[0], l.load_part(chunk));
    }
    l.sum(l.add(l.add(totals[0], totals[1]), l.add(totals[2], totals[3])))
}

/// `(row − mean) · deviation⁻¹ · weight + bias`.
#[inline(always)]
pub(crate) fn normalize_row<L: Lanes>(
    l: L,
    row: &[f32],
    (mean, reciprocal): (f32, f32),
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (mean, reciprocal) = (l.splat(mean), l.splat(reciprocal));
    let normed = |x, weight, bias| {
        let x = l.mul(l.sub(x, mean), reciprocal);
        match bias {
            Some(bias) => l.fma(x, weight, bias),
            None => l.mul(x, weight),
        }
    };
    let whole = row.len() / L::N * L::N;
    let (out, rest) = out.split_at_mut(whole);
    for (i, out) in out.chunks_exact_mut(L::N).enumerate() {
        let from = |values: &[f32]| l.load(&values[i * L::N..][..L::N]);
        l.store(out, normed(from(row), from(weight), bias.map(from)));
    }
    if !rest.is_empty() {
        let from = |values: &[f32]| l.load_part(&values[whole..]);
        l.store_part(rest, normed(from(row), from(weight), bias.map(from)));
    }
}

/// Greatest number of a slice; −∞ of an empty one.
#[inline(always)]
pub(crate) fn greatest<L: Lanes>(l: L, row: &[f32]) -> f32 {
    let mut tops = [l.splat(f32::NEG_INFINITY); 4];
    let mut groups = row.chunks_exact(4 * L::N);
    for group in &mut groups {
        for (i, top) in tops.iter_mut().enumerate() {
            *top = l.max(*top, l.load(&group[i * L::N..]));
        }
    }
    let mut chunks = groups.remainder().chunks_exact(L::N);
    for chunk in &mut chunks {
        tops[0] = l.max(tops[0], l.load(chunk));
    }
    let top = l.greatest(l.max(l.max(tops[0], tops[1]), l.max(tops[2], tops[3])));
    chunks.remainder().iter().fold(top, |top, &x| if x > top { x } else { top })
}

/// Replaces a row by `exp(scale · (x − greatest))` and returns its sum: softmax before the division. The scale is
/// positive. A row that is −∞ throughout becomes zeros with sum 1, so that a query without keys attends to nothing.
#[inline(always)]
pub(crate) fn exp_row<L: Lanes>(l: L, row: &mut [f32], scale: f32) -> f32 {
    let top = greatest(l, row);
    if top == f32::NEG_INFINITY && !row.iter().any(|x| x.is_nan()) {
        row.fill(0.0);
        return 1.0;
    }
    let (top, scale) = (l.splat(top), l.splat(scale));
    let mut total = l.splat(0.0);
    let whole = row.len() / L::N * L::N;
    let (chunks, rest) = row.split_at_mut(whole);
    for chunk in chunks.chunks_exact_mut(L::N) {
        let y = exp_of_nonpositive(l, l.mul(l.sub(l.load(chunk), top), scale));
        total = l.add(total, y);
        l.store(chunk, y);
    }
    let mut sum = l.sum(total);
    if !rest.is_empty() {
        let y = exp_of_nonpositive(l, l.mul(l.sub(l.load_part(rest), top), scale));
        l.store_part(rest, y);
        for y in rest {
            sum += *y;
        }
    }
    sum
}

/// Every number of a row times a factor.
#[inline(always)]
pub(crate) fn scale_row<L: Lanes>(l: L, row: &mut [f32], factor: f32) {
    let factor = l.splat(factor);
    for chunk in row.chunks_mut(L::N) {
        let y = l.mul(l.load_part(chunk), factor);
        l.store_part(chunk, y);
    }
}

/// Inner product of two slices, in a fixed order.
#[inline(always)]
pub(crate) fn inner<L: Lanes>(l: L, a: &[f32], b: &[f32]) -> f32 {
    let mut total = l.splat(0.0);
    for (a, b) in a.chunks(L::N).zip(b.chunks(L::N)) {
        total = l.fma(l.load_part(a), l.load_part(b), total);
    }
    l.sum(total)
}
