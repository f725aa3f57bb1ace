//! Uploads: large ones go through pinned memory, beside the work of the card.

use rayon::prelude::*;

use super::Cuda;
use super::api::driver::bytes_of;
use super::gate::is_recording;
use super::heap::locked;
use super::memory::Memory;

/// Uploads of at least this many bytes go through pinned memory.
const PINNED_FROM: usize = 1 << 20;
/// And of at most this many: pinned memory, and as much of the card's, is kept.
const PINNED_TO: usize = 1 << 30;
/// Bytes that one thread copies at a time.
const CHUNK: usize = 4 << 20;

impl Cuda {
    /// Copies values to the card. Large ones go through pinned memory, which the card reads at its own speed and while it
    /// computes.
    pub(super) fn stage(&self, memory: &Memory, values: &[f32]) {
        let bytes = bytes_of(values);
        if !(PINNED_FROM..=PINNED_TO).contains(&bytes.len()) || is_recording() {
            return memory.write(0, values);
        }
        // Before the lock, for which a thread that records may wait.
        let _entered = self.inner.enter();
        let mut staging = locked(&self.inner.staging);
        staging.turn = (staging.turn + 1) % staging.slots.len();
        let turn = staging.turn;
        if self.inner.rehearses() {
            let before = staging.rehearsed[turn];
            if before < bytes.len() {
                staging.rehearsed[turn] = bytes.len();
                // Never freed: it is only a count.
                self.inner.kept_memory(bytes.len() - before);
            }
            return;
        }
        let slot = &mut staging.slots[turn];
        if let Some(old) = slot.take_if(|slot| slot.pinned.len() < bytes.len()) {
            // What was copied from there may not be where it is wanted yet.
            self.inner.run(|driver| driver.wait());
            self.inner.free_kept(old.address, old.pinned.len());
        }
        if slot.is_none() {
            let Some(address) = self.inner.kept_memory(bytes.len()) else { return };
            match self.inner.driver.slot(address, bytes.len()) {
                Ok(made) => *slot = Some(made),
                // The host has no such memory to give: the driver copies through its own.
                Err(_) => {
                    self.inner.free_kept(address, bytes.len());
                    return memory.write(0, values);
                }
            }
        }
        let Some(slot) = slot else { return };
        self.inner.run(|driver| {
            driver.wait_for(slot)?;
            let chunks = slot.pinned.as_mut()[..bytes.len()].par_chunks_mut(CHUNK);
            chunks.zip(bytes.par_chunks(CHUNK)).for_each(|(to, from)| to.copy_from_slice(from));
            driver.upload_beside(memory.address(0), slot, bytes.len())
        });
    }
}
