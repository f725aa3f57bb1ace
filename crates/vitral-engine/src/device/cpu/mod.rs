//! The processor: threads, instruction set, memory.

pub(crate) mod buffer;
pub(crate) mod kernels;
pub(crate) mod map;
pub(crate) mod math;
mod peak;

use std::sync::Arc;

use buffer::{Buffer, BufferPool};
use kernels::{Isa, JointPack};
use rayon::prelude::*;

/// A processor: a fixed number of threads, the best instruction set it has, and memory that is used again.
///
/// Clones share all three.
#[derive(Clone)]
pub struct Cpu {
    isa: Isa,
    threads: usize,
    pool: Option<Arc<rayon::ThreadPool>>,
    memory: Arc<BufferPool>,
}

impl Cpu {
    /// All of the processor's threads.
    pub fn new() -> Self {
        Cpu::with_threads(0)
    }

    /// This many threads; 0 means as many as the processor runs at once.
    pub fn with_threads(threads: usize) -> Self {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { available() } else { threads };
        // Without a pool (one thread, or the system refuses more) everything runs on the caller.
        let pool = (threads > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("vitral-{i}")).build()
            })
            .and_then(Result::ok)
            .map(Arc::new);
        let threads = if pool.is_some() { threads } else { 1 };
        Cpu { isa: Isa::available()[0], threads, pool, memory: Arc::default() }
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instruction set in use: `avx512`, `avx2+fma`, `neon` or `portable`.
    pub fn instruction_set(&self) -> &'static str {
        self.isa.name()
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The same processor with another of its instruction sets, for tests.
    #[cfg(test)]
    pub(crate) fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// The same processor as one of its threads sees it that works by itself.
    pub(crate) fn alone(&self) -> Self {
        Cpu { threads: 1, pool: None, ..self.clone() }
    }

    /// The processor in two halves that work at the same time under [`Cpu::both`]; nothing where its threads do not divide.
    /// Memory stays common.
    pub fn halves(&self) -> Option<[Self; 2]> {
        match self.threads {
            2 => Some([self.alone(), self.alone()]),
            threads if threads > 2 && threads.is_multiple_of(2) => Some([(); 2].map(|()| {
                let half = Cpu::with_threads(threads / 2);
                Cpu { memory: Arc::clone(&self.memory), isa: self.isa, ..half }
            })),
            _ => None,
        }
    }

    /// Runs both, at the same time where there are threads for it.
    pub fn both<A: Send, B: Send>(
        &self,
        first: impl FnOnce() -> A + Send,
        second: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match &self.pool {
            Some(pool) => pool.install(|| rayon::join(first, second)),
            None => (first(), second()),
        }
    }

    /// Runs `body` on this processor's threads. A whole forward pass inside one `scope` does not change threads at
    /// every operation.
    pub fn scope<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(body),
            None => body(),
        }
    }

    /// Runs `task(0) … task(count − 1)`, in any order, and returns when all are done.
    pub(crate) fn parallel(&self, count: usize, task: impl Fn(usize) + Sync + Send) {
        match &self.pool {
            Some(pool) if count > 1 => {
                pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(task));
            }
            _ => (0..count).for_each(task),
        }
    }

    /// Cuts `total` items into tasks of at least `grain` and runs `task(range)` for each.
    pub(crate) fn parallel_ranges(
        &self,
        total: usize,
        grain: usize,
        task: impl Fn(std::ops::Range<usize>) + Sync + Send,
    ) {
        let count = (total / grain.max(1)).clamp(1, 4 * self.threads);
        self.parallel(count, |i| task(total * i / count..total * (i + 1) / count));
    }

    /// A buffer filled by `fill`, from memory used before where possible.
    pub(crate) fn filled(&self, length: usize, fill: impl FnOnce(&mut [f32])) -> Arc<Buffer> {
        let mut buffer = self.memory.take(length);
        fill(Arc::get_mut(&mut buffer).expect("just taken").as_mut_slice());
        self.memory.register(&buffer);
        buffer
    }

    /// Room for a right operand of so many numbers that threads of several devices pack together.
    pub(crate) fn joint_pack(&self, length: usize) -> JointPack {
        JointPack::new(self.memory.take(length), |buffer| self.memory.register(buffer))
    }

    /// Gives unused memory back to the system.
    pub fn trim(&self) {
        self.memory.trim();
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu::new()
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.isa.name(), self.threads)
    }
}
