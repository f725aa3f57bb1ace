//! The card's memory as blocks that are given back to a pool, which gives them out again in the order of the stream; and the
//! fault that sticks.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::api::driver::{Address, Driver, Failure};
use super::gate::{Entered, Gate, give_up, is_given_up, is_recording};
use crate::device::error::DeviceError;

/// Locks, also after a panic elsewhere: what is behind these locks is never left half done.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A card: its driver, its memory, and what went wrong.
pub(super) struct Heap {
    pub(super) driver: Arc<Driver>,
    pub(super) pool: Mutex<Pool>,
    pub(super) gate: Gate,
    ordinal: usize,
    faulty: AtomicBool,
    fault: Mutex<Option<DeviceError>>,
    downloads: AtomicUsize,
    /// Where the next memory of a rehearsal is said to be; nothing if this is none.
    imagined: Option<AtomicU64>,
}

pub(super) struct Block {
    pub(super) address: Address,
    bytes: usize,
    pub(super) heap: Arc<Heap>,
}

impl Block {
    /// Bytes of the card that it takes.
    pub(super) fn held(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.address != 0 {
            let mut pool = locked(&self.heap.pool);
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

impl Heap {
    pub(super) fn name(&self) -> String {
        format!("cuda:{} ({})", self.ordinal, self.driver.name)
    }

    /// Of a card; of a rehearsal, memory is counted and nothing happens.
    pub(super) fn new(driver: Arc<Driver>, ordinal: usize, rehearses: bool) -> Self {
        Heap {
            driver,
            pool: Mutex::default(),
            gate: Gate::default(),
            ordinal,
            faulty: AtomicBool::new(false),
            fault: Mutex::default(),
            downloads: AtomicUsize::new(0),
            // Aligned as the driver's.
            imagined: rehearses.then(|| AtomicU64::new(1 << 32)),
        }
    }

    pub(super) fn ordinal(&self) -> usize {
        self.ordinal
    }

    pub(super) fn rehearses(&self) -> bool {
        self.imagined.is_some()
    }

    /// How many downloads there were.
    pub(super) fn downloads(&self) -> usize {
        self.downloads.load(Ordering::Relaxed)
    }

    /// Waits while another thread records.
    pub(super) fn enter(&self) -> Entered<'_> {
        self.gate.enter()
    }

    /// The error that sticks, if there is one.
    pub(super) fn fault(&self) -> Option<DeviceError> {
        if !self.faulty.load(Ordering::Acquire) {
            return None;
        }
        locked(&self.fault).clone()
    }

    pub(super) fn fail(&self, error: DeviceError) {
        locked(&self.fault).get_or_insert(error);
        self.faulty.store(true, Ordering::Release);
    }

    pub(super) fn error(&self, failure: &Failure) -> DeviceError {
        DeviceError::Failed { device: self.name(), reason: failure.text.clone() }
    }

    pub(super) fn unusable(&self, reason: String) -> DeviceError {
        DeviceError::Unusable { device: self.name(), reason }
    }

    pub(super) fn fail_with(&self, failure: &Failure) {
        self.fail(self.error(failure));
    }

    /// Queues work, unless there was a fault.
    pub(super) fn run(&self, work: impl FnOnce(&Driver) -> Result<(), Failure>) {
        let _entered = self.enter();
        if self.fault().is_none()
            && !self.rehearses()
            && !is_given_up()
            && let Err(failure) = work(&self.driver)
        {
            self.fail_with(&failure);
        }
    }

    pub(super) fn download(&self, from: Address, to: &mut [u8]) -> Result<(), DeviceError> {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        if to.is_empty() || self.rehearses() {
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

impl Heap {
    /// Copies from the host. While a pass is recorded nothing is copied, and the recording is given up: a replay would
    /// read memory of the host that is gone.
    pub(super) fn upload(&self, to: Address, bytes: &[u8]) {
        if is_recording() {
            return give_up();
        }
        self.run(|driver| driver.upload(to, bytes));
    }

    /// A block. If there is no memory left, an error sticks, and the block is empty.
    pub(super) fn block(self: &Arc<Self>, bytes: usize) -> Arc<Block> {
        let bytes = rounded(bytes);
        let empty = || Arc::new(Block { address: 0, bytes: 0, heap: Arc::clone(self) });
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
                Arc::new(Block { address, bytes, heap: Arc::clone(self) })
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
    pub(super) fn fresh(&self, pool: &mut Pool, bytes: usize) -> Result<Address, Failure> {
        let mut made = match &self.imagined {
            Some(next) => Ok(next.fetch_add(bytes.next_multiple_of(512) as u64, Ordering::Relaxed)),
            None => self.driver.allocate(bytes),
        };
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

    pub(super) fn fail_to_allocate(&self, failure: &Failure, asked: usize, used: usize) {
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

    /// Gives memory of [`Heap::kept_memory`] back to the driver, once nothing uses it.
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
