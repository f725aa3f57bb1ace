//! Operations on blocks and rows, independent of the implementation.

use crate::image::jpeg::tables::Quantization;
use crate::image::jpeg::transform::Samples;

/// Operations on blocks and rows. Every implementation gives the same bits.
pub(in crate::image::jpeg) trait Kernels: Copy {
    /// Coefficients to samples.
    fn inverse(self, coefficients: &[i16; 64], quantization: &Quantization) -> Samples;

    /// A row of Y, Cb and Cr to interleaved RGB; every plane is at least as long as the row.
    fn red_green_blue(self, planes: [&[u8]; 3], row: &mut [u8]);

    /// Two samples for each, interpolated horizontally.
    fn columns(self, near: &[u8], row: &mut [u8]);

    /// Two samples for each, interpolated horizontally and with the row `far`.
    fn both(self, near: &[u8], far: &[u8], row: &mut [u8]);
}

/// Work that can be done with any kernels.
pub(in crate::image::jpeg) trait Work {
    type Output;

    fn run<K: Kernels>(self, kernels: K) -> Self::Output;
}
