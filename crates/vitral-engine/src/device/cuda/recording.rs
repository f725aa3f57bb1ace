//! Passes that are recorded once and replayed (CUDA graphs): small batches are bound by the time that launches take.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use super::api::driver::{Address, Recorded};
use super::memory::{Element, Memory};
use super::{Cuda, Inner, locked, stored};
use crate::device::Device;
use crate::precision::Precision;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Inputs of more values are not worth it: their kernels take longer than their launches.
const MOST_VALUES: usize = 64 * 3 * 224 * 224;
/// Recordings of one model; each keeps the memory that its pass needs.
const MOST_RECORDINGS: usize = 8;

thread_local! {
    /// Whether this thread records a pass.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
    /// How often this thread has entered the gate of a device.
    static ENTERED: Cell<usize> = const { Cell::new(0) };
}

/// Whether this thread records a pass.
pub(super) fn is_recording() -> bool {
    RECORDING.get()
}

/// A thread at work on a device.
pub(super) struct Entered<'a> {
    _gate: Option<RwLockReadGuard<'a, ()>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        ENTERED.set(ENTERED.get() - 1);
    }
}

impl Inner {
    /// Waits while another thread records. A thread that is inside already goes on.
    pub(super) fn enter(&self) -> Entered<'_> {
        let first = ENTERED.replace(ENTERED.get() + 1) == 0;
        let gate = || self.gate.read().unwrap_or_else(PoisonError::into_inner);
        Entered { _gate: (first && !is_recording()).then(gate) }
    }
}

/// The only thread at work on a device, which records.
struct Alone<'a> {
    _gate: RwLockWriteGuard<'a, ()>,
}

impl<'a> Alone<'a> {
    fn enter(inner: &'a Inner) -> Self {
        let gate = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
        RECORDING.set(true);
        Alone { _gate: gate }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        RECORDING.set(false);
    }
}

/// Passes of one model that a device has recorded, by the shape of their input. On devices that record nothing it stays
/// empty.
#[derive(Debug, Default)]
pub struct Replays(Mutex<HashMap<(Shape, Precision), State>>);

enum State {
    /// The pass ran once: kernels are compiled and products chosen.
    Seen,
    Recorded(Recording),
    /// The pass does what cannot be recorded.
    Refused,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Seen => "Seen",
            State::Recorded(_) => "Recorded",
            State::Refused => "Refused",
        })
    }
}

/// A recorded pass, with all the memory that it reads and writes.
struct Recording {
    recorded: Recorded,
    input: Memory,
    outputs: Vec<Tensor>,
    /// Blocks that the pass uses in between.
    blocks: BTreeMap<usize, Vec<Address>>,
    inner: Arc<Inner>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.inner.run(|driver| driver.forget(&self.recorded));
        give_back(&self.inner, std::mem::take(&mut self.blocks));
    }
}

/// Puts blocks into the pool that everybody uses.
fn give_back(inner: &Inner, blocks: BTreeMap<usize, Vec<Address>>) {
    let mut pool = locked(&inner.pool);
    for (bytes, addresses) in blocks {
        pool.free.entry(bytes).or_default().extend(addresses);
    }
}

impl Device {
    /// Runs a pass `input` to tensors, which must be the same operations whenever the shape of the input is: a GPU records
    /// small ones when they come for the second time, and replays the recording from then on. Other devices just run it.
    ///
    /// # Errors
    /// Whatever the pass gives.
    pub fn replayed<E>(
        &self,
        replays: &Replays,
        input: &Tensor,
        pass: impl Fn(&Tensor) -> Result<Vec<Tensor>, E>,
    ) -> Result<Vec<Tensor>, E> {
        match self {
            Device::Cuda(cuda) if input.shape().count() <= MOST_VALUES => cuda.replayed(replays, input, pass),
            _ => pass(input),
        }
    }
}

impl Cuda {
    fn replayed<E>(
        &self,
        replays: &Replays,
        input: &Tensor,
        pass: impl Fn(&Tensor) -> Result<Vec<Tensor>, E>,
    ) -> Result<Vec<Tensor>, E> {
        let mut states = locked(&replays.0);
        let (key, room) = ((input.shape(), self.precision), states.len() < MOST_RECORDINGS);
        match states.get(&key) {
            None => {
                if room {
                    states.insert(key, State::Seen);
                }
                drop(states);
                return pass(input);
            }
            Some(State::Refused) => {
                drop(states);
                return pass(input);
            }
            Some(State::Seen) => {
                let state = self.record(input, &pass)?.map_or(State::Refused, State::Recorded);
                states.insert(key, state);
            }
            Some(State::Recorded(_)) => {}
        }
        let Some(State::Recorded(recording)) = states.get(&key) else {
            drop(states);
            return pass(input);
        };
        let from = self.wide(stored(input));
        self.inner.run(|driver| {
            driver.copy(recording.input.address(0), from.address(0), from.bytes())?;
            driver.replay(&recording.recorded)
        });
        // The next replay writes to the same memory.
        let copied = |tensor: &Tensor| Cuda::tensor(tensor.shape(), self.copied(stored(tensor)));
        Ok(recording.outputs.iter().map(copied).collect())
    }

    /// Records a pass; nothing if it cannot be.
    fn record<E>(
        &self,
        input: &Tensor,
        pass: impl Fn(&Tensor) -> Result<Vec<Tensor>, E>,
    ) -> Result<Option<Recording>, E> {
        let memory = self.allocate(Element::F32, input.shape().count());
        let own = Cuda::tensor(input.shape(), memory.clone());
        if self.inner.fault().is_some() || self.inner.driver.wait().is_err() {
            return Ok(None);
        }
        let alone = Alone::enter(&self.inner);
        // Blocks that come and go while recording belong to the recording: replays write to them.
        let others = {
            let mut pool = locked(&self.inner.pool);
            pool.unfit = false;
            std::mem::take(&mut pool.free)
        };
        let began = self.inner.driver.begin_recording();
        let outputs = match &began {
            Ok(()) => pass(&own).map(Some),
            Err(_) => Ok(None),
        };
        let ended = began.and_then(|()| self.inner.driver.end_recording());
        let (blocks, unfit) = {
            let mut pool = locked(&self.inner.pool);
            (std::mem::replace(&mut pool.free, others), pool.unfit)
        };
        drop(alone);
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(error) => {
                give_back(&self.inner, blocks);
                return Err(error);
            }
        };
        match (outputs, ended) {
            (Some(outputs), Ok(recorded)) => {
                let recording =
                    Recording { recorded, input: memory, outputs, blocks, inner: Arc::clone(&self.inner) };
                // What copies from the host cannot be replayed: that memory is gone.
                Ok((!unfit).then_some(recording))
            }
            _ => {
                give_back(&self.inner, blocks);
                Ok(None)
            }
        }
    }
}
