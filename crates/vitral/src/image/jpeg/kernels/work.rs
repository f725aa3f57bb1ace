//! What is done to blocks and rows, whatever does it.

use crate::image::jpeg::tables::Quantization;
use crate::image::jpeg::transform::Samples;

/// What is done to blocks and rows. Every implementation gives the same bits.
pub(in crate::image::jpeg) trait Kernels: Copy {
    /// Coefficients to samples.
    fn inverse(self, coefficients: &[i16; 64], quantization: &Quantization) -> Samples;

    /// A row of Y, Cb and Cr to interleaved RGB; every plane is at least as long as the row.
    fn red_green_blue(self, planes: [&[u8]; 3], row: &mut [u8]);

    /// Two samples for each, interpolated from left to right.
    fn columns(self, near: &[u8], row: &mut [u8]);

    /// Two samples for each, interpolated from left to right and with the row `far`.
    fn both(self, near: &[u8], far: &[u8], row: &mut [u8]);
}

/// Something to do with whatever kernels there are.
pub(in crate::image::jpeg) trait Work {
    type Output;

    fn run<K: Kernels>(self, kernels: K) -> Self::Output;
}
