//! The reference device: plain loops in double precision, one thread, hostile memory.
//!
//! It is the specification: every other device is compared with it over odd shapes. Each file is the counterpart of one
//! of the traits in [`backend`](super::backend), written as the papers have it, one number at a time.

mod attention;
mod convolution;
mod elements;
mod images;
mod int8;
mod losses;
pub(crate) mod memory;
mod norms;
mod operands;
mod positions;
mod products;
mod tokens;
mod transfers;
mod updates;

use std::sync::Arc;

use memory::{Heap, Memory};

use super::backend::Backend;
use super::error::DeviceError;
use super::storage::{FlatBuffer, ParameterView, Place, Storage, Weight};
use crate::dtype::DType;
use crate::precision::Precision;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A device of plain scalar loops whose memory cannot be borrowed. Clones mean the same device.
#[derive(Clone, Default)]
pub struct Reference(Arc<Heap>, Precision);

impl Backend for Reference {}

impl Reference {
    /// A device with nothing on it.
    pub fn new() -> Self {
        Reference::default()
    }

    /// The same device, rounding operands of products as this precision does.
    pub(super) fn with_precision(self, precision: Precision) -> Self {
        Reference(self.0, precision)
    }

    /// What operands of products are rounded to.
    pub(super) fn precision(&self) -> Precision {
        self.1
    }

    /// Makes an allocation fail: that after so many more. The error sticks, and is returned by the next download from
    /// the device.
    pub fn fail_after(&self, allocations: usize) {
        self.0.fail_after(allocations);
    }

    /// How many times memory was asked for.
    pub fn allocations(&self) -> usize {
        self.0.allocations()
    }

    /// How many downloads there were from the device.
    pub fn downloads(&self) -> usize {
        self.0.downloads()
    }

    pub(super) fn upload(&self, shape: Shape, values: &[f32]) -> Result<Tensor, DeviceError> {
        let tensor = self.constant(shape, values);
        self.0.fault().map_or(Ok(tensor), Err)
    }

    pub(super) fn constant(&self, shape: Shape, values: &[f32]) -> Tensor {
        let memory = self.0.allocate(values.len());
        memory.write(0, values);
        Tensor::new(shape, Storage::Reference(memory))
    }

    pub(super) fn wait(&self) -> Result<(), DeviceError> {
        self.nothing().wait().map(drop)
    }

    pub(super) fn zeros(&self, length: usize) -> Memory {
        let memory = self.0.allocate(length);
        self.0.launch([], [&memory], |[], [out]| out.fill(0.0));
        memory
    }

    /// A parameter rounded to a type.
    pub(super) fn prepare(&self, values: &[f32], matrix: Option<[usize; 2]>, dtype: DType) -> Memory {
        let rounded: Vec<f32> = match dtype {
            DType::F32 => values.to_vec(),
            DType::Bf16 => values.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect(),
            DType::F16 => values.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect(),
            DType::I8 => {
                let width = matrix.map_or(values.len(), |[_, width]| width).max(1);
                values.chunks(width).flat_map(int8::rounded_row).collect()
            }
        };
        let memory = self.0.allocate(rounded.len());
        memory.write(0, &rounded);
        memory
    }

    /// A tensor that queued work fills from others.
    fn compute<const R: usize>(
        &self,
        shape: impl Into<Shape>,
        reads: [&Memory; R],
        work: impl FnOnce([&[f64]; R], &mut [f64]) + Send + 'static,
    ) -> Tensor {
        let shape = shape.into();
        let memory = self.0.allocate(shape.count());
        self.0.launch(reads, [&memory], |reads, [out]| work(reads, out));
        Tensor::new(shape, Storage::Reference(memory))
    }

    /// Two tensors that queued work fills together.
    fn compute_two<const R: usize>(
        &self,
        shapes: [Shape; 2],
        reads: [&Memory; R],
        work: impl FnOnce([&[f64]; R], [&mut [f64]; 2]) + Send + 'static,
    ) -> [Tensor; 2] {
        let memories = shapes.map(|shape| self.0.allocate(shape.count()));
        self.0.launch(reads, memories.each_ref(), work);
        let [first, second] = memories.map(Storage::Reference);
        [Tensor::new(shapes[0], first), Tensor::new(shapes[1], second)]
    }

    /// Queued work that writes to a flat buffer in place.
    fn change<const R: usize>(
        &self,
        buffer: &FlatBuffer,
        reads: [&Memory; R],
        work: impl FnOnce([&[f64]; R], &mut [f64]) + Send + 'static,
    ) {
        self.0.launch(reads, [buffer.reference()], |reads, [out]| work(reads, out));
    }

    /// Empty memory, for absent operands.
    fn nothing(&self) -> Memory {
        self.0.allocate(0)
    }
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reference")
    }
}

/// The memory of a tensor.
fn stored(tensor: &Tensor) -> &Memory {
    tensor.storage().reference()
}

/// A parameter: its memory, and where it begins there.
#[derive(Clone)]
struct Parameter {
    memory: Memory,
    /// What its values are rounded to, if it does not change.
    stored: Option<DType>,
    start: usize,
    count: usize,
}

impl Parameter {
    fn of(view: ParameterView<'_>) -> Self {
        let (memory, start, stored) = match view.place {
            Place::Flat(buffer, start) => (buffer.reference().clone(), start, None),
            Place::Prepared(Weight::Reference(memory, dtype)) => (memory.clone(), 0, Some(*dtype)),
            Place::Prepared(_) => panic!("a weight of another device given to the reference device"),
        };
        Parameter { memory, stored, start, count: view.count() }
    }

    /// A parameter that may not be there.
    fn maybe(device: &Reference, view: Option<ParameterView<'_>>) -> Self {
        view.map_or_else(|| Parameter { memory: device.nothing(), stored: None, start: 0, count: 0 }, Parameter::of)
    }

    /// Where its values are in the memory.
    fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.count
    }
}
