//! The linear algebra that figures need, in 64 bits: symmetric eigenvalues and principal components.

/// Principal components of rows.
#[derive(Debug)]
pub struct Principal {
    /// `[width]`, subtracted from every row.
    pub mean: Vec<f64>,
    /// `[components, width]`: unit vectors, in order of decreasing variance.
    pub components: Vec<f64>,
    /// Variance along every principal axis, in decreasing order.
    pub variances: Vec<f64>,
    width: usize,
}

impl Principal {
    /// Projects rows `[rows, width]` onto the components: `[rows, components]`.
    pub fn project(&self, rows: &[f32]) -> Vec<f32> {
        let mut found = Vec::new();
        for row in rows.chunks_exact(self.width) {
            for component in self.components.chunks_exact(self.width) {
                let along = row.iter().zip(&self.mean).zip(component).map(|((x, mean), c)| (f64::from(*x) - mean) * c);
                found.push(along.sum::<f64>() as f32);
            }
        }
        found
    }
}

/// The first `count` principal components of rows `[rows, width]`, or as many as there are. The sign of a component is
/// such that its largest element is positive.
pub fn principal(rows: &[f32], width: usize, count: usize) -> Principal {
    let total = rows.len() / width;
    let mut mean = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x));
    }
    mean.iter_mut().for_each(|mean| *mean /= total.max(1) as f64);
    let centered: Vec<f64> = rows.iter().enumerate().map(|(i, x)| f64::from(*x) - mean[i % width]).collect();
    // The smaller of the two products has the same eigenvalues: with few rows there is no need for a width × width
    // matrix.
    let by_rows = total < width;
    let side = if by_rows { total } else { width };
    let scale = 1.0 / total.saturating_sub(1).max(1) as f64;
    let product =
        if by_rows { gram(&centered, total, width) } else { gram(&transposed(&centered, width), width, total) };
    let Eigen { values, vectors } = symmetric_eigen(product, side);
    let variances: Vec<f64> = values.iter().map(|value| value.max(0.0) * scale).collect();
    let mut components = Vec::with_capacity(count * width);
    for vector in vectors.chunks_exact(side).take(count) {
        let mut component = if by_rows {
            let mut sum = vec![0.0; width];
            for (row, factor) in centered.chunks_exact(width).zip(vector) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
            }
            sum
        } else {
            vector.to_vec()
        };
        let length = component.iter().map(|x| x * x).sum::<f64>().sqrt();
        let greatest = component.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        let factor = if length > 0.0 { greatest.signum() / length } else { 0.0 };
        component.iter_mut().for_each(|x| *x *= factor);
        components.extend(component);
    }
    Principal { mean, components, variances, width }
}

fn transposed(rows: &[f64], width: usize) -> Vec<f64> {
    (0..width).flat_map(|column| rows.iter().skip(column).step_by(width).copied()).collect()
}

/// `X Xᵀ` of `[rows, width]`.
pub(super) fn gram(rows: &[f64], count: usize, width: usize) -> Vec<f64> {
    use rayon::prelude::*;
    let mut product = vec![0.0; count * count];
    product.par_chunks_mut(count.max(1)).enumerate().for_each(|(i, out)| {
        let a = &rows[i * width..(i + 1) * width];
        for (j, out) in out.iter_mut().enumerate() {
            *out = a.iter().zip(&rows[j * width..(j + 1) * width]).map(|(a, b)| a * b).sum();
        }
    });
    product
}

/// Eigenvalues in decreasing order, and their unit eigenvectors, `[side, side]`, one per row.
#[derive(Debug)]
pub struct Eigen {
    /// `[side]`.
    pub values: Vec<f64>,
    /// `[side, side]`.
    pub vectors: Vec<f64>,
}

/// Eigenvalues and eigenvectors of a symmetric matrix `[side, side]`: Householder reduction to tridiagonal form, then
/// QL with implicit shifts (Golub & Van Loan, Matrix Computations, chapter 8).
pub fn symmetric_eigen(mut matrix: Vec<f64>, side: usize) -> Eigen {
    assert_eq!(matrix.len(), side * side, "a square matrix");
    if side == 0 {
        return Eigen { values: vec![], vectors: vec![] };
    }
    // Row `i` of `basis` is the image of unit vector `i`; in the end, the rows are the eigenvectors.
    let mut basis = vec![0.0; side * side];
    (0..side).for_each(|i| basis[i * side + i] = 1.0);
    reflect(&mut matrix, &mut basis, side);
    let mut diagonal: Vec<f64> = (0..side).map(|i| matrix[i * side + i]).collect();
    let mut beside: Vec<f64> = (1..side).map(|i| matrix[i * side + i - 1]).chain([0.0]).collect();
    for first in 0..side {
        // Cubic convergence: a few sweeps each; the bound only stops NaNs.
        for _ in 0..60 {
            let split = (first..side - 1).find(|&i| {
                let scale = diagonal[i].abs() + diagonal[i + 1].abs();
                beside[i].abs() <= f64::EPSILON * scale
            });
            let last = split.unwrap_or(side - 1);
            if last == first {
                break;
            }
            sweep(&mut diagonal, &mut beside, &mut basis, first, last, side);
        }
    }
    let mut order: Vec<usize> = (0..side).collect();
    order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    let vectors = order.iter().flat_map(|&i| basis[i * side..(i + 1) * side].iter().copied()).collect();
    Eigen { values: order.iter().map(|&i| diagonal[i]).collect(), vectors }
}

/// Reduces a symmetric matrix to tridiagonal form by reflections `I − 2 v vᵀ`, which are applied to `basis` too.
fn reflect(matrix: &mut [f64], basis: &mut [f64], side: usize) {
    for column in 0..side.saturating_sub(2) {
        let below: Vec<f64> = (column + 1..side).map(|row| matrix[row * side + column]).collect();
        let length = below.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            continue;
        }
        let mut v = vec![0.0; side];
        v[column + 1..].copy_from_slice(&below);
        v[column + 1] += if below[0] < 0.0 { -length } else { length };
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        // A − v wᵀ − w vᵀ with w = 2 (A v − (vᵀ A v) v).
        let mut w: Vec<f64> =
            matrix.chunks_exact(side).map(|row| row.iter().zip(&v).map(|(a, v)| a * v).sum::<f64>()).collect();
        let inner: f64 = v.iter().zip(&w).map(|(v, w)| v * w).sum();
        w.iter_mut().zip(&v).for_each(|(w, v)| *w = 2.0 * (*w - inner * v));
        for (i, row) in matrix.chunks_exact_mut(side).enumerate() {
            for ((a, v_j), w_j) in row.iter_mut().zip(&v).zip(&w) {
                *a -= v[i] * w_j + w[i] * v_j;
            }
        }
        // Rows of the basis: H · basis.
        let mut along = vec![0.0; side];
        for (row, v) in basis.chunks_exact(side).zip(&v).filter(|(_, v)| **v != 0.0) {
            along.iter_mut().zip(row).for_each(|(along, x)| *along += v * x);
        }
        for (row, v) in basis.chunks_exact_mut(side).zip(&v).filter(|(_, v)| **v != 0.0) {
            row.iter_mut().zip(&along).for_each(|(x, along)| *x -= 2.0 * v * along);
        }
    }
}

/// One implicit QL sweep over the block `first ..= last`.
fn sweep(diagonal: &mut [f64], beside: &mut [f64], basis: &mut [f64], first: usize, last: usize, side: usize) {
    let half = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let root = half.hypot(1.0);
    let mut carry = diagonal[last] - diagonal[first] + beside[first] / (half + root.copysign(half));
    let (mut sine, mut cosine, mut taken) = (1.0, 1.0, 0.0);
    for i in (first..last).rev() {
        let (f, b) = (sine * beside[i], cosine * beside[i]);
        let length = f.hypot(carry);
        beside[i + 1] = length;
        if length == 0.0 {
            diagonal[i + 1] -= taken;
            beside[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / length, carry / length);
        let shifted = diagonal[i + 1] - taken;
        let turned = (diagonal[i] - shifted) * sine + 2.0 * cosine * b;
        taken = sine * turned;
        diagonal[i + 1] = shifted + taken;
        carry = cosine * turned - b;
        let (upper, lower) = basis.split_at_mut((i + 1) * side);
        for (x, y) in upper[i * side..].iter_mut().zip(&mut lower[..side]) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    }
    diagonal[first] -= taken;
    beside[first] = carry;
    beside[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use vitral_engine::random::normal;

    use super::*;

    #[test]
    fn eigenvectors_are_scaled_by_their_eigenvalues() {
        for side in [1, 2, 3, 8, 33, 70] {
            let noise: Vec<f64> = (0..side * side).map(|i| f64::from(normal(side as u64, i as u64))).collect();
            let matrix: Vec<f64> = (0..side * side).map(|i| noise[i] + noise[i % side * side + i / side]).collect();
            let Eigen { values, vectors } = symmetric_eigen(matrix.clone(), side);
            assert!(values.is_sorted_by(|a, b| a >= b));
            for (value, vector) in values.iter().zip(vectors.chunks_exact(side)) {
                assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-9);
                for (row, x) in matrix.chunks_exact(side).zip(vector) {
                    let turned: f64 = row.iter().zip(vector).map(|(a, x)| a * x).sum();
                    assert!((turned - value * x).abs() < 1e-8 * side as f64, "{turned} {}", value * x);
                }
            }
            let trace: f64 = (0..side).map(|i| matrix[i * side + i]).sum();
            assert!((values.iter().sum::<f64>() - trace).abs() < 1e-8 * side as f64);
        }
    }

    #[test]
    fn degenerate_matrices_have_the_right_eigenvalues() {
        assert_eq!(symmetric_eigen(vec![0.0; 9], 3).values, [0.0; 3]);
        assert_eq!(symmetric_eigen(vec![2.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 2.0], 3).values, [5.0, 2.0, 2.0]);
    }

    #[test]
    fn components_are_the_same_from_rows_and_from_columns() {
        let rows: Vec<f32> = (0..5 * 7).map(|i| normal(1, i)).collect();
        let wide = principal(&rows, 7, 3);
        // The rows repeated three times outnumber the width, and have the same distribution.
        let tall = principal(&rows.repeat(3), 7, 3);
        for (a, b) in wide.components.iter().zip(&tall.components) {
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
        assert_eq!(wide.project(&rows).len(), 15);
    }
}
