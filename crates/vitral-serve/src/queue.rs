//! What waits for one model: images to be decoded, then images to be computed, bounded together.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::batcher::{Choice, Rule};
use crate::job::{Job, Prepared, Ticket};

/// Why jobs were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no place for all of them.
    Full,
    /// The queue takes no more.
    Closed,
}

/// The queue of one model. Images come in order into `encoded`; decoders move them to `ready`, at most `ahead` of the
/// worker, so that memory is bounded by a few decoded images however many wait.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Somebody who decodes may have work.
    to_decode: Condvar,
    /// The worker may have work.
    to_compute: Condvar,
    capacity: usize,
    ahead: usize,
}

#[derive(Default)]
struct State {
    encoded: VecDeque<Job>,
    ready: VecDeque<Prepared>,
    decoding: usize,
    closed: bool,
}

impl State {
    fn waiting(&self) -> usize {
        self.encoded.len() + self.decoding + self.ready.len()
    }

    /// Whether nothing more can become ready.
    fn is_over(&self) -> bool {
        self.closed && self.encoded.is_empty() && self.decoding == 0
    }

    /// Takes out what nobody waits for.
    fn abandoned(&mut self) -> Vec<Ticket> {
        let (gone, kept): (VecDeque<Job>, _) =
            std::mem::take(&mut self.encoded).into_iter().partition(|job| job.ticket.is_abandoned());
        self.encoded = kept;
        let (late, kept): (VecDeque<Prepared>, _) =
            std::mem::take(&mut self.ready).into_iter().partition(|prepared| prepared.ticket.is_abandoned());
        self.ready = kept;
        gone.into_iter().map(|job| job.ticket).chain(late.into_iter().map(|prepared| prepared.ticket)).collect()
    }
}

impl Queue {
    /// A queue of at most `capacity` images, of which at most `ahead` are decoded.
    pub(crate) fn new(capacity: usize, ahead: usize) -> Self {
        Queue { state: Mutex::default(), to_decode: Condvar::new(), to_compute: Condvar::new(), capacity, ahead }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; even then the lists would be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of images that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting()
    }

    /// Adds all jobs of a request, or none.
    pub(crate) fn submit(&self, jobs: Vec<Job>) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.closed {
            return Err(Refusal::Closed);
        }
        let mut gone = Vec::new();
        if state.waiting() + jobs.len() > self.capacity {
            gone = state.abandoned();
        }
        let fits = state.waiting() + jobs.len() <= self.capacity;
        if fits {
            state.encoded.extend(jobs);
        }
        drop(state);
        self.to_decode.notify_all();
        gone.into_iter().for_each(Ticket::abandon);
        if fits { Ok(()) } else { Err(Refusal::Full) }
    }

    /// The next image to decode, as soon as there is one that somebody waits for; `None` once there will be none.
    pub(crate) fn next_to_decode(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.ready.len() + state.decoding < self.ahead
                && let Some(job) = state.encoded.pop_front()
            {
                if job.ticket.is_abandoned() {
                    job.ticket.abandon();
                    continue;
                }
                state.decoding += 1;
                return Some(job);
            }
            if state.closed && state.encoded.is_empty() {
                drop(state);
                self.to_compute.notify_all();
                return None;
            }
            state = self.to_decode.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Passes a decoded image on to the worker; `None` is one that could not be decoded.
    pub(crate) fn decoded(&self, prepared: Option<Prepared>) {
        let mut state = self.state();
        state.decoding -= 1;
        state.ready.extend(prepared);
        drop(state);
        self.to_compute.notify_all();
        // One that failed leaves its place to the next.
        self.to_decode.notify_all();
    }

    /// The next batch, as soon as the rule says so; `None` once there will be none.
    pub(crate) fn next_batch(&self, rule: &Rule) -> Option<Vec<Prepared>> {
        let mut state = self.state();
        loop {
            while let Some(at) = state.ready.iter().position(|prepared| prepared.ticket.is_abandoned()) {
                state.ready.remove(at).into_iter().for_each(|prepared| prepared.ticket.abandon());
                self.to_decode.notify_all();
            }
            let more = !state.is_over();
            match rule.choose(&state.ready, more, Instant::now()) {
                Choice::Nothing if !more => return None,
                Choice::Nothing => {
                    state = self.to_compute.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Choice::Wait(time) => {
                    let waited = self.to_compute.wait_timeout(state, time);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Choice::Run(places) => {
                    let mut batch = Vec::with_capacity(places.len());
                    // From the back, so that places stay valid.
                    for place in places.into_iter().rev() {
                        batch.extend(state.ready.remove(place));
                    }
                    batch.reverse();
                    drop(state);
                    self.to_decode.notify_all();
                    return Some(batch);
                }
            }
        }
    }

    /// Takes no more jobs; those that are there are finished.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.to_decode.notify_all();
        self.to_compute.notify_all();
    }
}
