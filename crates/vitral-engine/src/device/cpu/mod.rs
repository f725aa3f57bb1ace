//! The CPU: threads, instruction sets, kernels.

mod attention;
pub(crate) mod buffer;
mod convolution;
mod elements;
mod images;
pub(crate) mod kernels;
mod losses;
mod map;
pub(crate) mod math;
mod memory;
mod multiply;
mod muon;
mod norms;
mod pack_cache;
mod parameter;
mod peak;
pub(crate) mod plan;
mod pooling;
mod positions;
pub(crate) mod processor;
mod products;
mod threads;
mod tokens;
pub(in crate::device) mod updates;
pub(crate) mod weight;

use std::sync::{Arc, OnceLock};

use buffer::Buffer;
use kernels::{Isa, Words};
use pack_cache::PackCache;
use processor::Processor;
use weight::{PreparedWeight, Stored};

use super::backend::Backend;
use super::storage::{FlatStorage, Storage};
use crate::dtype::DType;
use crate::precision::Precision;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A processor: a fixed number of threads, an instruction set, and recycled memory. Clones share all three.
#[derive(Clone)]
pub struct Cpu {
    processor: Processor,
    /// Its two halves, made when they are first needed.
    halves: Arc<OnceLock<Option<[Processor; 2]>>>,
    /// What the passes of a training step pack together.
    packs: Option<Arc<PackCache>>,
    /// What products are computed in.
    precision: Precision,
}

impl Backend for Cpu {}

impl Cpu {
    fn of(processor: Processor) -> Self {
        Cpu { processor, halves: Arc::default(), packs: None, precision: Precision::F32 }
    }

    /// All of the processor's threads.
    pub fn new() -> Self {
        Cpu::with_threads(0)
    }

    /// The number of threads; 0 is one for each core.
    pub fn with_threads(threads: usize) -> Self {
        Cpu::of(Processor::new(threads, Isa::available()[0]))
    }

    /// As [`Cpu::with_threads`], with one of [`Cpu::instruction_sets`]; `None` if the processor does not have it.
    pub fn with_instruction_set(threads: usize, name: &str) -> Option<Self> {
        let isa = Isa::caps().into_iter().find(|isa| isa.name() == name)?;
        Some(Cpu::of(Processor::new(threads, isa)))
    }

    /// The instruction sets that this processor has kernels for, the best first: of `amx`, `avx512-bf16`, `avx512-vnni`,
    /// `avx512`, `avx2-vnni`, `avx2`, `neon`, `portable`.
    pub fn instruction_sets() -> Vec<&'static str> {
        Isa::caps().into_iter().map(Isa::name).collect()
    }

    /// What the processor has and is not among [`Cpu::instruction_sets`], and why, in a line: AMX that the system does not
    /// permit, or whose products, tried once in a process, are not those of plain sums.
    pub fn unused_instruction_set() -> Option<String> {
        Isa::unused()
    }

    /// The same processor, multiplying in another precision.
    pub(in crate::device) fn with_precision(self, precision: Precision) -> Self {
        Cpu { precision, ..self }
    }

    /// What products are computed in.
    pub(in crate::device) fn precision(&self) -> Precision {
        self.precision
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.processor.threads()
    }

    /// The instruction set in use.
    pub fn instruction_set(&self) -> &'static str {
        self.processor.isa().name()
    }

    /// The most that all threads together multiply and add in the precision of this handle, in billions of operations a
    /// second (GFLOP/s in 32 bits), measured now: the best of several short rounds.
    pub fn fma_peak(&self) -> f64 {
        self.processor.peak(match self.precision {
            Precision::Int8 => Some(Words::Int8),
            Precision::Bf16 if self.rounds_to_bf16() => Some(Words::Bf16),
            _ => None,
        })
    }

    /// Gives unused memory back to the system.
    pub fn trim(&self) {
        self.processor.memory().trim();
    }

    /// Copies of tensors that were made for callers.
    pub(crate) fn downloads(&self) -> usize {
        self.processor.memory().downloads()
    }

    /// Runs `body` on this processor's threads.
    pub(crate) fn scope<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        self.processor.scope(body)
    }

    /// A flat buffer of zeros.
    pub(in crate::device) fn flat_zeros(&self, length: usize) -> FlatStorage {
        FlatStorage::Cpu(Buffer::zeros(length), Arc::clone(self.processor.memory()))
    }

    /// A matrix `[out, in]`, packed and stored in a type.
    pub(crate) fn prepare_matrix(&self, values: &[f32], extents: [usize; 2], dtype: DType) -> PreparedWeight {
        PreparedWeight::matrix(&self.processor, values, extents, self.stored(dtype))
    }

    /// How a matrix of this type is kept for products in the device's precision.
    fn stored(&self, dtype: DType) -> Stored {
        match dtype {
            DType::I8 => Stored::Words(Words::Int8),
            DType::Bf16 if self.rounds_to_bf16() => Stored::Words(Words::Bf16),
            _ => Stored::As(dtype),
        }
    }

    /// Whether products that are not in 8 bits are in bfloat16: where that was asked for, and the processor multiplies them.
    fn rounds_to_bf16(&self) -> bool {
        matches!(self.precision(), Precision::Bf16 | Precision::Int8) && self.processor.isa().multiplies_bf16()
    }

    /// A tensor whose memory `fill` writes, all of it.
    pub(crate) fn tensor(&self, shape: impl Into<Shape>, fill: impl FnOnce(&mut [f32])) -> Tensor {
        let shape = shape.into();
        let buffer = self.processor.filled(shape.count(), fill);
        Tensor::new(shape, Storage::Cpu(buffer, Arc::clone(self.processor.memory())))
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu::new()
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.instruction_set(), self.threads())
    }
}

/// The values of a tensor.
fn values(tensor: &Tensor) -> &[f32] {
    tensor.storage().cpu().as_slice()
}
