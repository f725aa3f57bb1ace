//! The loops in plain code.

use super::work::Kernels;
use crate::image::jpeg::tables::Quantization;
use crate::image::jpeg::transform::{self, Samples};
use crate::image::jpeg::{color, upsample};

/// No instruction set in particular.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Kernels for Plain {
    #[inline(always)]
    fn inverse(self, coefficients: &[i16; 64], quantization: &Quantization) -> Samples {
        transform::inverse(coefficients, quantization)
    }

    #[inline(always)]
    fn red_green_blue(self, planes: [&[u8]; 3], row: &mut [u8]) {
        color::red_green_blue_row(planes, row);
    }

    #[inline(always)]
    fn columns(self, near: &[u8], row: &mut [u8]) {
        upsample::columns(near, row);
    }

    #[inline(always)]
    fn both(self, near: &[u8], far: &[u8], row: &mut [u8]) {
        upsample::both(near, far, row);
    }
}
