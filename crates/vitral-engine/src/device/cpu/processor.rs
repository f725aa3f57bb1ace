//! The processor: threads, instruction set, memory.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::buffer::{Buffer, BufferPool};
use super::kernels::Isa;
use super::threads::Threads;

/// Multiply-adds below which a second thread costs more than it brings.
pub(crate) const SERIAL_WORK: usize = 100_000;

/// A fixed number of threads, an instruction set, and recycled memory. Clones share all three.
#[derive(Clone)]
pub(crate) struct Processor {
    isa: Isa,
    threads: usize,
    pool: Option<Arc<Threads>>,
    memory: Arc<BufferPool>,
}

impl Processor {
    /// The number of threads; 0 is one for each core.
    pub(crate) fn new(threads: usize, isa: Isa) -> Self {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { available() } else { threads };
        // Without a pool (one thread, or the system refuses more) everything runs on the caller.
        let pool = (threads > 1).then(|| Threads::start(threads)).flatten().map(Arc::new);
        let threads = if pool.is_some() { threads } else { 1 };
        Processor { isa, threads, pool, memory: Arc::default() }
    }

    /// How many threads work.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The same processor as one of its threads sees it that works by itself.
    pub(crate) fn alone(&self) -> Self {
        Processor { threads: 1, pool: None, ..self.clone() }
    }

    /// The processor in two halves that work at the same time under [`Processor::both`]; `None` if its threads do
    /// not divide. They share its memory.
    pub(crate) fn halves(&self) -> Option<[Self; 2]> {
        match self.threads {
            2 => Some([self.alone(), self.alone()]),
            threads if threads > 2 && threads.is_multiple_of(2) => Some([(); 2].map(|()| {
                let half = Processor::new(threads / 2, self.isa);
                Processor { memory: Arc::clone(&self.memory), ..half }
            })),
            _ => None,
        }
    }

    /// Runs both, at the same time if there are enough threads.
    pub(crate) fn both<A: Send, B: Send>(
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
    pub(crate) fn scope<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
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

    /// The results of `task(0) … task(count − 1)`, in order.
    pub(crate) fn parallel_map<T: Send>(&self, count: usize, task: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
        match &self.pool {
            Some(pool) if count > 1 => pool.install(|| (0..count).into_par_iter().with_max_len(1).map(task).collect()),
            _ => (0..count).map(task).collect(),
        }
    }

    /// `total` items in ranges of at least `grain`, a few for each thread.
    fn ranges(&self, total: usize, grain: usize) -> impl Iterator<Item = Range<usize>> {
        let count = (total / grain.max(1)).clamp(1, 4 * self.threads);
        (0..count).map(move |i| total * i / count..total * (i + 1) / count)
    }

    /// Cuts `N` outputs into runs of rows and calls `task(rows, parts)` for each run. Every output has `rows` rows,
    /// each of its own width; a run has at least `grain` rows.
    pub(crate) fn parallel_rows_of<const N: usize>(
        &self,
        rows: usize,
        grain: usize,
        outputs: [(&mut [f32], usize); N],
        task: impl Fn(Range<usize>, [&mut [f32]; N]) + Sync + Send,
    ) {
        let mut rest = outputs;
        let mut runs = Vec::new();
        for range in self.ranges(rows, grain) {
            let parts = rest.each_mut().map(|(rest, width)| {
                let (part, others) = std::mem::take(rest).split_at_mut(range.len() * *width);
                *rest = others;
                part
            });
            runs.push((range, parts));
        }
        match &self.pool {
            Some(pool) if runs.len() > 1 => pool.install(|| {
                runs.into_par_iter().with_max_len(1).for_each(|(range, parts)| task(range, parts));
            }),
            _ => runs.into_iter().for_each(|(range, parts)| task(range, parts)),
        }
    }

    /// Cuts an output of rows of `width` into runs of at least `grain` rows and calls `task(first row, run)` for each.
    pub(crate) fn parallel_rows(
        &self,
        out: &mut [f32],
        width: usize,
        grain: usize,
        task: impl Fn(usize, &mut [f32]) + Sync + Send,
    ) {
        let rows = out.len() / width.max(1);
        self.parallel_rows_of(rows, grain, [(out, width)], |rows, [out]| task(rows.start, out));
    }

    /// Calls `task(index, chunk)` for every chunk of an output, each a task of its own.
    pub(crate) fn parallel_chunks(
        &self,
        out: &mut [f32],
        chunk: usize,
        task: impl Fn(usize, &mut [f32]) + Sync + Send,
    ) {
        match &self.pool {
            Some(pool) if out.len() > chunk => pool.install(|| {
                out.par_chunks_mut(chunk.max(1)).with_max_len(1).enumerate().for_each(|(i, out)| task(i, out));
            }),
            _ => out.chunks_mut(chunk.max(1)).enumerate().for_each(|(i, out)| task(i, out)),
        }
    }

    /// A buffer filled by `fill`, from memory used before where possible.
    pub(crate) fn filled(&self, length: usize, fill: impl FnOnce(&mut [f32])) -> Arc<Buffer> {
        let mut buffer = self.memory.take(length);
        fill(Arc::get_mut(&mut buffer).expect("just taken").as_mut_slice());
        self.memory.register(&buffer);
        buffer
    }

    /// The memory that its buffers come from.
    pub(crate) fn memory(&self) -> &Arc<BufferPool> {
        &self.memory
    }
}
