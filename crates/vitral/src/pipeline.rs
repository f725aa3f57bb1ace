//! Runs many images through one model: reading and preprocessing run ahead of it, in order and with bounded memory.

mod feed;

use std::num::NonZero;
use std::sync::mpsc::{Receiver, sync_channel};

use crate::config::Size;
use crate::image::{AsImage, ImageError, Preprocess};
use crate::{Device, DeviceError, Tensor};

pub use feed::Feed;

/// How many results each thread may be ahead.
const AHEAD: usize = 4;

/// Runs `work` over `items` on several threads and passes the results to `consume` in the order of the items. At most a
/// few results per thread are waiting at any time.
pub fn ahead<I: Sync, T: Send, R>(
    items: &[I],
    threads: NonZero<usize>,
    work: impl Fn(&I) -> T + Sync,
    consume: impl FnOnce(&mut dyn Iterator<Item = T>) -> R,
) -> R {
    let threads = threads.get().min(items.len().max(1));
    std::thread::scope(|scope| {
        let work = &work;
        // Thread `t` has every `threads`-th item and its own channel, so the next result's channel is known.
        let channels: Vec<Receiver<T>> = (0..threads)
            .map(|first| {
                let (send, receive) = sync_channel(AHEAD);
                scope.spawn(move || {
                    for item in items.iter().skip(first).step_by(threads) {
                        // The receiver is gone: the consumer has stopped early.
                        if send.send(work(item)).is_err() {
                            break;
                        }
                    }
                });
                receive
            })
            .collect();
        consume(&mut (0..items.len()).map_while(move |turn| channels[turn % threads].recv().ok()))
    })
}

/// A batch of images ready for the model.
#[derive(Debug)]
pub struct Batch {
    /// Indices in the list of sources, in increasing order.
    pub indices: Vec<usize>,
    /// `[batch, channels, height, width]`; `batch` may be 0 if all remaining sources failed.
    pub pixels: Tensor,
    /// Sources that could not be read, with the reason.
    pub faults: Vec<(usize, ImageError)>,
}

/// How images are batched.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// Images in a batch, at most.
    pub batch: NonZero<usize>,
    /// Threads that read and preprocess.
    pub threads: NonZero<usize>,
}

/// Reads and preprocesses all sources and passes them on in batches, in order. If preprocessing gives images of
/// different sizes, they are put in different batches. A source that cannot be read is recorded in its batch and does
/// not end the work.
///
/// # Errors
/// The first error of `each`, which ends the work.
pub fn batches<S: Sync, I: AsImage, E: From<DeviceError>>(
    sources: &[S],
    preprocess: &Preprocess,
    options: BatchOptions,
    device: &Device,
    read: impl Fn(&S) -> Result<I, ImageError> + Sync,
    mut each: impl FnMut(Batch) -> Result<(), E>,
) -> Result<(), E> {
    let prepare = |source: &S| -> Result<(Size, Vec<f32>), ImageError> {
        let image = read(source)?;
        Ok((preprocess.output_size_for(image.view().size()), preprocess.apply(&image)?))
    };
    let channels = preprocess.channels.count();
    ahead(sources, options.threads, prepare, |prepared| {
        let mut gathering = Gathering::default();
        for (index, outcome) in prepared.enumerate() {
            match outcome {
                Err(fault) => gathering.faults.push((index, fault)),
                Ok((size, pixels)) => {
                    if gathering.size.is_some_and(|other| other != size) {
                        each(gathering.take(channels, device)?)?;
                    }
                    gathering.add(index, size, pixels);
                    if gathering.indices.len() == options.batch.get() {
                        each(gathering.take(channels, device)?)?;
                    }
                }
            }
        }
        if gathering.is_empty() {
            return Ok(());
        }
        each(gathering.take(channels, device)?)
    })
}

#[derive(Default)]
struct Gathering {
    size: Option<Size>,
    indices: Vec<usize>,
    pixels: Vec<f32>,
    faults: Vec<(usize, ImageError)>,
}

impl Gathering {
    fn is_empty(&self) -> bool {
        self.indices.is_empty() && self.faults.is_empty()
    }

    fn add(&mut self, index: usize, size: Size, pixels: Vec<f32>) {
        self.size = Some(size);
        self.indices.push(index);
        self.pixels.extend(pixels);
    }

    fn take(&mut self, channels: usize, device: &Device) -> Result<Batch, DeviceError> {
        let Gathering { size, indices, pixels, faults } = std::mem::take(self);
        let size = size.unwrap_or(Size { height: 0, width: 0 });
        let shape = [indices.len(), channels, size.height, size.width];
        Ok(Batch { indices, pixels: device.upload(shape, &pixels)?, faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;

    const THREADS: [usize; 4] = [1, 2, 3, 50];

    #[test]
    fn results_come_in_order_from_any_number_of_threads() {
        let items: Vec<usize> = (0..40).collect();
        for threads in THREADS.map(|n| NonZero::new(n).expect("positive")) {
            let slow_first = |&i: &usize| {
                std::thread::sleep(std::time::Duration::from_micros(((40 - i) * 10) as u64));
                i * i
            };
            let found: Vec<usize> = ahead(&items, threads, slow_first, |results| results.collect());
            assert_eq!(found, items.iter().map(|i| i * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_consumer_may_stop_early_and_sources_may_be_empty() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in THREADS.map(|n| NonZero::new(n).expect("positive")) {
            assert_eq!(ahead(&items, threads, |&i| i, |results| results.nth(3)), Some(3));
            assert_eq!(ahead(&[] as &[usize], threads, |&i| i, |results| results.next()), None);
        }
    }

    #[test]
    fn batches_keep_order_sizes_and_faults() {
        let preprocess: Preprocess = serde_json::from_value(serde_json::json!({
            "channels": "gray", "steps": [], "rescale": null, "normalize": null
        }))
        .expect("our own format");
        // A side of 0 represents an image that cannot be read.
        let sides = [2, 2, 2, 0, 2, 3, 3, 0, 0];
        let read = |&side: &usize| RgbImage::new(side, side, vec![7; side * side * 3]);
        let two = NonZero::new(2).expect("positive");
        let options = BatchOptions { batch: two, threads: two };
        let mut seen = Vec::new();
        let each = |batch: Batch| {
            let faults: Vec<usize> = batch.faults.iter().map(|(index, _)| *index).collect();
            seen.push((batch.indices, batch.pixels.shape().to_vec(), faults));
            Ok::<_, DeviceError>(())
        };
        batches(&sides, &preprocess, options, &Device::cpu(1), read, each).expect("memory");
        let expected: Vec<(Vec<usize>, Vec<usize>, Vec<usize>)> = vec![
            (vec![0, 1], vec![2, 1, 2, 2], vec![]),
            (vec![2, 4], vec![2, 1, 2, 2], vec![3]),
            (vec![5, 6], vec![2, 1, 3, 3], vec![]),
            (vec![], vec![0, 1, 0, 0], vec![7, 8]),
        ];
        assert_eq!(seen, expected);
    }
}
