//! Muon's orthogonalized momentum (Jordan et al. 2024, arXiv:2502.16982).

use super::kernels::{MatrixA, MatrixB};
use super::multiply::multiply;
use super::processor::Processor;

/// Coefficients of the quintic iteration, chosen for a steep slope at zero.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations; after so many, singular values are around 1.
const STEPS: usize = 5;
/// The least norm that an update is divided by.
const EPSILON: f64 = 1e-7;

/// A matrix `[rows, columns]` with singular values near 1 in place of its own, by Newton and Schulz's iteration.
pub(super) fn orthogonalized(cpu: &Processor, matrix: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let turned = rows > columns;
    // The smaller side first, where the square matrices between are smallest.
    let (small, large) = if turned { (columns, rows) } else { (rows, columns) };
    let shrunk = 1.0 / cpu.norm(matrix).max(EPSILON) as f32;
    let mut x = if turned { transposed(matrix, columns) } else { matrix.to_vec() };
    x.iter_mut().for_each(|x| *x *= shrunk);
    let (mut gram, mut square) = (vec![0.0; small * small], vec![0.0; small * small]);
    let mut next = vec![0.0; x.len()];
    let [a, b, c] = COEFFICIENTS;
    let product = |extents: (usize, usize, usize), a: &[f32], b: MatrixB<'_>, out: &mut [f32]| {
        multiply(cpu, extents, MatrixA::Rows { data: a, stride: extents.1 }, b, out, false);
    };
    for _ in 0..STEPS {
        product((small, large, small), &x, MatrixB::Columns { data: &x, stride: large }, &mut gram);
        product((small, small, small), &gram, MatrixB::Rows { data: &gram, stride: small }, &mut square);
        gram.iter_mut().zip(&square).for_each(|(gram, square)| *gram = b * *gram + c * square);
        product((small, small, large), &gram, MatrixB::Rows { data: &x, stride: large }, &mut next);
        x.iter_mut().zip(&next).for_each(|(x, next)| *x = a * *x + next);
    }
    if turned { transposed(&x, rows) } else { x }
}

/// The transpose of a matrix with so many columns.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns.max(1);
    (0..matrix.len()).map(|i| matrix[i % rows * columns + i / rows]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::kernels::Isa;
    use crate::random::normal;

    #[test]
    fn rows_become_nearly_orthonormal_whatever_their_shape() {
        let cpu = Processor::new(2, Isa::available()[0]);
        for [rows, columns] in [[4, 9], [9, 4], [6, 6]] {
            let matrix: Vec<f32> = (0..rows * columns).map(|i| normal(3, i as u64)).collect();
            let x = orthogonalized(&cpu, &matrix, [rows, columns]);
            // The sum of squared singular values, each between 0.5 and 1.3.
            let energy = cpu.norm(&x).powi(2) / rows.min(columns) as f64;
            assert!((0.4..1.5).contains(&energy), "{rows} × {columns}: {energy}");
        }
        assert!(orthogonalized(&cpu, &[0.0; 6], [2, 3]).iter().all(|&x| x == 0.0));
    }
}
