//! A product of two matrices, for what stands outside a pass: optimisers that look at a matrix as a whole.

use super::linear::multiply;
use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::{Lhs, Rhs};

/// The right side of a product.
#[derive(Clone, Copy, Debug)]
pub enum Factor<'a> {
    /// `[depth, columns]`.
    Plain(&'a [f32]),
    /// `[columns, depth]`, taken as its transpose.
    Transposed(&'a [f32]),
}

/// `out = a · b`, with `a` as `[rows, depth]` and `out` as `[rows, columns]`. The bits do not depend on threads.
///
/// # Panics
/// If a matrix does not hold as many numbers as its extents say.
pub fn product(device: &Cpu, (rows, depth, columns): (usize, usize, usize), a: &[f32], b: Factor<'_>, out: &mut [f32]) {
    let (Factor::Plain(values) | Factor::Transposed(values)) = b;
    let found = (a.len(), values.len(), out.len());
    assert_eq!(found, (rows * depth, depth * columns, rows * columns), "of {rows} × {depth} by {depth} × {columns}");
    let b = match b {
        Factor::Plain(data) => Rhs::Rows { data, stride: columns },
        Factor::Transposed(data) => Rhs::Columns { data, stride: depth },
    };
    multiply(device, (rows, depth, columns), Lhs::Rows { data: a, stride: depth }, b, out, false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::random::normal;

    #[test]
    fn products_are_sums_of_products() {
        let device = Cpu::with_threads(2);
        for (rows, depth, columns) in [(1, 1, 1), (3, 17, 5), (20, 33, 18)] {
            let noise = |seed, count: usize| (0..count).map(|i| normal(seed, i as u64)).collect::<Vec<f32>>();
            let (a, b) = (noise(1, rows * depth), noise(2, depth * columns));
            let turned: Vec<f32> = (0..columns * depth).map(|i| b[i % depth * columns + i / depth]).collect();
            for factor in [Factor::Plain(&b), Factor::Transposed(&turned)] {
                let mut out = vec![f32::NAN; rows * columns];
                product(&device, (rows, depth, columns), &a, factor, &mut out);
                for (i, found) in out.iter().enumerate() {
                    let expected: f32 =
                        (0..depth).map(|k| a[i / columns * depth + k] * b[k * columns + i % columns]).sum();
                    assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
                }
            }
        }
    }
}
