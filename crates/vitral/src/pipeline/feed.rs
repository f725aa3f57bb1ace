//! Batches of images that come one at a time, from an iterator of somebody else's: a list is not needed, only what is on
//! its way is in memory.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::{AHEAD, Batch, BatchOptions, Gathering};
use crate::config::Size;
use crate::image::{AsImage, ImageError, Preprocess};
use crate::{Device, DeviceError};

/// An image as the model takes it, and its size.
type Prepared = Result<(Size, Vec<f32>), ImageError>;

/// Reads and preprocesses images on threads of its own, and passes them on in batches, in the order they were given. The
/// batches are those of [`batches`](super::batches).
pub struct Feed<S> {
    workers: Workers<S, Prepared>,
    gathering: Gathering,
    /// An image of another size than the batch that was full before it.
    next: Option<(usize, Size, Vec<f32>)>,
    channels: usize,
    options: BatchOptions,
}

impl<S> std::fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("options", &self.options).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl<S: Send + 'static> Feed<S> {
    /// A feed without images. Its threads start with the first ones.
    pub fn new<I: AsImage>(
        preprocess: Preprocess,
        options: BatchOptions,
        read: impl Fn(S) -> Result<I, ImageError> + Send + Sync + 'static,
    ) -> Self {
        let channels = preprocess.channels.count();
        let work = move |source: S| -> Prepared {
            let image = read(source)?;
            Ok((preprocess.output_size_for(image.view().size()), preprocess.apply(&image)?))
        };
        let workers = Workers::new(options.threads, work);
        Feed { workers, gathering: Gathering::default(), next: None, channels, options }
    }

    /// Adds an image. It is read and preprocessed at once, whether or not a batch is asked for.
    pub fn push(&mut self, source: S) {
        self.workers.push(source);
    }
}

impl<S> Feed<S> {
    /// How many images were given and are in no batch yet.
    pub fn waiting(&self) -> usize {
        self.workers.waiting() + self.gathering.indices.len() + usize::from(self.next.is_some())
    }

    /// How many more images are worth giving now, so that the next batch and the one after it are prepared while the model
    /// is at work.
    pub fn room(&self) -> usize {
        let ahead = self.options.batch.get().max(AHEAD * self.options.threads.get());
        (self.options.batch.get() + ahead).saturating_sub(self.waiting())
    }

    /// The next batch: full, or of the images before one of another size, or, when all images that were given are used up,
    /// of the rest. `None` if there is nothing left.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn next(&mut self, device: &Device) -> Result<Option<Batch>, DeviceError> {
        if let Some((index, size, pixels)) = self.next.take() {
            self.gathering.add(index, size, pixels);
        }
        while self.gathering.indices.len() < self.options.batch.get() {
            let Some((index, prepared)) = self.workers.next() else { break };
            match prepared {
                Err(fault) => self.gathering.faults.push((index, fault)),
                Ok((size, pixels)) if self.gathering.size.is_some_and(|other| other != size) => {
                    self.next = Some((index, size, pixels));
                    break;
                }
                Ok((size, pixels)) => self.gathering.add(index, size, pixels),
            }
        }
        match self.gathering.is_empty() {
            true => Ok(None),
            false => self.gathering.take(self.channels, device).map(Some),
        }
    }
}

/// Threads that work on what they are given, in turn; results come in the same order.
struct Workers<S, T> {
    threads: Vec<Worker<S, T>>,
    most: usize,
    work: Arc<dyn Fn(S) -> T + Send + Sync>,
    given: usize,
    taken: usize,
}

struct Worker<S, T> {
    // Dropped first: a worker whose results nobody takes ends, whatever it still has to do.
    results: Receiver<T>,
    jobs: Option<Sender<S>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Send + 'static, T: Send + 'static> Workers<S, T> {
    fn new(threads: NonZero<usize>, work: impl Fn(S) -> T + Send + Sync + 'static) -> Self {
        Workers { threads: Vec::new(), most: threads.get(), work: Arc::new(work), given: 0, taken: 0 }
    }

    fn push(&mut self, job: S) {
        if self.threads.len() < self.most && self.given == self.threads.len() {
            self.threads.push(Worker::start(Arc::clone(&self.work)));
        }
        let turn = self.given % self.threads.len();
        self.given += 1;
        if let Some(jobs) = &self.threads[turn].jobs {
            // A worker that panicked is noticed where its result is missing.
            let _ = jobs.send(job);
        }
    }
}

impl<S, T> Workers<S, T> {
    fn waiting(&self) -> usize {
        self.given - self.taken
    }

    /// The next result and its place among all, or `None` if none is on its way.
    fn next(&mut self) -> Option<(usize, T)> {
        if self.waiting() == 0 {
            return None;
        }
        let index = self.taken;
        self.taken += 1;
        let turn = index % self.threads.len();
        let worker = &mut self.threads[turn];
        let Ok(result) = worker.results.recv() else {
            if let Some(Err(panic)) = worker.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
            return None;
        };
        Some((index, result))
    }
}

impl<S: Send + 'static, T: Send + 'static> Worker<S, T> {
    fn start(work: Arc<dyn Fn(S) -> T + Send + Sync>) -> Self {
        let (give, jobs) = channel::<S>();
        let (answer, results) = channel();
        let run = move || {
            for job in jobs {
                if answer.send(work(job)).is_err() {
                    break;
                }
            }
        };
        Worker { results, jobs: Some(give), thread: Some(std::thread::spawn(run)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;

    fn feed(batch: usize, threads: usize) -> Feed<usize> {
        let preprocess: Preprocess = serde_json::from_value(serde_json::json!({
            "channels": "gray", "steps": [], "rescale": null, "normalize": null
        }))
        .expect("our own format");
        let [batch, threads] = [batch, threads].map(|n| NonZero::new(n).expect("positive"));
        // A side of 0 represents an image that cannot be read.
        let read = |side: usize| RgbImage::new(side, side, vec![7; side * side * 3]);
        Feed::new(preprocess, BatchOptions { batch, threads }, read)
    }

    fn seen(feed: &mut Feed<usize>) -> Vec<(Vec<usize>, Vec<usize>, Vec<usize>)> {
        let device = Device::cpu(1);
        let mut seen = Vec::new();
        while let Some(batch) = feed.next(&device).expect("memory") {
            let faults = batch.faults.iter().map(|(index, _)| *index).collect();
            seen.push((batch.indices, batch.pixels.shape().to_vec(), faults));
        }
        seen
    }

    #[test]
    fn batches_are_those_of_a_list() {
        for threads in [1, 2, 3, 50] {
            let mut feed = feed(2, threads);
            [2, 2, 2, 0, 2, 3, 3, 0, 0].into_iter().for_each(|side| feed.push(side));
            assert_eq!(feed.waiting(), 9);
            let expected: Vec<(Vec<usize>, Vec<usize>, Vec<usize>)> = vec![
                (vec![0, 1], vec![2, 1, 2, 2], vec![]),
                (vec![2, 4], vec![2, 1, 2, 2], vec![3]),
                (vec![5, 6], vec![2, 1, 3, 3], vec![]),
                (vec![], vec![0, 1, 0, 0], vec![7, 8]),
            ];
            assert_eq!(seen(&mut feed), expected, "{threads} threads");
        }
    }

    #[test]
    fn images_may_come_late_and_be_left_behind() {
        let mut feed = feed(2, 3);
        assert!(feed.next(&Device::cpu(1)).expect("memory").is_none());
        feed.push(2);
        assert_eq!(seen(&mut feed), [(vec![0], vec![1, 1, 2, 2], vec![])]);
        assert!(feed.room() >= 4);
        // An image of another size waits for the next batch.
        [2, 3].into_iter().for_each(|side| feed.push(side));
        assert_eq!(feed.next(&Device::cpu(1)).expect("memory").map(|batch| batch.indices), Some(vec![1]));
        assert_eq!(feed.waiting(), 1);
        assert_eq!(seen(&mut feed), [(vec![2], vec![1, 1, 3, 3], vec![])]);
        (0..100).for_each(|_| feed.push(2));
        assert_eq!(feed.room(), 0);
    }
}
