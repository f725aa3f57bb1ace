//! Gradients of a batch, as the device likes to make them.

use std::ops::Range;

use crate::arena::Parameters;
use crate::device::Device;
use crate::device::cpu::plan::BatchExtent;
use crate::device::storage::FlatBuffer;

/// Sums of gradients, laid out like [`Parameters::flat`]. A device may keep several that grow side by side and are
/// added up at the end.
#[derive(Debug)]
pub struct GradientSum {
    device: Device,
    lanes: Vec<FlatBuffer>,
}

impl GradientSum {
    /// Zeros for the parameters of a flat buffer.
    pub fn zeros(parameters: &Parameters) -> Self {
        let device = parameters.device().clone();
        let lanes = (0..device.gradient_lanes()).map(|_| device.flat_zeros(parameters.flat().len())).collect();
        GradientSum { device, lanes }
    }

    /// Zeroes them.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(|lane| self.device.backend().clear(lane));
    }

    /// Adds the gradients of a batch. The device decides how the batch is cut: `part` is called with the device to
    /// compute on, a range of images, and where their gradients go, for ranges that together are the batch. What the
    /// calls give comes back in the order of images. How a batch is cut depends on the batch alone, so sums have the
    /// same bits whatever the threads.
    ///
    /// # Errors
    /// The first that a part gives.
    pub fn accumulate<T: Send, E: Send>(
        &mut self,
        batch: BatchExtent,
        parameters: &Parameters,
        part: impl Fn(&Device, Range<usize>, &mut FlatBuffer) -> Result<T, E> + Sync + Send,
    ) -> Result<Vec<T>, E> {
        let count = parameters.declarations().specs().len();
        self.device.each_part(batch, count, &mut self.lanes, part)
    }

    /// Adds up the sums that were kept side by side and multiplies the total by a factor; it is then
    /// [`GradientSum::sum`].
    pub fn join(&mut self, factor: f32) {
        let Some((sum, others)) = self.lanes.split_first_mut() else { return };
        others.iter().for_each(|other| self.device.backend().accumulate(sum, other));
        if factor != 1.0 {
            self.device.backend().scale_buffer(sum, factor);
        }
    }

    /// The sum, once it is joined.
    pub fn sum(&self) -> &FlatBuffer {
        &self.lanes[0]
    }

    pub(crate) fn sum_mut(&mut self) -> &mut FlatBuffer {
        &mut self.lanes[0]
    }
}
