//! What an optimizer step reads and writes.

use super::Cuda;
use super::launch::{Arg, Source, rows};
use super::memory::{CudaFlat, Element, Memory};
use crate::device::backend::UpdateCall;

/// Values of a block of sums of squares, as the kernel has it.
const SQUARES: usize = 4096;

/// One optimizer step, with what it reads and writes.
pub(super) struct Step<'a> {
    pub(super) device: &'a Cuda,
    pub(super) call: &'a UpdateCall<'a>,
    pub(super) parameters: &'a CudaFlat,
    pub(super) gradients: &'a Memory,
    pub(super) first: &'a Memory,
    pub(super) second: &'a Memory,
    pub(super) gate: &'a Memory,
    /// Parameters in 16 bits, to be kept in step.
    pub(super) copy: Option<Memory>,
}

impl Step<'_> {
    /// What a moment is multiplied by, so that its first steps are not too small.
    pub(super) fn correction(&self, beta: f32) -> f32 {
        let steps = self.call.step.min(i32::MAX as u64) as i32;
        (1.0 / (1.0 - f64::from(beta).powi(steps))) as f32
    }
}

impl Cuda {
    /// The Euclidean norm of values, as a memory of one number.
    pub(super) fn norm_of(&self, x: (&Memory, usize), count: usize) -> Memory {
        let blocks = count.div_ceil(SQUARES);
        // Double precision takes two words each.
        let partial = self.allocate(Element::F32, 2 * blocks.max(1));
        let out = self.allocate(Element::F32, 1);
        let arguments = [Arg::From(x.0, x.1), Arg::Of(&partial), Arg::Count(count)];
        self.launch(Source::Updates, "square_sums", rows(blocks), &arguments);
        let arguments = [Arg::Of(&partial), Arg::Of(&out), Arg::Count(blocks)];
        self.launch(Source::Updates, "norm_of_sums", rows(1), &arguments);
        out
    }
}
