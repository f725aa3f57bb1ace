//! An NVIDIA GPU: products by cuBLASLt, everything else by kernels of our own, all in one stream.
//!
//! Nothing of CUDA is needed to build this; the libraries are loaded when a device is opened ([`api`]). Kernels
//! (`kernels/*.cu`) are compiled for the card when they are first used, and kept on disk. Each file here is the counterpart
//! of one of the traits in [`backend`](super::backend).
//!
//! In the precisions `bf16` and `f16`, tokens and feature maps are stored in 16 bits and everything else in 32
//! ([`memory::Element`]). Sums, norms, softmax, optimizers and parameters in training are always in 32 bits.
//!
//! The same inputs give the same bits on the same card with the same libraries, as long as products are computed in the
//! same way: what is chosen by measuring is kept ([`matmul`]).

mod api;
mod attention;
mod cache;
mod choices;
mod conversions;
mod convolution;
mod elements;
mod gate;
mod heads;
mod heap;
mod images;
mod launch;
mod losses;
mod matmul;
pub(super) mod memory;
mod muon;
mod norms;
mod parameters;
pub(crate) mod peers;
mod positions;
mod products;
pub(crate) mod recording;
mod runs;
mod sources;
mod staging;
mod step;
mod tensors;
mod tokens;
mod transfers;
mod updates;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use api::compiler::Compiler;
use api::driver::{Driver, Plain, Refused, Staging, bytes_of};
use choices::Multiplier;
use gate::{give_up, is_recording};
use heap::{Heap, locked};
use memory::{Element, Memory};
use runs::RunTable;
use sources::Kernels;

use super::backend::Backend;
use super::error::DeviceError;
use super::storage::{FlatBuffer, Storage};
use crate::precision::Precision;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// An NVIDIA GPU. Clones mean the same device.
#[derive(Clone)]
pub struct Cuda {
    inner: Arc<Inner>,
    precision: Precision,
}

struct Inner {
    heap: Arc<Heap>,
    /// Where NVIDIA's libraries are looked for first.
    folder: Option<PathBuf>,
    compiler: Compiler,
    multiplier: Mutex<Multiplier>,
    kernels: Mutex<Kernels>,
    /// Pinned memory that uploads go through.
    staging: Mutex<Staging>,
    tables: Mutex<Tables>,
    /// The table of an optimizer step, kept from step to step.
    runs: Mutex<Option<RunTable>>,
}

impl std::ops::Deref for Inner {
    type Target = Heap;

    fn deref(&self) -> &Heap {
        &self.heap
    }
}

impl Backend for Cuda {}

/// Tables that are kept on the card at most, besides those that recordings read.
const MOST_TABLES: usize = 32;

/// Tables that passes need again and again.
#[derive(Default)]
struct Tables {
    /// Their bytes, and where they are; the last used at the end.
    kept: Vec<(Vec<u8>, Memory)>,
    /// What the pass reads that is recorded now, and its replays will.
    recorded: Vec<Memory>,
}

impl Cuda {
    /// Opens a card, the first being 0, in 32 bits. NVIDIA's libraries are looked for in `folder` first.
    ///
    /// # Errors
    /// If there is no such card, no driver, one that is too old, no cuBLASLt or no NVRTC.
    pub fn open(ordinal: usize, folder: Option<&Path>) -> Result<Self, DeviceError> {
        let driver = Driver::open(ordinal, folder).map_err(|fault| {
            let device = format!("cuda:{ordinal}");
            match fault {
                Refused::Absent(reason) => DeviceError::Absent { device, reason },
                Refused::Unusable(reason) => DeviceError::Unusable { device, reason },
            }
        })?;
        Cuda::with_driver(Arc::new(driver), (ordinal, folder), false)
    }

    /// A rehearsal of what is done on this card: it takes memory as the card would, but holds none, and computes nothing.
    pub(in crate::device) fn rehearsal(&self) -> Result<Self, DeviceError> {
        let card = (self.inner.ordinal(), self.inner.folder.as_deref());
        let rehearsal = Cuda::with_driver(Arc::clone(&self.inner.driver), card, true)?;
        Ok(rehearsal.with_precision(self.precision))
    }

    fn with_driver(
        driver: Arc<Driver>,
        (ordinal, folder): (usize, Option<&Path>),
        rehearses: bool,
    ) -> Result<Self, DeviceError> {
        let missing = |reason| DeviceError::Unusable { device: format!("cuda:{ordinal}"), reason };
        let compiler = Compiler::open(driver.version, folder).map_err(missing)?;
        let multiplier = Multiplier::open(&driver, folder).map_err(missing)?;
        let inner = Inner {
            heap: Arc::new(Heap::new(driver, ordinal, rehearses)),
            folder: folder.map(Path::to_owned),
            compiler,
            multiplier: Mutex::new(multiplier),
            kernels: Mutex::default(),
            staging: Mutex::default(),
            tables: Mutex::default(),
            runs: Mutex::default(),
        };
        Ok(Cuda { inner: Arc::new(inner), precision: Precision::F32 })
    }

    /// The precisions that products can be computed in.
    pub const PRECISIONS: &[Precision] = &[Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];

    /// The same device, computing in another precision. One of [`Cuda::PRECISIONS`].
    #[must_use]
    pub(crate) fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The card's name, as its driver has it.
    pub fn card(&self) -> &str {
        &self.inner.driver.name
    }

    /// Its compute capability, as in `9.0`.
    pub fn capability(&self) -> String {
        let capability = self.inner.driver.capability;
        format!("{}.{}", capability / 10, capability % 10)
    }

    /// How many downloads there were from the device.
    pub fn downloads(&self) -> usize {
        self.inner.downloads()
    }

    /// How many times memory was asked for.
    pub fn allocations(&self) -> usize {
        locked(&self.inner.pool).allocations
    }

    /// Bytes that are free on the card, and all that it has.
    ///
    /// # Errors
    /// If the card does not answer.
    pub fn memory(&self) -> Result<[usize; 2], DeviceError> {
        let [free, total] = self.inner.driver.memory().map_err(|failure| self.inner.error(&failure))?;
        let pool = locked(&self.inner.pool);
        Ok([free + pool.held.saturating_sub(pool.used), total])
    }

    /// Bytes that a run from the beginning would have in place of this one: what is free, and what is kept whoever uses the
    /// device, as room for products and for uploads.
    pub(in crate::device) fn room(&self) -> Result<usize, DeviceError> {
        let [free, _] = self.memory()?;
        let workspace = locked(&self.inner.multiplier).workspace.as_ref().map_or(0, Memory::held);
        let slots = &locked(&self.inner.staging).slots;
        Ok(free + workspace + slots.iter().flatten().map(|slot| slot.pinned.len()).sum::<usize>())
    }

    /// The most bytes that tensors and what is kept for reuse ever took on the card.
    pub fn peak_memory(&self) -> usize {
        locked(&self.inner.pool).peak
    }

    /// The error that sticks, if there is one.
    pub(in crate::device) fn check(&self) -> Result<(), DeviceError> {
        self.inner.fault().map_or(Ok(()), Err)
    }

    /// Waits until everything that was queued is done.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    pub fn wait(&self) -> Result<(), DeviceError> {
        if let Some(fault) = self.inner.fault() {
            return Err(fault);
        }
        if self.inner.rehearses() {
            return Ok(());
        }
        if is_recording() {
            give_up();
            return Ok(());
        }
        let _entered = self.inner.enter();
        self.inner.driver.wait().map_err(|failure| {
            self.inner.fail_with(&failure);
            self.inner.error(&failure)
        })
    }

    /// Whether tokens are in 16 bits.
    fn is_half(&self) -> bool {
        self.operand() != Element::F32
    }

    fn tensor(shape: impl Into<Shape>, memory: Memory) -> Tensor {
        Tensor::new(shape, Storage::Cuda(memory))
    }

    /// Fresh memory, whose values are anything.
    fn allocate(&self, element: Element, count: usize) -> Memory {
        Memory::new(&self.inner.heap, element, count)
    }

    /// Memory with a copy of values.
    fn uploaded(&self, values: &[f32]) -> Memory {
        let memory = self.allocate(Element::F32, values.len());
        memory.write(0, values);
        memory
    }

    /// Memory with a table that every pass needs again: the same memory for the same values, without another copy. A pass
    /// that copies nothing can be recorded.
    fn table<T: Plain>(&self, values: &[T]) -> Memory {
        let bytes = bytes_of(values);
        // Before the lock, for which a thread that records may wait.
        let _entered = self.inner.enter();
        let mut tables = locked(&self.inner.tables);
        if let Some(at) = tables.kept.iter().position(|(known, _)| known == bytes) {
            // What is used stays.
            let found = tables.kept.remove(at);
            let memory = found.1.clone();
            tables.kept.push(found);
            if is_recording() {
                tables.recorded.push(memory.clone());
            }
            return memory;
        }
        let memory = self.allocate(Element::F32, bytes.len().div_ceil(4));
        self.inner.upload(memory.address(0), bytes);
        // While recording nothing was copied: the next pass has to.
        if !is_recording() {
            if tables.kept.len() == MOST_TABLES {
                tables.kept.remove(0);
            }
            tables.kept.push((bytes.to_vec(), memory.clone()));
        }
        memory
    }

    /// Memory with a copy of 32-bit words that are not values: indices, tables.
    fn words(&self, words: &[u32]) -> Memory {
        let memory = self.allocate(Element::F32, words.len());
        self.inner.upload(memory.address(0), bytes_of(words));
        memory
    }

    fn zeroed(&self, element: Element, count: usize) -> Memory {
        let memory = self.allocate(element, count);
        self.clear_memory(&memory);
        memory
    }

    fn clear_memory(&self, memory: &Memory) {
        if memory.len() > 0 {
            self.inner.run(|driver| driver.clear(memory.address(0), memory.bytes()));
        }
    }

    /// What a tensor of this shape is made of: tokens and feature maps are in 16 bits where the precision has 16 bits,
    /// whatever has fewer than three extents (pooled features, logits, losses) in 32.
    fn element_of(&self, shape: &Shape) -> Element {
        if shape.len() >= 3 { self.operand() } else { Element::F32 }
    }

    /// What products take: 16 bits in the precisions that have them.
    fn operand(&self) -> Element {
        match self.precision {
            Precision::Bf16 => Element::Bf16,
            Precision::F16 => Element::F16,
            _ => Element::F32,
        }
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.inner.name())
    }
}

/// The memory of a tensor.
fn stored(tensor: &Tensor) -> &Memory {
    tensor.storage().cuda()
}

/// The memory that gradients of parameters are added to.
fn gradient_memory(buffer: &mut FlatBuffer) -> &Memory {
    &buffer.cuda().memory
}
