//! The card's memory: blocks that are given back to a pool, which gives them out again in the order of the stream.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use super::api::driver::{Address, Failure, Plain, bytes_of, bytes_of_mut};
use super::recording::{give_up, is_recording};
use super::{Cuda, Inner, locked};
use crate::device::error::DeviceError;
use crate::precision::Precision;
use crate::shape::Shape;

/// What the values of a tensor are on the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::device) enum Element {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half floats.
    F16,
}

impl Element {
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 | Element::F16 => 2,
        }
    }

    /// The precision whose tokens it is.
    fn precision(self) -> Precision {
        match self {
            Element::F32 => Precision::F32,
            Element::Bf16 => Precision::Bf16,
            Element::F16 => Precision::F16,
        }
    }

    /// The suffix of kernels for it.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Element::F32 => "f",
            Element::Bf16 | Element::F16 => "h",
        }
    }
}

/// Tables that are kept on the card at most.
const MOST_TABLES: usize = 32;

/// Values on the card. Clones share them; the block goes back to the pool when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Memory {
    block: Arc<Block>,
    pub(super) element: Element,
    count: usize,
}

struct Block {
    address: Address,
    bytes: usize,
    inner: Arc<Inner>,
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.address != 0 {
            let mut pool = locked(&self.inner.pool);
            pool.used -= self.bytes;
            pool.free.entry(self.bytes).or_default().push(self.address);
        }
    }
}

/// Blocks that nobody uses. All work is in one stream, so a block may be used again at once: what still reads it was queued
/// before.
#[derive(Default)]
pub(super) struct Pool {
    /// By size in bytes.
    pub(super) free: BTreeMap<usize, Vec<Address>>,
    /// Bytes in use.
    pub(super) used: usize,
    /// The most bytes that the pool ever held, in use or not.
    pub(super) peak: usize,
    pub(super) held: usize,
    pub(super) allocations: usize,
    /// While a pass is recorded: the blocks that were given out for it.
    pub(super) recorded: Option<HashSet<Address>>,
}

impl Pool {
    /// Ends a recording: blocks that it uses and that are free now belong to it, because replays write to them.
    pub(super) fn take_recorded(&mut self) -> BTreeMap<usize, Vec<Address>> {
        let recorded = self.recorded.take().unwrap_or_default();
        let mut taken = BTreeMap::new();
        for (&bytes, addresses) in &mut self.free {
            let (own, others): (Vec<_>, _) = addresses.drain(..).partition(|address| recorded.contains(address));
            *addresses = others;
            self.used += bytes * own.len();
            taken.insert(bytes, own);
        }
        taken
    }
}

/// Sizes are rounded up, so that tensors of nearly one size share blocks. Not in tests, where the emulator has to see what
/// is touched beyond a tensor.
fn rounded(bytes: usize) -> usize {
    if cfg!(test) {
        return bytes.max(1);
    }
    bytes.max(1).next_multiple_of(if bytes < 1 << 20 { 512 } else { 1 << 17 })
}

impl Memory {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.count * self.element.bytes()
    }

    /// Where a value is.
    pub(super) fn address(&self, index: usize) -> Address {
        self.block.address + (index * self.element.bytes()) as Address
    }

    pub(super) fn is_half(&self) -> bool {
        self.element != Element::F32
    }

    /// Copies the values to the host as 32-bit floats. Waits for the card.
    pub(crate) fn download(&self) -> Result<Vec<f32>, DeviceError> {
        let cuda = Cuda { inner: Arc::clone(&self.block.inner), precision: self.element.precision() };
        cuda.wide(self).read(0, self.count)
    }

    /// A part of 32-bit values. Waits for the card.
    pub(in crate::device) fn read(&self, start: usize, count: usize) -> Result<Vec<f32>, DeviceError> {
        assert!(!self.is_half() && start + count <= self.count, "{count} values from {start} on, of {}", self.count);
        let mut values = vec![0.0f32; count];
        self.block.inner.download(self.address(start), bytes_of_mut(&mut values))?;
        Ok(values)
    }

    /// Writes a part of 32-bit values.
    pub(in crate::device) fn write(&self, start: usize, values: &[f32]) {
        assert!(!self.is_half() && start + values.len() <= self.count, "{} values from {start} on", values.len());
        self.block.inner.upload(self.address(start), bytes_of(values));
    }
}

impl Inner {
    /// Copies from the host. While a pass is recorded nothing is copied, and the recording is given up: a replay would
    /// read memory of the host that is gone.
    fn upload(&self, to: Address, bytes: &[u8]) {
        if is_recording() {
            return give_up();
        }
        self.run(|driver| driver.upload(to, bytes));
    }

    /// A block. If there is no memory left, an error sticks, and the block is empty.
    fn block(self: &Arc<Self>, bytes: usize) -> Arc<Block> {
        let bytes = rounded(bytes);
        let empty = || Arc::new(Block { address: 0, bytes: 0, inner: Arc::clone(self) });
        if self.fault().is_some() {
            return empty();
        }
        let _entered = self.enter();
        let mut pool = locked(&self.pool);
        pool.allocations += 1;
        let kept = pool.free.get_mut(&bytes).and_then(Vec::pop);
        // What nobody has written since is not what it was.
        #[cfg(test)]
        let poisoned = kept;
        let found = match kept {
            Some(address) => {
                if let Some(recorded) = &mut pool.recorded {
                    recorded.insert(address);
                }
                Ok(address)
            }
            None if is_recording() => {
                give_up();
                return empty();
            }
            None => self.fresh(&mut pool, bytes),
        };
        match found {
            Ok(address) => {
                pool.used += bytes;
                drop(pool);
                #[cfg(test)]
                if poisoned.is_some() {
                    self.run(|driver| driver.fill(address, 0xff, bytes));
                }
                Arc::new(Block { address, bytes, inner: Arc::clone(self) })
            }
            Err(failure) => {
                let used = pool.used;
                drop(pool);
                self.fail_to_allocate(&failure, bytes, used);
                empty()
            }
        }
    }

    /// Memory from the driver, after what nobody uses was given back if that is needed.
    fn fresh(&self, pool: &mut Pool, bytes: usize) -> Result<Address, Failure> {
        let mut made = self.driver.allocate(bytes);
        if made.as_ref().is_err_and(|failure| failure.out_of_memory) {
            self.release(pool);
            made = self.driver.allocate(bytes);
        }
        if made.is_ok() {
            pool.held += bytes;
            pool.peak = pool.peak.max(pool.held);
        }
        made
    }

    fn fail_to_allocate(&self, failure: &Failure, asked: usize, used: usize) {
        if failure.out_of_memory {
            let free = self.driver.memory().map_or(0, |[free, _]| free);
            self.fail(DeviceError::OutOfDeviceMemory { device: self.name(), asked, used, free });
        } else {
            self.fail_with(failure);
        }
    }

    /// Memory that is never given back to the pool, or nothing after an error that sticks.
    pub(super) fn kept_memory(&self, bytes: usize) -> Option<Address> {
        if self.fault().is_some() {
            return None;
        }
        let _entered = self.enter();
        let mut pool = locked(&self.pool);
        let made = self.fresh(&mut pool, bytes);
        pool.used += if made.is_ok() { bytes } else { 0 };
        let used = pool.used;
        drop(pool);
        made.map_err(|failure| self.fail_to_allocate(&failure, bytes, used)).ok()
    }

    /// Gives memory of [`Inner::kept_memory`] back to the driver, once nothing uses it.
    pub(super) fn free_kept(&self, address: Address, bytes: usize) {
        let mut pool = locked(&self.pool);
        pool.used -= bytes;
        pool.held -= bytes;
        drop(pool);
        self.run(|driver| driver.free(address));
    }

    /// Gives every block that nobody uses back to the driver.
    pub(super) fn release(&self, pool: &mut Pool) {
        let free = std::mem::take(&mut pool.free);
        for (bytes, addresses) in free {
            pool.held -= bytes * addresses.len();
            for address in addresses {
                self.run(|driver| driver.free(address));
            }
        }
    }
}

impl Cuda {
    /// Fresh memory, whose values are anything.
    pub(super) fn allocate(&self, element: Element, count: usize) -> Memory {
        Memory { block: self.inner.block(count * element.bytes()), element, count }
    }

    /// Memory with a copy of values.
    pub(super) fn uploaded(&self, values: &[f32]) -> Memory {
        let memory = self.allocate(Element::F32, values.len());
        memory.write(0, values);
        memory
    }

    /// Memory with a table that every pass needs again: the same memory for the same values, without another copy. A pass
    /// that copies nothing can be recorded.
    pub(super) fn table<T: Plain>(&self, values: &[T]) -> Memory {
        let bytes = bytes_of(values);
        let mut tables = locked(&self.inner.tables);
        if let Some(at) = tables.iter().position(|(known, _)| known == bytes) {
            // What is used stays.
            let found = tables.remove(at);
            let memory = found.1.clone();
            tables.push(found);
            return memory;
        }
        let memory = self.allocate(Element::F32, bytes.len().div_ceil(4));
        self.inner.upload(memory.address(0), bytes);
        // While recording nothing was copied: the next pass has to.
        if !is_recording() {
            if tables.len() == MOST_TABLES {
                tables.remove(0);
            }
            tables.push((bytes.to_vec(), memory.clone()));
        }
        memory
    }

    /// Memory with a copy of 32-bit words that are not values: indices, tables.
    pub(super) fn words(&self, words: &[u32]) -> Memory {
        let memory = self.allocate(Element::F32, words.len());
        self.inner.upload(memory.address(0), bytes_of(words));
        memory
    }

    pub(super) fn zeroed(&self, element: Element, count: usize) -> Memory {
        let memory = self.allocate(element, count);
        self.clear_memory(&memory);
        memory
    }

    pub(super) fn clear_memory(&self, memory: &Memory) {
        if memory.len() > 0 {
            self.inner.run(|driver| driver.clear(memory.address(0), memory.bytes()));
        }
    }

    /// What a tensor of this shape is made of: tokens and feature maps are in 16 bits where the precision has 16 bits,
    /// whatever has fewer than three extents (pooled features, logits, losses) in 32.
    pub(super) fn element_of(&self, shape: &Shape) -> Element {
        if shape.len() >= 3 { self.operand() } else { Element::F32 }
    }
}

/// A parameter that does not change.
pub(crate) struct CudaWeight {
    /// As it is multiplied, or 32-bit values.
    pub(super) memory: Memory,
    /// The same in 16 bits, made when it is first needed.
    half: OnceLock<Memory>,
}

impl CudaWeight {
    pub(super) fn new(memory: Memory) -> Self {
        CudaWeight { memory, half: OnceLock::new() }
    }

    pub(in crate::device) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    pub(in crate::device) fn download(&self) -> Result<Vec<f32>, DeviceError> {
        self.memory.download()
    }

    pub(super) fn half(&self, cuda: &Cuda) -> &Memory {
        // Not while holding what a thread that records may wait for.
        let _entered = cuda.inner.enter();
        self.half.get_or_init(|| cuda.narrow(&self.memory))
    }
}

/// A flat buffer of 32-bit values, with a copy in 16 bits where products need one.
pub(crate) struct CudaFlat {
    pub(super) memory: Memory,
    /// The copy, and whether it is of the values as they are now.
    copy: Mutex<(Option<Memory>, bool)>,
}

impl CudaFlat {
    pub(super) fn new(memory: Memory) -> Self {
        CudaFlat { memory, copy: Mutex::new((None, false)) }
    }

    pub(in crate::device) fn len(&self) -> usize {
        self.memory.len()
    }

    pub(in crate::device) fn read(&self, range: std::ops::Range<usize>) -> Result<Vec<f32>, DeviceError> {
        self.memory.read(range.start, range.len())
    }

    pub(in crate::device) fn write(&mut self, start: usize, values: &[f32]) {
        self.memory.write(start, values);
        self.changed();
    }

    /// The values changed: the copy is of others.
    pub(super) fn changed(&self) {
        locked(&self.copy).1 = false;
    }

    /// All values in 16 bits.
    pub(super) fn half(&self, cuda: &Cuda) -> Memory {
        // Not while holding what a thread that records may wait for.
        let _entered = cuda.inner.enter();
        let mut copy = locked(&self.copy);
        let fits = copy.0.clone().filter(|memory| memory.element == cuda.operand());
        let made = fits.is_none();
        let memory = fits.unwrap_or_else(|| cuda.allocate(cuda.operand(), self.memory.len()));
        copy.0 = Some(memory.clone());
        if made || !copy.1 {
            cuda.narrow_into(&self.memory, &memory);
            copy.1 = true;
        }
        memory
    }

    /// The copy, to be written by whoever changes the values, if there is one that is up to date.
    pub(super) fn copy_to_update(&self) -> Option<Memory> {
        let copy = locked(&self.copy);
        copy.0.clone().filter(|_| copy.1)
    }
}
