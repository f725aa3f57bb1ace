//! Tensors: contiguous, row-major, in the memory of a device.

use crate::device::error::DeviceError;
use crate::device::storage::Storage;
use crate::dtype::DType;
use crate::shape::Shape;

/// A tensor's place on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) usize);

/// Numbers in a shape, in the memory of a device. Cloning shares the memory; nothing writes to a tensor that exists.
///
/// The values cannot be borrowed: [`Tensor::to_vec`] copies them from the device.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    storage: Storage,
    pub(crate) node: Option<NodeId>,
}

impl Tensor {
    pub(crate) fn new(shape: impl Into<Shape>, storage: Storage) -> Self {
        let shape = shape.into();
        assert_eq!(shape.count(), storage.len(), "{shape:?} does not hold {} numbers", storage.len());
        Tensor { shape, storage, node: None }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// One extent.
    pub fn extent(&self, axis: usize) -> usize {
        self.shape[axis]
    }

    /// The type of its values.
    pub fn dtype(&self) -> DType {
        DType::F32
    }

    /// A copy of the values, row by row. Waits for the device.
    ///
    /// # Errors
    /// Whatever went wrong on the device since the last time anybody waited for it.
    pub fn to_vec(&self) -> Result<Vec<f32>, DeviceError> {
        self.storage.download()
    }

    /// The same values in another shape.
    ///
    /// # Panics
    /// If the other shape holds a different number.
    #[must_use]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.count(), self.shape.count(), "{:?} does not reshape to {shape:?}", self.shape);
        Tensor { shape, ..self.clone() }
    }

    /// The same values, off the tape.
    #[must_use]
    pub(crate) fn detached(&self) -> Self {
        Tensor { node: None, ..self.clone() }
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Rows when the innermost extent is a row.
    pub(crate) fn rows(&self) -> usize {
        self.shape.rows()
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor{:?} on {}", self.shape, self.storage.device_name())
    }
}
