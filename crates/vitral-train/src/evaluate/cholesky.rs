//! Symmetric linear systems in double precision.

/// Solves `A · X = B`, overwriting `B`, for a symmetric positive definite `A` `[size, size]` and `B` `[size, columns]`,
/// both row-major. `A` becomes its Cholesky factor. `None` if it is not positive definite.
pub(super) fn solve(a: &mut [f64], size: usize, b: &mut [f64], columns: usize) -> Option<()> {
    assert_eq!((a.len(), b.len()), (size * size, size * columns), "a system of {size}");
    for row in 0..size {
        let (before, from) = a.split_at_mut(row * size);
        let current = &mut from[..size];
        for column in 0..row {
            let other = &before[column * size..][..column + 1];
            current[column] = (current[column] - dot(&current[..column], &other[..column])) / other[column];
        }
        let square = current[row] - dot(&current[..row], &current[..row]);
        if square.is_nan() || square <= 0.0 {
            return None;
        }
        current[row] = square.sqrt();
    }
    let minus = |row: &mut [f64], other: &[f64], factor: f64| {
        row.iter_mut().zip(other).for_each(|(value, other)| *value -= factor * other);
    };
    for row in 0..size {
        let (before, from) = b.split_at_mut(row * columns);
        let current = &mut from[..columns];
        for column in 0..row {
            minus(current, &before[column * columns..][..columns], a[row * size + column]);
        }
        current.iter_mut().for_each(|value| *value /= a[row * size + row]);
    }
    for row in (0..size).rev() {
        let (before, after) = b.split_at_mut((row + 1) * columns);
        let current = &mut before[row * columns..];
        for below in row + 1..size {
            minus(current, &after[(below - row - 1) * columns..][..columns], a[below * size + row]);
        }
        current.iter_mut().for_each(|value| *value /= a[row * size + row]);
    }
    Some(())
}

/// A dot product in four partial sums.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (wide_a, rest_a) = a.as_chunks::<4>();
    let (wide_b, rest_b) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in wide_a.iter().zip(wide_b) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_a_system_and_rejects_a_singular_one() {
        let size = 7;
        let root: Vec<f64> = (0..size * size).map(|i| ((i * 37 % 11) as f64 - 5.0) / 3.0).collect();
        let mut a: Vec<f64> =
            (0..size * size).map(|i| dot(&root[i / size * size..][..size], &root[i % size * size..][..size])).collect();
        (0..size).for_each(|i| a[i * size + i] += 0.5);
        let wanted: Vec<f64> = (0..size * 2).map(|i| i as f64 - 4.0).collect();
        let mut b: Vec<f64> =
            (0..size * 2).map(|i| (0..size).map(|k| a[i / 2 * size + k] * wanted[k * 2 + i % 2]).sum()).collect();
        assert!(solve(&mut a, size, &mut b, 2).is_some());
        assert!(b.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{b:?}");
        assert!(solve(&mut [0.0; 4], 2, &mut [1.0; 2], 1).is_none());
    }
}
