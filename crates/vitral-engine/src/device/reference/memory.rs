//! Memory that cannot be borrowed, and work that waits in a queue.
//!
//! What would break on a GPU breaks here: a tensor is an index into a table, work is queued and runs when somebody
//! waits for it, fresh memory is poisoned, an allocation can be made to fail, and a fault sticks. Values are kept in
//! double precision.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::error::DeviceError;

/// What fresh memory holds: it must not be read before it is written.
const POISON: f64 = f64::NAN;

type Task = Box<dyn FnOnce(&mut Table) + Send>;

/// A device's memory and queue.
#[derive(Default)]
pub(super) struct Heap {
    state: Mutex<State>,
    downloads: AtomicUsize,
}

#[derive(Default)]
struct State {
    table: Table,
    queue: Vec<Task>,
    fault: Option<DeviceError>,
    next: u64,
    /// Allocations until one fails, if one is to.
    until_failure: Option<usize>,
    /// Numbers in use.
    used: usize,
}

/// Numbers by their place.
#[derive(Default)]
pub(super) struct Table(HashMap<u64, Vec<f64>>);

impl Table {
    fn get(&self, id: u64) -> &[f64] {
        self.0.get(&id).expect("memory that an operation still needs was given back")
    }
}

/// Memory of the device. Clones share it; it is freed when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Owned>);

struct Owned {
    id: u64,
    length: usize,
    heap: Arc<Heap>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        let id = self.id;
        let mut state = self.heap.state();
        state.used -= self.length;
        // Work that was queued before may still read it.
        state.queue.push(Box::new(move |table| {
            table.0.remove(&id);
        }));
    }
}

impl Heap {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many times memory was asked for.
    pub(super) fn allocations(&self) -> usize {
        self.state().next as usize
    }

    /// How many downloads there were.
    pub(super) fn downloads(&self) -> usize {
        self.downloads.load(Ordering::Relaxed)
    }

    /// Makes the allocation after so many more fail.
    pub(super) fn fail_after(&self, allocations: usize) {
        self.state().until_failure = Some(allocations);
    }

    /// Poisoned memory; if there is none left, an error sticks.
    pub(super) fn allocate(self: &Arc<Self>, length: usize) -> Memory {
        let mut state = self.state();
        let fails = match &mut state.until_failure {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if fails && state.fault.is_none() {
            let (asked, used) = (8 * length, 8 * state.used);
            state.fault = Some(DeviceError::OutOfMemory { device: "the reference device".into(), asked, used });
        }
        state.used += length;
        let id = state.next;
        state.next += 1;
        state.queue.push(Box::new(move |table| {
            table.0.insert(id, vec![POISON; length]);
        }));
        Memory(Arc::new(Owned { id, length, heap: Arc::clone(self) }))
    }

    /// Queues work that reads some memory and writes other memory, all of it or some of it.
    pub(super) fn launch<const R: usize, const W: usize>(
        &self,
        reads: [&Memory; R],
        writes: [&Memory; W],
        work: impl FnOnce([&[f64]; R], [&mut [f64]; W]) + Send + 'static,
    ) {
        let (reads, writes) = (reads.map(|memory| memory.0.id), writes.map(|memory| memory.0.id));
        self.state().queue.push(Box::new(move |table| {
            // Taken out, so that they can be written while others are read.
            let mut taken = writes.map(|id| table.0.remove(&id).expect("memory to write to"));
            work(reads.map(|id| table.get(id)), taken.each_mut().map(Vec::as_mut_slice));
            for (id, numbers) in writes.into_iter().zip(taken) {
                table.0.insert(id, numbers);
            }
        }));
    }

    /// The error that sticks, if there is one.
    pub(super) fn fault(&self) -> Option<DeviceError> {
        self.state().fault.clone()
    }
}

impl Memory {
    pub(crate) fn len(&self) -> usize {
        self.0.length
    }

    /// Queues a write from a place on.
    pub(crate) fn write(&self, start: usize, values: &[f32]) {
        let values: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        self.0.heap.launch([], [self], move |[], [out]| out[start..start + values.len()].copy_from_slice(&values));
    }

    /// Runs the queued work and copies the values.
    pub(crate) fn download(&self) -> Result<Vec<f32>, DeviceError> {
        Ok(self.wait()?.into_iter().map(|x| x as f32).collect())
    }

    /// As [`Memory::download`], in double precision.
    pub(crate) fn wait(&self) -> Result<Vec<f64>, DeviceError> {
        self.0.heap.downloads.fetch_add(1, Ordering::Relaxed);
        let mut state = self.0.heap.state();
        let queue = std::mem::take(&mut state.queue);
        if let Some(fault) = &state.fault {
            // What is queued is not to be trusted any more.
            return Err(fault.clone());
        }
        for task in queue {
            task(&mut state.table);
        }
        Ok(state.table.get(self.0.id).to_vec())
    }
}
