//! Memory for tensors: aligned, recycled, never freed between operations of the same shape.

use std::sync::{Arc, Mutex};

/// One cache line, so that every buffer starts on one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A run of `f32`, aligned to a cache line.
pub(crate) struct Buffer {
    lines: Vec<Line>,
    length: usize,
}

impl Buffer {
    /// `length` zeros.
    pub(crate) fn zeros(length: usize) -> Self {
        Buffer { lines: vec![Line([0.0; 16]); length.div_ceil(16)], length }
    }

    /// How many numbers it holds.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// How many numbers fit without new memory.
    pub(crate) fn capacity(&self) -> usize {
        self.lines.len() * 16
    }

    /// Changes the length, growing where needed. What was there stays, what is new is zero or left over.
    pub(crate) fn set_len(&mut self, length: usize) {
        if length > self.capacity() {
            self.lines.resize(length.div_ceil(16), Line([0.0; 16]));
        }
        self.length = length;
    }

    /// The numbers.
    pub(crate) fn as_slice(&self) -> &[f32] {
        &super::kernels::flatten(&self.lines, |line| &line.0)[..self.length]
    }

    /// The numbers, to be written.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut super::kernels::flatten_mut(&mut self.lines, |line| &line.0)[..self.length]
    }
}

/// Buffers that were used and may be used again.
///
/// A buffer is free when the pool holds its only reference, so handing one out in the steady state of a forward pass
/// touches no allocator at all.
#[derive(Default)]
pub(crate) struct BufferPool {
    buffers: Mutex<Vec<Arc<Buffer>>>,
}

impl BufferPool {
    /// A buffer of this length with unspecified contents, which nobody else holds.
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

    /// Lets go of everything that is free.
    pub(crate) fn trim(&self) {
        self.buffers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .retain(|buffer| Arc::strong_count(buffer) > 1);
    }
}
