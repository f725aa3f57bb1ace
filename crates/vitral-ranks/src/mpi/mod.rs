//! MPI, found and opened at run time.
//!
//! Three families of libraries speak MPI with different binary interfaces: those of the MPI-5 standard ABI, Open MPI, and
//! MPICH with its kin. They differ in what stands for "all processes" or "a float" (`families`); the functions are the same.

mod api;
mod families;
mod find;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::RanksError;
use crate::launcher::Launcher;
use crate::link::{Carrier, Link};

use api::Calls;

/// Whether the user has named a library.
pub(crate) fn is_named() -> bool {
    find::named().is_some()
}

/// Opens the launcher's library and joins the other processes.
///
/// # Errors
/// If there is none, it lacks a function, it does not start, or it does not know of the processes that the launcher started.
pub(crate) fn open(launcher: &Launcher) -> Result<MpiLink, RanksError> {
    let found = find::find(launcher)?;
    let path = found.path.display().to_string();
    let broken = |fault: String| RanksError::Library { path: path.clone(), fault };
    let calls = families::calls(&found).map_err(broken)?;
    // It stays open to the end of the process: MPI leaves threads and memory behind.
    std::mem::forget(found.library);
    calls.start().map_err(broken)?;
    let (rank, size) = (calls.rank().map_err(broken)?, calls.size().map_err(broken)?);
    if let Some(expected) = launcher.size.filter(|&expected| expected != size) {
        // Only `srun` can start processes without telling MPI.
        let hint = if launcher.is_slurm() { ", or start with `srun --mpi=pmix` (or `pmi2`)" } else { "" };
        return Err(RanksError::Strangers { launcher: launcher.name.to_owned(), expected, path, found: size, hint });
    }
    let name = calls.version();
    Ok(MpiLink { rank, size, calls: Mutex::new(calls), carrier: Carrier { name, path } })
}

/// The processes of an MPI launcher.
pub(crate) struct MpiLink {
    rank: usize,
    size: usize,
    /// One thread at a time, as MPI was asked for.
    calls: Mutex<Box<dyn Calls>>,
    carrier: Carrier,
}

impl fmt::Debug for MpiLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}, {}", self.rank, self.size, self.carrier.name)
    }
}

/// How long a thread beside others takes the processor before it pauses, and the longest pause.
const SPIN: Duration = Duration::from_micros(20);
const PAUSE: Duration = Duration::from_micros(200);

impl MpiLink {
    fn call<R>(&self, call: impl FnOnce(&dyn Calls) -> R) -> R {
        call(&**self.calls.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Link for MpiLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String> {
        // Both sides cut the same lengths in the same places; one of them may have more pieces.
        let most = |length: usize| length.div_ceil(api::LARGEST).max(1);
        let (pieces, expected) = (most(sent.len()), most(received.len()));
        if pieces == 1 && expected == 1 {
            return self.call(|calls| calls.exchange(to, sent, from, received));
        }
        let mut sent = sent.chunks(api::LARGEST);
        let mut received = received.chunks_mut(api::LARGEST);
        loop {
            match (sent.next(), received.next()) {
                (Some(sent), Some(received)) => self.call(|calls| calls.exchange(to, sent, from, received))?,
                (Some(sent), None) => self.call(|calls| calls.send(to, sent))?,
                (None, Some(received)) => self.call(|calls| calls.receive(from, received))?,
                (None, None) => return Ok(()),
            }
        }
    }

    fn exchange_beside(
        &self,
        to: usize,
        sent: &[u8],
        from: usize,
        received: &mut [u8],
        hurry: &AtomicBool,
    ) -> Result<(), String> {
        if sent.len().max(received.len()) > api::LARGEST {
            return self.exchange(to, sent, from, received);
        }
        let begun = Instant::now();
        // SAFETY: the buffers are borrowed until both messages have arrived; whoever fails before has no way to return.
        #[allow(unsafe_code)]
        let mut pending = Vec::from(self.call(|calls| unsafe { calls.begin(to, sent, from, received) })?);
        loop {
            let mut fault = None;
            pending.retain_mut(|message| match self.call(|calls| calls.arrived(message)) {
                Ok(arrived) => !arrived,
                // A message that failed is over too.
                Err(error) => {
                    fault = Some(error);
                    false
                }
            });
            match (fault, pending.is_empty()) {
                (None, true) => return Ok(()),
                (Some(fault), true) => return Err(fault),
                (Some(fault), false) => {
                    eprintln!("error: {fault}");
                    self.abort(1);
                    std::process::abort();
                }
                (None, false) => {}
            }
            // The library moves nothing while nobody asks it, so the pause is short beside what a message takes.
            match begun.elapsed() {
                waited if waited < SPIN || hurry.load(Ordering::Relaxed) => std::thread::yield_now(),
                waited => std::thread::sleep((waited / 8).clamp(SPIN, PAUSE)),
            }
        }
    }

    fn send(&self, to: usize, sent: &[u8]) -> Result<(), String> {
        if sent.is_empty() {
            return self.call(|calls| calls.send(to, sent));
        }
        sent.chunks(api::LARGEST).try_for_each(|piece| self.call(|calls| calls.send(to, piece)))
    }

    fn receive(&self, from: usize, received: &mut [u8]) -> Result<(), String> {
        if received.is_empty() {
            return self.call(|calls| calls.receive(from, received));
        }
        received.chunks_mut(api::LARGEST).try_for_each(|piece| self.call(|calls| calls.receive(from, piece)))
    }

    fn sum(&self, values: &mut [f32]) -> Result<bool, String> {
        values.chunks_mut(api::LARGEST).try_for_each(|piece| self.call(|calls| calls.sum(piece)))?;
        Ok(true)
    }

    fn carrier(&self) -> Carrier {
        self.carrier.clone()
    }

    fn abort(&self, code: u8) {
        self.call(|calls| calls.abort(i32::from(code)));
    }

    fn finish(&self) {
        self.call(|calls| calls.finish());
    }
}
