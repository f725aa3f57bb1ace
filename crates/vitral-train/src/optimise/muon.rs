//! Muon: momentum of a hidden matrix with its singular values levelled (Jordan et al. 2024, arXiv:2502.16982).

use serde::{Deserialize, Serialize};
use vitral_engine::Cpu;
use vitral_engine::ops::{Factor, product};

use super::norm;

/// Coefficients of the quintic iteration, chosen for a steep slope at zero.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations; after so many, singular values lie around 1.
const STEPS: usize = 5;
/// The least norm that an update is divided by.
const EPSILON: f64 = 1e-7;

/// How the rate of a matrix `[out, in]` follows its shape, as in PyTorch's `adjust_lr_fn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatrixRate {
    /// Times `√max(1, out / in)`.
    Original,
    /// Times `0.2 · √max(out, in)`: steps as large as AdamW's, whose rate and decay then fit.
    #[default]
    MatchRmsAdamw,
}

impl MatrixRate {
    /// The factor on the rate.
    pub(super) fn factor(self, [rows, columns]: [usize; 2]) -> f32 {
        let (rows, columns) = (rows as f64, columns as f64);
        (match self {
            MatrixRate::Original => (rows / columns).max(1.0).sqrt(),
            MatrixRate::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        }) as f32
    }
}

/// A matrix `[rows, columns]` with singular values near 1 in place of its own, by Newton and Schulz's iteration.
pub(super) fn levelled(device: &Cpu, matrix: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let turned = rows > columns;
    // The smaller side first, where the square matrices between are smallest.
    let (small, large) = if turned { (columns, rows) } else { (rows, columns) };
    let shrunk = 1.0 / norm(matrix).max(EPSILON) as f32;
    let mut x = if turned { transposed(matrix, columns) } else { matrix.to_vec() };
    x.iter_mut().for_each(|x| *x *= shrunk);
    let (mut gram, mut square) = (vec![0.0; small * small], vec![0.0; small * small]);
    let mut next = vec![0.0; x.len()];
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..STEPS {
        product(device, (small, large, small), &x, Factor::Transposed(&x), &mut gram);
        product(device, (small, small, small), &gram, Factor::Plain(&gram), &mut square);
        gram.iter_mut().zip(&square).for_each(|(gram, square)| *gram = b * *gram + c * square);
        product(device, (small, small, large), &gram, Factor::Plain(&x), &mut next);
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
    use vitral_engine::ops::random::normal;

    use super::*;

    #[test]
    fn rows_become_nearly_orthonormal_whatever_their_shape() {
        let device = Cpu::with_threads(2);
        for [rows, columns] in [[4, 9], [9, 4], [6, 6]] {
            let matrix: Vec<f32> = (0..rows * columns).map(|i| normal(3, i as u64)).collect();
            let x = levelled(&device, &matrix, [rows, columns]);
            // The sum of squared singular values, each between 0.5 and 1.3.
            let energy = norm(&x).powi(2) / rows.min(columns) as f64;
            assert!((0.4..1.5).contains(&energy), "{rows} × {columns}: {energy}");
        }
        assert!(levelled(&device, &[0.0; 6], [2, 3]).iter().all(|&x| x == 0.0));
    }
}
