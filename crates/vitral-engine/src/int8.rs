//! Matrices in 8-bit integers: −127…127 and one scale for each row.

/// The scale of a row: its largest value is 127 of it.
///
/// It has 16 bits, so that all multiples of it are 32-bit floats: a matrix that was rounded once gives the same integers and
/// the same scales when it is rounded again.
pub fn row_scale(row: &[f32]) -> f32 {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = most / 127.0;
    if !scale.is_normal() {
        return if most > 0.0 && most.is_finite() { f32::MIN_POSITIVE } else { 0.0 };
    }
    // Upwards, so that nothing is beyond 127.
    f32::from_bits(scale.to_bits().saturating_add(0xff) & !0xff)
}

/// A value in units of its row's scale.
pub fn quantized(x: f32, scale: f32) -> i8 {
    if scale > 0.0 { (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normal;

    #[test]
    fn what_was_rounded_once_stays() {
        for length in [1, 2, 7, 300] {
            for (seed, size) in [(1, 1.0), (2, 1e-3), (3, 3e8), (4, 1e-38), (5, 0.0)] {
                let row: Vec<f32> = (0..length).map(|i| size * normal(seed, i)).collect();
                let scale = row_scale(&row);
                let integers: Vec<i8> = row.iter().map(|&x| quantized(x, scale)).collect();
                let rounded: Vec<f32> = integers.iter().map(|&q| f32::from(q) * scale).collect();
                for (x, rounded) in row.iter().zip(&rounded) {
                    assert!((x - rounded).abs() <= 0.5001 * scale, "{rounded} for {x}");
                }
                if size > 1e-30 {
                    assert_eq!(integers.iter().map(|q| q.unsigned_abs()).max(), Some(127));
                    assert_eq!(row_scale(&rounded), scale);
                    assert_eq!(rounded.iter().map(|&x| quantized(x, scale)).collect::<Vec<_>>(), integers);
                }
            }
        }
    }
}
