//! Memory for tensors: aligned, recycled, never freed between operations of the same shape.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A cache line in values.
const LINE: usize = 16;

/// A run of `f32` that begins on a cache line.
pub(crate) struct Buffer {
    /// A little longer than needed, so that a line begins in it.
    memory: Vec<f32>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// `length` zeros. Large ones take no memory before they are written to.
    pub(crate) fn zeros(length: usize) -> Self {
        let memory = vec![0.0f32; length.next_multiple_of(LINE) + LINE];
        super::kernels::prefer_huge_pages(&memory);
        let start = memory.as_ptr().align_offset(4 * LINE).min(LINE);
        Buffer { memory, start, length }
    }

    /// How many values it holds.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// How many values fit without new memory.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.len() - LINE
    }

    /// Changes the length. The contents stay only where the memory does, and are unspecified beyond.
    pub(crate) fn set_len(&mut self, length: usize) {
        if length > self.capacity() {
            *self = Buffer::zeros(length);
        }
        self.length = length;
    }

    /// The values.
    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.memory[self.start..self.start + self.length]
    }

    /// The values, mutable.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// Buffers that were used and may be used again.
///
/// A buffer is free when the pool holds its only reference, so handing one out in the steady state of a forward pass
/// touches no allocator at all.
#[derive(Default)]
pub(crate) struct BufferPool {
    buffers: Mutex<Vec<Arc<Buffer>>>,
    downloads: AtomicUsize,
}

impl BufferPool {
    /// A buffer of this length with unspecified contents and one owner.
    pub(crate) fn take(&self, length: usize) -> Arc<Buffer> {
        let mut buffers = self.buffers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut best: Option<usize> = None;
        for (index, buffer) in buffers.iter().enumerate() {
            // Much larger buffers are left for those who need them.
            let fits = buffer.capacity() >= length && buffer.capacity() <= 2 * length + 4096;
            if fits
                && Arc::strong_count(buffer) == 1
                && best.is_none_or(|best| buffer.capacity() < buffers[best].capacity())
            {
                best = Some(index);
            }
        }
        let mut buffer = match best {
            Some(index) => buffers.swap_remove(index),
            None => Arc::new(Buffer::zeros(length)),
        };
        Arc::get_mut(&mut buffer).expect("a free buffer has one owner").set_len(length);
        buffer
    }

    /// Registers a buffer, so that it is found again when its last other owner lets go.
    pub(crate) fn register(&self, buffer: &Arc<Buffer>) {
        self.buffers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(Arc::clone(buffer));
    }

    /// Counts one copy of a tensor's values to the caller.
    pub(crate) fn count_download(&self) {
        self.downloads.fetch_add(1, Ordering::Relaxed);
    }

    /// How many such copies were made.
    pub(crate) fn downloads(&self) -> usize {
        self.downloads.load(Ordering::Relaxed)
    }

    /// Lets go of everything that is free.
    pub(crate) fn trim(&self) {
        self.buffers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .retain(|buffer| Arc::strong_count(buffer) > 1);
    }
}
