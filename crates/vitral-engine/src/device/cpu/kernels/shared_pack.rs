//! A matrix `B` that several threads pack together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::isa::Isa;
use super::matrix_b::MatrixB;
use super::panel_kind::PanelKind;
use crate::device::cpu::buffer::Buffer;

/// Memory for panels, and how many are packed. Each thread that needs them packs those that no other has taken, then
/// waits for the others: threads that arrive together share the work, and one that arrives late finds it done.
pub(crate) struct SharedPack {
    buffer: Arc<Buffer>,
    panels: *mut f32,
    taken: AtomicUsize,
    done: AtomicUsize,
}

// SAFETY: the pointer is into `buffer`, which lives as long. Each panel is written by the one thread that took its
// number, and read after all are done.
unsafe impl Send for SharedPack {}
// SAFETY: as above.
unsafe impl Sync for SharedPack {}

impl SharedPack {
    /// Nothing is packed yet. The buffer has one owner until `share` is called.
    pub(crate) fn new(mut buffer: Arc<Buffer>, share: impl FnOnce(&Arc<Buffer>)) -> Self {
        let panels = Arc::get_mut(&mut buffer).expect("one owner").as_mut_slice().as_mut_ptr();
        share(&buffer);
        SharedPack { buffer, panels, taken: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    /// Packs the panels that no thread has taken, on the calling thread. All callers must pass the same arguments.
    pub(crate) fn help(&self, isa: Isa, kind: PanelKind, b: MatrixB<'_>, depth: usize, columns: usize) {
        assert_eq!(self.buffer.len(), kind.packed_len(isa, depth, columns));
        let (length, count) = (kind.panel_len(isa, depth), columns.div_ceil(isa.panel()));
        loop {
            let panel = self.taken.fetch_add(1, Ordering::Relaxed);
            if panel >= count {
                break;
            }
            // A panic between the two counters would leave others waiting; the extents are those that the length was
            // checked for.
            // SAFETY: within the buffer by the assertion; the number was given to this thread alone, and no thread reads
            // before all are done.
            let out = unsafe { std::slice::from_raw_parts_mut(self.panels.add(panel * length), length) };
            kind.pack(isa, b, [depth, columns], panel, out);
            self.done.fetch_add(1, Ordering::Release);
        }
    }

    /// All of `columns`, once they are there: others may be at their last panel.
    pub(crate) fn whole(&self, isa: Isa, columns: usize) -> Arc<Buffer> {
        while self.done.load(Ordering::Acquire) < columns.div_ceil(isa.panel()) {
            std::thread::yield_now();
        }
        Arc::clone(&self.buffer)
    }
}
