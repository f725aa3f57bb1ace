//! How the CPU takes a batch: which images together, on which threads, one after the other or side by side.
//!
//! In inference each thread takes images through the whole model by itself, so that none waits for another at every
//! operation and its result stays in its cache. In training a batch goes in two halves, each on half of the threads,
//! and a half in parts. How a batch is cut depends on the model and the batch alone, so sums keep their bits whatever
//! the threads.

use std::ops::Range;
use std::sync::Arc;

use super::Cpu;
use super::pack_cache::PackCache;

/// Rows of tokens that a thread takes through all blocks at a time: enough that weights are worth fetching, few enough
/// that their results stay in its cache.
const ROWS_AT_ONCE: usize = 192;
/// Tokens that a half of a batch takes forward and back at a time: few enough that what must be remembered of them is
/// small and near, enough that fetching weights for them costs little.
const TOKENS_AT_ONCE: usize = 1024;
/// The same if there are convolutions before the blocks, whose weights are standardized and packed for every part.
const CELLS_AT_ONCE: usize = 4096;

/// A batch, as a plan needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct BatchExtent {
    /// Images in the batch.
    pub images: usize,
    /// Tokens (or cells of a feature map) of an image.
    pub tokens: usize,
    /// Whether there are convolutions before the blocks.
    pub convolutions: bool,
}

impl Cpu {
    /// Images that threads take through a model by themselves, in groups, the first images of a batch; what is left of
    /// it is computed by all threads together. `None` if that is not faster.
    pub(crate) fn inference_groups(&self, images: usize, rows: usize) -> Vec<Range<usize>> {
        let threads = self.threads();
        let each = images / threads;
        if threads == 1 || each == 0 {
            return Vec::new();
        }
        // Every thread gets the same number of images.
        let at_once = ROWS_AT_ONCE.div_ceil(rows.max(1)).max(1);
        let (groups, whole) = (threads * each.div_ceil(at_once), threads * each);
        (0..groups).map(|group| whole * group / groups..whole * (group + 1) / groups).collect()
    }

    /// Runs `task` for every group, each on one thread, and returns the results in their order.
    pub(crate) fn each_group<T: Send>(
        &self,
        groups: &[Range<usize>],
        task: impl Fn(&Cpu, Range<usize>) -> T + Sync + Send,
    ) -> Vec<T> {
        let alone = Cpu::of(self.processor.alone()).with_precision(self.precision);
        self.processor.parallel_map(groups.len(), |group| task(&alone, groups[group].clone()))
    }

    /// How a batch is cut for training: the parts of its two halves.
    fn training_parts(batch: BatchExtent) -> [Vec<Range<usize>>; 2] {
        let at_once = if batch.convolutions { CELLS_AT_ONCE } else { TOKENS_AT_ONCE };
        let middle = batch.images.div_ceil(2);
        [0..middle, middle..batch.images].map(|half| {
            let images = half.len();
            let parts = (images * batch.tokens / at_once).clamp(usize::from(images > 0), images);
            let at = |index: usize| half.start + images * index / parts.max(1);
            (0..parts).map(|index| at(index)..at(index + 1)).collect()
        })
    }

    /// Takes both halves of a batch through `task(device, images, lane)`, at the same time if there are enough threads.
    /// The lane is that of the half.
    pub(crate) fn each_half<L: Send, T: Send, E: Send>(
        &self,
        batch: BatchExtent,
        parameters: usize,
        lanes: &mut [L],
        task: impl Fn(&Cpu, Range<usize>, &mut L) -> Result<T, E> + Sync + Send,
    ) -> Result<Vec<T>, E> {
        let [front, back] = Cpu::training_parts(batch);
        let packs = Some(Arc::new(PackCache::new(parameters, front.len() + back.len())));
        let [first, second] = lanes else { panic!("two lanes, one for each half") };
        let half = |device: &Cpu, parts: Vec<Range<usize>>, lane: &mut L| {
            device.scope(|| parts.into_iter().map(|images| task(device, images, lane)).collect::<Result<Vec<T>, E>>())
        };
        let (front, back) = match self.halves.get_or_init(|| self.processor.halves()) {
            Some(halves) => {
                let [one, other] =
                    halves.clone().map(|half| Cpu { packs: packs.clone(), precision: self.precision, ..Cpu::of(half) });
                self.processor.both(|| half(&one, front, first), || half(&other, back, second))
            }
            None => {
                let device = Cpu { packs, ..self.clone() };
                (half(&device, front, first), half(&device, back, second))
            }
        };
        let mut all = front?;
        all.extend(back?);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_one_part() {
        for images in [0, 1, 2, 3, 8, 33] {
            for tokens in [1, 65, 197, 5000] {
                for convolutions in [false, true] {
                    let parts = Cpu::training_parts(BatchExtent { images, tokens, convolutions }).concat();
                    let all: Vec<usize> = parts.into_iter().flatten().collect();
                    assert_eq!(all, (0..images).collect::<Vec<_>>());
                }
                let groups = Cpu::with_threads(3).inference_groups(images, tokens);
                let all: Vec<usize> = groups.into_iter().flatten().collect();
                assert_eq!(all, (0..images / 3 * 3).collect::<Vec<_>>());
            }
        }
    }
}
