//! What a device is asked for: tensors with given values, buffers, weights.

use std::borrow::Cow;

use super::Cuda;
use super::gate::{give_up, is_recording};
use super::heap::locked;
use super::memory::{CudaFlat, CudaWeight, Element};
use crate::device::error::DeviceError;
use crate::device::storage::Storage;
use crate::dtype::DType;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Cuda {
    pub(in crate::device) fn upload(&self, shape: Shape, values: &[f32]) -> Result<Tensor, DeviceError> {
        let tensor = self.constant(shape, values);
        self.inner.fault().map_or(Ok(tensor), Err)
    }

    pub(in crate::device) fn constant(&self, shape: Shape, values: &[f32]) -> Tensor {
        let memory = self.allocate(Element::F32, values.len());
        self.stage(&memory, values);
        Tensor::new(shape, Storage::Cuda(memory))
    }

    pub(in crate::device) fn flat_zeros(&self, length: usize) -> CudaFlat {
        CudaFlat::new(self.zeroed(Element::F32, length))
    }

    /// A parameter that does not change: a matrix as it is multiplied, anything else in 32 bits.
    pub(in crate::device) fn prepare(&self, values: &[f32], is_matrix: bool, dtype: DType) -> CudaWeight {
        let rounded: Cow<'_, [f32]> = match dtype {
            DType::Bf16 if is_matrix => values.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect(),
            DType::F16 if is_matrix => values.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect(),
            _ => Cow::Borrowed(values),
        };
        let memory = self.uploaded(&rounded);
        CudaWeight::new(if is_matrix && self.is_half() { self.narrow(&memory) } else { memory })
    }

    /// A tensor as operations pass it on: in 16 bits if it is of tokens and the precision has 16 bits.
    #[cfg(test)]
    pub(crate) fn as_tokens(&self, x: &Tensor) -> Tensor {
        Cuda::tensor(x.shape(), self.as_element(x.storage().cuda(), self.element_of(&x.shape())))
    }

    /// Gives unused memory back to the driver.
    pub(in crate::device) fn trim(&self) {
        if is_recording() {
            return give_up();
        }
        // Before the pool is locked, for which a thread that records may wait.
        let _entered = self.inner.enter();
        self.inner.release(&mut locked(&self.inner.pool));
    }
}
