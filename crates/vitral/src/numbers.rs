//! Maximum, minimum and largest difference, all of which propagate NaN, unlike `f32::max`.

/// The maximum of some numbers: NaN if any is, −∞ if there are none.
pub fn largest<T: Copy + PartialOrd + From<f32>>(values: impl IntoIterator<Item = T>) -> T {
    outermost(values, f32::NEG_INFINITY, |value, so_far| value > so_far)
}

/// The minimum of some numbers: NaN if any is, ∞ if there are none.
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
        // Only NaN is not comparable with itself.
        if value.partial_cmp(&value).is_none() {
            return value;
        }
        if beyond(value, so_far) {
            so_far = value;
        }
    }
    so_far
}

/// The largest difference between corresponding numbers: 0 if there are none, NaN if either side has one.
///
/// # Panics
/// If the lengths differ.
pub fn apart<T: Copy + Into<f64>>(found: &[T], expected: &[T]) -> f64 {
    assert_eq!(found.len(), expected.len(), "lengths must be equal");
    let differences = found.iter().zip(expected).map(|(&a, &b)| (a.into() - b.into()).abs());
    largest(std::iter::once(0.0).chain(differences))
}

/// The minimum and maximum of the finite numbers, for axes; `None` if none is finite.
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
    fn nans_propagate_from_any_position() {
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
    fn axes_ignore_values_that_are_not_finite() {
        assert_eq!(finite_range([f64::NAN, 2.0, f64::INFINITY, -1.0]), Some((-1.0, 2.0)));
        assert_eq!(finite_range([f64::NAN]), None);
    }
}
