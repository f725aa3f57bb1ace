//! Eight-bit integers, as the definition of what other devices do.
//!
//! A matrix `[out, in]` is symmetric around zero: each row has one scale, such that its largest value is 127. A token, a row
//! of a product's input, takes the 256 integers from its least to its largest value, zero among them, and has a scale and a
//! place of zero of its own.

/// One row of a matrix, rounded.
pub(super) fn rounded_row(row: &[f32]) -> Vec<f32> {
    let scale = crate::int8::row_scale(row);
    row.iter().map(|&x| f32::from(crate::int8::quantized(x, scale)) * scale).collect()
}

/// One token, rounded.
pub(super) fn rounded_token(token: &[f64]) -> Vec<f64> {
    let (least, most) = token.iter().fold((0.0f64, 0.0f64), |(least, most), &x| (least.min(x), most.max(x)));
    if most <= least {
        return token.to_vec();
    }
    let scale = (most - least) / 255.0;
    let zero = (-least / scale).round_ties_even();
    token.iter().map(|&x| ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero).map(|q| q * scale).collect()
}
