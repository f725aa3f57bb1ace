//! Largest, smallest and furthest apart: answers that a NaN always reaches, where `f32::max` would drop it.

/// The largest of some numbers: NaN if any is, −∞ of none.
pub fn largest<T: Copy + PartialOrd + From<f32>>(values: impl IntoIterator<Item = T>) -> T {
    outermost(values, f32::NEG_INFINITY, |value, so_far| value > so_far)
}

/// The smallest of some numbers: NaN if any is, ∞ of none.
pub fn smallest<T: Copy + PartialOrd + From<f32>>(values: impl IntoIterator<Item = T>) -> T {
    outermost(values, f32::INFINITY, |value, so_far| value < so_far)
}

fn outermost<T: Copy + PartialOrd + From<f32>>(
    values: impl IntoIterator<Item = T>,
    from: f32,
    beyond: impl Fn(T, T) -> bool,
) -> T {
    let mut so_far = T::from(from);
    for value in values {
        // Only a NaN has no order with itself.
        if value.partial_cmp(&value).is_none() {
            return value;
        }
        if beyond(value, so_far) {
            so_far = value;
        }
    }
    so_far
}

/// The largest difference between numbers in the same places: 0 of none, NaN if either side has one.
///
/// # Panics
/// If there are not as many on both sides.
pub fn apart<T: Copy + Into<f64>>(found: &[T], expected: &[T]) -> f64 {
    assert_eq!(found.len(), expected.len(), "as many numbers as are expected");
    let differences = found.iter().zip(expected).map(|(&a, &b)| (a.into() - b.into()).abs());
    largest(std::iter::once(0.0).chain(differences))
}

/// The smallest and the largest of the finite numbers, for axes; nothing where none is finite.
pub fn finite_range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_reaches_the_answer_wherever_it_stands() {
        for place in 0..3 {
            let mut values = [1.0f32, -2.0, 3.0];
            assert_eq!((largest(values), smallest(values)), (3.0, -2.0));
            assert_eq!(apart(&values, &[1.0, -4.0, 3.5]), 2.0);
            values[place] = f32::NAN;
            assert!(largest(values).is_nan() && smallest(values).is_nan());
            assert!(largest(values.map(f64::from)).is_nan());
            assert!(apart(&values, &[0.0; 3]).is_nan() && apart(&[0.0; 3], &values).is_nan());
            assert!(apart(&values, &values).is_nan());
        }
        assert!(apart(&[f32::INFINITY], &[f32::INFINITY]).is_nan());
        assert_eq!((largest::<f64>([]), apart::<f32>(&[], &[])), (f64::NEG_INFINITY, 0.0));
    }

    #[test]
    fn axes_leave_out_what_is_not_finite() {
        assert_eq!(finite_range([f64::NAN, 2.0, f64::INFINITY, -1.0]), Some((-1.0, 2.0)));
        assert_eq!(finite_range([f64::NAN]), None);
    }
}
