//! Gradients of a batch, as the device likes to make them.

use std::ops::Range;

use crate::arena::Parameters;
use crate::device::Device;
use crate::device::cpu::plan::BatchExtent;
use crate::device::storage::FlatBuffer;

/// Sums of gradients, laid out like [`Parameters::flat`]. A batch has leaves ([`leaves`](crate::leaves)), and each leaf
/// its own sum; they are added in pairs, and the pairs in pairs. So the total has the same bits whoever computes which
/// of the leaves: the threads of one process, or several processes that own whole subtrees.
#[derive(Debug)]
pub struct GradientSum {
    device: Device,
    lanes: Vec<FlatBuffer>,
}

impl GradientSum {
    /// Zeros for the parameters of a flat buffer, one sum for each of so many leaves, a power of two. A GPU takes a batch
    /// as a whole, and has one sum.
    pub fn zeros(parameters: &Parameters, leaves: usize) -> Self {
        assert!(leaves.is_power_of_two(), "{leaves} leaves, which is not a power of two");
        let device = parameters.device().clone();
        let lanes = if device.keeps_leaves() { leaves } else { 1 };
        let lanes = (0..lanes).map(|_| device.flat_zeros(parameters.flat().len())).collect();
        GradientSum { device, lanes }
    }

    /// Zeroes them.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(|lane| self.device.backend().clear(lane));
    }

    /// Adds the gradients of a batch with these leaves, as many as there are sums. The device decides how a leaf is cut:
    /// `part` is called with the device to compute on, a range of images, and where their gradients go, for ranges that
    /// together are the batch. What the calls give comes back in the order of images. How a leaf is cut depends on the
    /// leaf alone, so sums have the same bits whatever the threads.
    ///
    /// # Errors
    /// The first that a part gives.
    pub fn accumulate<T: Send, E: Send>(
        &mut self,
        batch: BatchExtent,
        leaves: &[Range<usize>],
        parameters: &Parameters,
        part: impl Fn(&Device, Range<usize>, &mut FlatBuffer) -> Result<T, E> + Sync + Send,
    ) -> Result<Vec<T>, E> {
        let count = parameters.declarations().specs().len();
        self.device.each_part(batch, leaves, count, &mut self.lanes, part)
    }

    /// Adds up the sums of the leaves; the total is then [`GradientSum::sum`].
    pub fn join(&mut self) {
        let (count, mut apart) = (self.lanes.len(), 1);
        while apart < count {
            for pair in self.lanes.chunks_mut(2 * apart) {
                let (left, right) = pair.split_at_mut(apart);
                self.device.backend().accumulate(&mut left[0], &right[0]);
            }
            apart *= 2;
        }
    }

    /// Multiplies the joined sum by a factor.
    pub fn scale(&mut self, factor: f32) {
        if factor != 1.0 {
            self.device.backend().scale_buffer(&mut self.lanes[0], factor);
        }
    }

    /// The sum, once it is joined.
    pub fn sum(&self) -> &FlatBuffer {
        &self.lanes[0]
    }

    /// The sum, to be joined with those of others.
    pub fn sum_mut(&mut self) -> &mut FlatBuffer {
        &mut self.lanes[0]
    }
}
