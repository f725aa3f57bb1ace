//! Tensors: contiguous, row-major, on a device.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::device::cpu::Cpu;
use crate::device::cpu::buffer::Buffer;
use crate::tape::NodeId;

/// Up to five extents, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; 5],
    rank: usize,
}

impl Shape {
    /// A shape from its extents, five at most.
    pub fn new(extents: &[usize]) -> Self {
        assert!(extents.len() <= 5, "{extents:?} has more than five extents");
        let mut shape = Shape { extents: [1; 5], rank: extents.len() };
        shape.extents[..extents.len()].copy_from_slice(extents);
        shape
    }

    /// Product of all extents.
    pub fn count(&self) -> usize {
        self.iter().product()
    }

    /// The innermost extent.
    pub fn last(&self) -> usize {
        self[..].last().copied().unwrap_or(1)
    }

    /// The same shape with another innermost extent.
    pub fn with_last(mut self, last: usize) -> Self {
        assert!(self.rank > 0);
        self.extents[self.rank - 1] = last;
        self
    }

    /// The same shape with another outermost extent.
    pub(crate) fn with_first(mut self, first: usize) -> Self {
        assert!(self.rank > 0);
        self.extents[0] = first;
        self
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.extents[..self.rank]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Self {
        Shape::new(&extents)
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}

/// Numbers in a shape. Cloning shares the memory; nothing writes to a tensor that exists.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    storage: Arc<Buffer>,
    pub(crate) node: Option<NodeId>,
}

impl Tensor {
    pub(crate) fn new(shape: impl Into<Shape>, storage: Arc<Buffer>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.count(), storage.len(), "{shape:?} does not hold {} numbers", storage.len());
        Tensor { shape, storage, node: None }
    }

    /// A tensor with a copy of these numbers.
    ///
    /// # Panics
    /// If there are not as many numbers as the shape holds.
    pub fn from_slice(device: &Cpu, shape: impl Into<Shape>, values: &[f32]) -> Self {
        let shape = shape.into();
        assert_eq!(shape.count(), values.len(), "{shape:?} does not hold {} numbers", values.len());
        Tensor::filled(device, shape, |out| out.copy_from_slice(values))
    }

    /// A tensor whose memory `fill` writes, all of it.
    pub fn filled(device: &Cpu, shape: impl Into<Shape>, fill: impl FnOnce(&mut [f32])) -> Self {
        let shape = shape.into();
        Tensor::new(shape, device.filled(shape.count(), fill))
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// One extent.
    pub fn extent(&self, axis: usize) -> usize {
        self.shape[axis]
    }

    /// The numbers, row by row.
    pub fn values(&self) -> &[f32] {
        self.storage.as_slice()
    }

    /// The same numbers in another shape.
    ///
    /// # Panics
    /// If the other shape does not hold as many.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.count(), self.shape.count(), "{:?} does not reshape to {shape:?}", self.shape);
        Tensor { shape, ..self.clone() }
    }

    /// A copy of some of the outermost extent.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn slice(&self, device: &Cpu, range: Range<usize>) -> Self {
        let each = self.shape.count() / self.shape[0].max(1);
        let values = &self.values()[range.start * each..range.end * each];
        Tensor::from_slice(device, self.shape.with_first(range.len()), values)
    }

    /// Rows when the innermost extent is a row.
    pub(crate) fn rows(&self) -> usize {
        self.shape.count() / self.shape.last().max(1)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values = self.values();
        let shown: Vec<String> = values.iter().take(6).map(f32::to_string).collect();
        write!(f, "Tensor{:?} [{}{}]", self.shape, shown.join(", "), if values.len() > 6 { ", …" } else { "" })
    }
}
