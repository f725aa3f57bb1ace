//! A product of two matrices in place.

use super::kernels::{Gemm, GemmEpilogue, MatrixA, MatrixB, ReadyB};
use super::processor::Processor;

/// `product = a · b` (or added to it) with operands in place.
pub(super) fn multiply(
    cpu: &Processor,
    (rows, depth, columns): (usize, usize, usize),
    a: MatrixA<'_>,
    b: MatrixB<'_>,
    product: &mut [f32],
    accumulate: bool,
) {
    let (b, epilogue) = (ReadyB::new(cpu, b, depth, columns), GemmEpilogue::default());
    Gemm { rows, columns, depth, a, norm: None, panels: b.panels(), epilogue, accumulate }.run(cpu, product);
}
