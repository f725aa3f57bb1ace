//! Memory of a device: of tensors, of the flat buffers of training, and of weights prepared for products.
//!
//! Only devices look inside them.

use std::ops::Range;
use std::sync::Arc;

use super::cpu::buffer::{Buffer, BufferPool};
use super::cpu::weight::PreparedWeight;
use super::cuda::memory::{CudaFlat, CudaWeight, Memory as CudaMemory};
use super::error::DeviceError;
use super::reference::memory::Memory;
use crate::dtype::DType;

/// Where a parameter's gradient is added in the flat buffer of gradients; `None` if it is not wanted.
pub(crate) type GradientRange = Option<Range<usize>>;

/// The memory of a tensor.
#[derive(Clone)]
pub(crate) enum Storage {
    Cpu(Arc<Buffer>, Arc<BufferPool>),
    Reference(Memory),
    Cuda(CudaMemory),
}

impl Storage {
    pub(crate) fn len(&self) -> usize {
        match self {
            Storage::Cpu(buffer, _) => buffer.len(),
            Storage::Reference(memory) => memory.len(),
            Storage::Cuda(memory) => memory.len(),
        }
    }

    pub(crate) fn download(&self) -> Result<Vec<f32>, DeviceError> {
        match self {
            Storage::Cpu(buffer, pool) => {
                pool.count_download();
                Ok(buffer.as_slice().to_vec())
            }
            Storage::Reference(memory) => memory.download(),
            Storage::Cuda(memory) => memory.download(),
        }
    }

    pub(crate) fn device_name(&self) -> &'static str {
        match self {
            Storage::Cpu(..) => "cpu",
            Storage::Reference(_) => "reference",
            Storage::Cuda(_) => "cuda",
        }
    }

    pub(in crate::device) fn cpu(&self) -> &Buffer {
        match self {
            Storage::Cpu(buffer, _) => buffer,
            _ => panic!("a tensor of the {} device given to the CPU", self.device_name()),
        }
    }

    pub(in crate::device) fn reference(&self) -> &Memory {
        match self {
            Storage::Reference(memory) => memory,
            _ => panic!("a tensor of the {} device given to the reference device", self.device_name()),
        }
    }

    pub(in crate::device) fn cuda(&self) -> &CudaMemory {
        match self {
            Storage::Cuda(memory) => memory,
            _ => panic!("a tensor of the {} device given to the GPU", self.device_name()),
        }
    }
}

/// A flat buffer that is written to in place: parameters, their gradients, an optimizer's moments, an average.
pub struct FlatBuffer(pub(in crate::device) FlatStorage);

pub(in crate::device) enum FlatStorage {
    Cpu(Buffer, Arc<BufferPool>),
    Reference(Memory),
    Cuda(CudaFlat),
}

impl FlatBuffer {
    /// How many values it holds.
    pub fn len(&self) -> usize {
        match &self.0 {
            FlatStorage::Cpu(buffer, _) => buffer.len(),
            FlatStorage::Reference(memory) => memory.len(),
            FlatStorage::Cuda(flat) => flat.len(),
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of its values. Waits for the device.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    pub fn to_vec(&self) -> Result<Vec<f32>, DeviceError> {
        self.read(0..self.len())
    }

    /// A copy of some of its values. Waits for the device.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    ///
    /// # Panics
    /// If the range is out of bounds.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<f32>, DeviceError> {
        match &self.0 {
            FlatStorage::Cpu(buffer, pool) => {
                pool.count_download();
                Ok(buffer.as_slice()[range].to_vec())
            }
            FlatStorage::Reference(memory) => Ok(memory.download()?[range].to_vec()),
            FlatStorage::Cuda(flat) => flat.read(range),
        }
    }

    /// Writes values, starting at an index.
    ///
    /// # Panics
    /// If they reach beyond its end.
    pub fn write(&mut self, start: usize, values: &[f32]) {
        assert!(start + values.len() <= self.len(), "{} numbers from {start} on, of {}", values.len(), self.len());
        match &mut self.0 {
            FlatStorage::Cpu(buffer, _) => buffer.as_mut_slice()[start..start + values.len()].copy_from_slice(values),
            FlatStorage::Reference(memory) => memory.write(start, values),
            FlatStorage::Cuda(flat) => flat.write(start, values),
        }
    }

    /// Lets `change` work on some of its values. On the CPU it works in place; from another device they are copied and
    /// written back.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    ///
    /// # Panics
    /// If the range is out of bounds.
    pub fn change<R>(&mut self, range: Range<usize>, change: impl FnOnce(&mut [f32]) -> R) -> Result<R, DeviceError> {
        if let FlatStorage::Cpu(buffer, _) = &mut self.0 {
            return Ok(change(&mut buffer.as_mut_slice()[range]));
        }
        let mut values = self.read(range.clone())?;
        let result = change(&mut values);
        self.write(range.start, &values);
        Ok(result)
    }

    #[cfg(test)]
    pub(crate) fn reference_memory(&self) -> &Memory {
        self.reference()
    }

    pub(in crate::device) fn cpu(&self) -> &[f32] {
        match &self.0 {
            FlatStorage::Cpu(buffer, _) => buffer.as_slice(),
            _ => panic!("a buffer of another device given to the CPU"),
        }
    }

    pub(in crate::device) fn cpu_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            FlatStorage::Cpu(buffer, _) => buffer.as_mut_slice(),
            _ => panic!("a buffer of another device given to the CPU"),
        }
    }

    pub(in crate::device) fn reference(&self) -> &Memory {
        match &self.0 {
            FlatStorage::Reference(memory) => memory,
            _ => panic!("a buffer of another device given to the reference device"),
        }
    }

    pub(in crate::device) fn cuda(&self) -> &CudaFlat {
        match &self.0 {
            FlatStorage::Cuda(flat) => flat,
            _ => panic!("a buffer of another device given to the GPU"),
        }
    }
}

impl std::fmt::Debug for FlatBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FlatBuffer of {}", self.len())
    }
}

/// A parameter that does not change, in the layout and type that a device multiplies fastest.
pub(crate) enum Weight {
    Cpu(PreparedWeight),
    /// With the type that the values are rounded to.
    Reference(Memory, DType),
    Cuda(CudaWeight),
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weight of {} bytes", self.bytes())
    }
}

impl Weight {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Weight::Cpu(weight) => weight.bytes(),
            Weight::Reference(memory, _) => 8 * memory.len(),
            Weight::Cuda(weight) => weight.bytes(),
        }
    }

    /// The values as its type keeps them, row by row.
    pub(crate) fn download(&self) -> Result<Vec<f32>, DeviceError> {
        match self {
            Weight::Cpu(weight) => Ok(weight.values()),
            Weight::Reference(memory, _) => memory.download(),
            Weight::Cuda(weight) => weight.download(),
        }
    }
}

/// A parameter as an operation gets it.
#[derive(Clone, Copy)]
pub(crate) struct ParameterView<'a> {
    /// Its extents, outermost first.
    pub(crate) shape: &'a [usize],
    /// Its index in the list of parameters, by which a device finds what it keeps for it.
    pub(crate) index: usize,
    pub(in crate::device) place: Place<'a>,
}

#[derive(Clone, Copy)]
pub(in crate::device) enum Place<'a> {
    /// In a flat buffer, from a place on.
    Flat(&'a FlatBuffer, usize),
    Prepared(&'a Weight),
}

impl<'a> ParameterView<'a> {
    pub(crate) fn flat(shape: &'a [usize], index: usize, buffer: &'a FlatBuffer, start: usize) -> Self {
        ParameterView { shape, index, place: Place::Flat(buffer, start) }
    }

    pub(crate) fn prepared(shape: &'a [usize], index: usize, weight: &'a Weight) -> Self {
        ParameterView { shape, index, place: Place::Prepared(weight) }
    }

    /// How many values it holds.
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }
}
