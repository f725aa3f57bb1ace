//! Threads that work together, also in a process that was forked: a fork copies memory, but none of the threads.

use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// A fixed number of threads. In a forked process they are started again at first use; without that, whoever waits for
/// them would wait for ever.
pub(crate) struct Threads {
    /// The process that the threads are in.
    process: u32,
    count: usize,
    /// `None` if the system refused to start them.
    pool: Option<ThreadPool>,
    /// The same threads in a fork of this process.
    forked: OnceLock<Box<Threads>>,
}

impl Threads {
    /// Starts threads; `None` if the system refuses.
    pub(crate) fn start(count: usize) -> Option<Self> {
        let started = Threads::of_this_process(count);
        started.pool.is_some().then_some(started)
    }

    fn of_this_process(count: usize) -> Self {
        let pool = ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("vitral-{i}")).build();
        Threads { process: std::process::id(), count, pool: pool.ok(), forked: OnceLock::new() }
    }

    /// Runs `body` on one of the threads, and what it starts in parallel on all of them.
    pub(crate) fn install<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        let mut threads = self;
        while threads.process != std::process::id() {
            threads = threads.forked.get_or_init(|| Box::new(Threads::of_this_process(self.count)));
        }
        match &threads.pool {
            Some(pool) => pool.install(body),
            None => body(),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Ending threads that are not there could wait for a lock that one of them held.
        if self.process != std::process::id() {
            std::mem::forget(self.pool.take());
        }
    }
}
