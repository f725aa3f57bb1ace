//! A GPU of NVIDIA's: products by cuBLASLt, everything else by kernels of our own, all in one stream.
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
mod convolution;
mod elements;
mod heads;
mod images;
mod launch;
mod losses;
mod matmul;
pub(super) mod memory;
mod muon;
mod norms;
mod positions;
mod products;
mod recording;
mod tokens;
mod transfers;
mod updates;

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use api::compiler::Compiler;
use api::driver::{Address, Driver, Failure, Refused};
use launch::Kernels;
use matmul::Multiplier;
use memory::{CudaFlat, CudaWeight, Element, Memory, Pool};

use super::backend::Backend;
use super::error::DeviceError;
use super::storage::{FlatBuffer, ParameterView, Place, Storage, Weight};
use crate::dtype::DType;
use crate::precision::Precision;
use crate::shape::Shape;
use crate::tensor::Tensor;

use recording::{give_up, is_given_up, is_recording};

pub use recording::Replays;

/// A GPU of NVIDIA's. Clones mean the same device.
#[derive(Clone)]
pub struct Cuda {
    inner: Arc<Inner>,
    precision: Precision,
}

struct Inner {
    driver: Driver,
    compiler: Compiler,
    multiplier: Mutex<Multiplier>,
    kernels: Mutex<Kernels>,
    pool: Mutex<Pool>,
    /// Pinned memory that uploads go through.
    staging: Mutex<transfers::Staging>,
    /// Tables that passes need again and again, the last used at the end: their bytes, and where they are.
    tables: Mutex<Vec<(Vec<u8>, Memory)>>,
    /// The table of an optimizer step, kept from step to step.
    runs: Mutex<Option<updates::RunTable>>,
    /// Held by all work, and alone by a thread that records: what other threads queued meanwhile would be recorded too.
    gate: RwLock<()>,
    ordinal: usize,
    faulty: AtomicBool,
    fault: Mutex<Option<DeviceError>>,
    downloads: AtomicUsize,
}

impl Backend for Cuda {}

/// Locks, also after a panic elsewhere: what is behind these locks is never left half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn name(&self) -> String {
        format!("cuda:{} ({})", self.ordinal, self.driver.name)
    }

    /// The error that sticks, if there is one.
    fn fault(&self) -> Option<DeviceError> {
        if !self.faulty.load(Ordering::Acquire) {
            return None;
        }
        locked(&self.fault).clone()
    }

    fn fail(&self, error: DeviceError) {
        locked(&self.fault).get_or_insert(error);
        self.faulty.store(true, Ordering::Release);
    }

    fn error(&self, failure: &Failure) -> DeviceError {
        DeviceError::Failed { device: self.name(), reason: failure.text.clone() }
    }

    fn unusable(&self, reason: String) -> DeviceError {
        DeviceError::Unusable { device: self.name(), reason }
    }

    fn fail_with(&self, failure: &Failure) {
        self.fail(self.error(failure));
    }

    /// Queues work, unless there was a fault.
    fn run(&self, work: impl FnOnce(&Driver) -> Result<(), Failure>) {
        let _entered = self.enter();
        if self.fault().is_none()
            && !is_given_up()
            && let Err(failure) = work(&self.driver)
        {
            self.fail_with(&failure);
        }
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<(), DeviceError> {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        if to.is_empty() {
            return Ok(());
        }
        if is_recording() {
            // There is nothing to wait for yet. What the pass makes of zeros is not used.
            give_up();
            return Ok(());
        }
        let _entered = self.enter();
        self.driver.download(from, to).map_err(|failure| {
            self.fail_with(&failure);
            self.fault().unwrap_or_else(|| self.error(&failure))
        })
    }
}

impl Cuda {
    /// Opens a card, the first being 0, in 32 bits. NVIDIA's libraries are looked for in `folder` first.
    ///
    /// # Errors
    /// If there is no such card, no driver, one that is too old, no cuBLASLt or no NVRTC.
    pub fn open(ordinal: usize, folder: Option<&Path>) -> Result<Self, DeviceError> {
        let missing = |reason| DeviceError::Unusable { device: format!("cuda:{ordinal}"), reason };
        let driver = Driver::open(ordinal, folder).map_err(|fault| match fault {
            Refused::Absent(reason) => DeviceError::Absent { device: format!("cuda:{ordinal}"), reason },
            Refused::Unusable(reason) => missing(reason),
        })?;
        let compiler = Compiler::open(driver.version, folder).map_err(missing)?;
        let multiplier = Multiplier::open(&driver, folder).map_err(missing)?;
        let inner = Inner {
            driver,
            compiler,
            multiplier: Mutex::new(multiplier),
            kernels: Mutex::default(),
            pool: Mutex::default(),
            staging: Mutex::default(),
            tables: Mutex::default(),
            runs: Mutex::default(),
            gate: RwLock::new(()),
            ordinal,
            faulty: AtomicBool::new(false),
            fault: Mutex::default(),
            downloads: AtomicUsize::new(0),
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
        self.inner.downloads.load(Ordering::Relaxed)
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

    /// The most bytes that tensors and what is kept for reuse ever took on the card.
    pub fn peak_memory(&self) -> usize {
        locked(&self.inner.pool).peak
    }

    /// Waits until everything that was queued is done.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    pub fn wait(&self) -> Result<(), DeviceError> {
        if let Some(fault) = self.inner.fault() {
            return Err(fault);
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

    pub(super) fn upload(&self, shape: Shape, values: &[f32]) -> Result<Tensor, DeviceError> {
        let tensor = self.constant(shape, values);
        self.inner.fault().map_or(Ok(tensor), Err)
    }

    pub(super) fn constant(&self, shape: Shape, values: &[f32]) -> Tensor {
        let memory = self.allocate(Element::F32, values.len());
        self.stage(&memory, values);
        Tensor::new(shape, Storage::Cuda(memory))
    }

    pub(super) fn flat_zeros(&self, length: usize) -> CudaFlat {
        CudaFlat::new(self.zeroed(Element::F32, length))
    }

    /// A parameter that does not change: a matrix as it is multiplied, anything else in 32 bits.
    pub(super) fn prepare(&self, values: &[f32], is_matrix: bool, dtype: DType) -> CudaWeight {
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
        Cuda::tensor(x.shape(), self.as_element(stored(x), self.element_of(&x.shape())))
    }

    /// Gives unused memory back to the driver.
    pub(super) fn trim(&self) {
        if is_recording() {
            return give_up();
        }
        // Before the pool is locked, for which a thread that records may wait.
        let _entered = self.inner.enter();
        self.inner.release(&mut locked(&self.inner.pool));
    }

    fn tensor(shape: impl Into<Shape>, memory: Memory) -> Tensor {
        Tensor::new(shape, Storage::Cuda(memory))
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

/// A parameter: 32-bit values or a matrix as it is multiplied, and where it begins in its memory.
#[derive(Clone, Copy)]
struct Parameter<'a> {
    place: Where<'a>,
    start: usize,
    count: usize,
}

#[derive(Clone, Copy)]
enum Where<'a> {
    Flat(&'a CudaFlat),
    Prepared(&'a CudaWeight),
}

impl<'a> Parameter<'a> {
    fn of(view: ParameterView<'a>) -> Self {
        let count = view.count();
        match view.place {
            Place::Flat(buffer, start) => Parameter { place: Where::Flat(buffer.cuda()), start, count },
            Place::Prepared(Weight::Cuda(weight)) => Parameter { place: Where::Prepared(weight), start: 0, count },
            Place::Prepared(_) => panic!("a weight of another device given to the GPU"),
        }
    }

    /// Its values in 32 bits, and where they begin.
    fn wide(&self, cuda: &Cuda) -> (Memory, usize) {
        match self.place {
            Where::Flat(flat) => (flat.memory.clone(), self.start),
            Where::Prepared(weight) => (cuda.wide(&weight.memory), 0),
        }
    }

    /// Its values in an element, and where they begin.
    fn as_element(&self, cuda: &Cuda, element: Element) -> (Memory, usize) {
        match (element, self.place) {
            (Element::F32, _) => self.wide(cuda),
            (_, Where::Flat(flat)) => (flat.half(cuda), self.start),
            (_, Where::Prepared(weight)) if weight.memory.is_half() => (cuda.as_element(&weight.memory, element), 0),
            (_, Where::Prepared(weight)) => (cuda.as_element(weight.half(cuda), element), 0),
        }
    }
}

/// The values of a parameter that may not be there, in 32 bits, copied out if they do not begin their memory.
fn gradient_memory(buffer: &mut FlatBuffer) -> &Memory {
    &buffer.cuda().memory
}
