//! How the CPU takes a batch: which images together, on which threads, one after the other or side by side.
//!
//! In inference each thread takes images through the whole model by itself, so that none waits for another at every
//! operation and its result stays in its cache. In training a batch goes in leaves, half of them on half of the threads,
//! and a leaf in parts. How a leaf is cut depends on the model and the leaf alone, so sums keep their bits whatever the
//! threads, and whoever works on the other leaves.

use std::ops::Range;
use std::sync::Arc;

use super::Cpu;
use super::pack_cache::PackCache;

/// Rows of tokens that a thread takes through all blocks at a time: enough that weights are worth fetching, few enough
/// that their results stay in its cache.
const ROWS_AT_ONCE: usize = 192;
/// Tokens that a leaf of a batch takes forward and back at a time: few enough that what must be remembered of them is
/// small and near, enough that fetching weights for them costs little.
const TOKENS_AT_ONCE: usize = 1024;
/// The same if there are convolutions before the blocks, whose weights are standardized and packed for every part.
const CELLS_AT_ONCE: usize = 4096;

/// A batch, as a plan needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct BatchExtent {
    /// Tokens (or cells of a feature map) of an image.
    pub tokens: usize,
    /// Whether there are convolutions before the blocks.
    pub convolutions: bool,
}

/// The other lanes of a side, while the last part of it is computed: nothing is added to them anymore.
#[derive(Debug)]
pub(crate) struct Rest<'a, L> {
    pub(crate) before: &'a [L],
    pub(crate) after: &'a [L],
    /// Which of the sides that work at the same time, in the order of leaves.
    pub(crate) side: usize,
    pub(crate) sides: usize,
}

/// Cuts a batch of so many images into leaves, by halving it again and again; `count` is a power of two. With fewer
/// images than leaves, some are empty.
///
/// # Panics
/// If the count is not a power of two.
pub fn leaves(images: usize, count: usize) -> Vec<Range<usize>> {
    assert!(count.is_power_of_two(), "{count} leaves, which is not a power of two");
    let mut leaves: Vec<Range<usize>> = std::iter::once(0..images).collect();
    while leaves.len() < count {
        let halved = leaves.iter().flat_map(|leaf| {
            let middle = leaf.start + leaf.len().div_ceil(2);
            [leaf.start..middle, middle..leaf.end]
        });
        leaves = halved.collect();
    }
    leaves
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

    /// The parts of a leaf.
    fn parts(batch: BatchExtent, leaf: &Range<usize>) -> Vec<Range<usize>> {
        let at_once = if batch.convolutions { CELLS_AT_ONCE } else { TOKENS_AT_ONCE };
        let images = leaf.len();
        let parts = (images * batch.tokens / at_once).clamp(usize::from(images > 0), images);
        let at = |index: usize| leaf.start + images * index / parts.max(1);
        (0..parts).map(|index| at(index)..at(index + 1)).collect()
    }

    /// Takes the leaves of a batch through `task(device, images, lane, rest)`, the first half of them and the second at the
    /// same time if there are enough threads. Each leaf has its own lane; the last part of a side gets the others to look at.
    pub(crate) fn each_leaf<L: Send, T: Send, E: Send>(
        &self,
        batch: BatchExtent,
        leaves: &[Range<usize>],
        parameters: usize,
        lanes: &mut [L],
        task: impl Fn(&Cpu, Range<usize>, &mut L, Option<Rest<'_, L>>) -> Result<T, E> + Sync + Send,
    ) -> Result<Vec<T>, E> {
        assert_eq!(leaves.len(), lanes.len(), "each leaf has a lane");
        let cut: Vec<_> = leaves.iter().map(|leaf| Cpu::parts(batch, leaf)).collect();
        let packs = Some(Arc::new(PackCache::new(parameters, cut.iter().map(Vec::len).sum())));
        let run = |device: &Cpu, parts: &[Vec<Range<usize>>], lanes: &mut [L], (side, sides): (usize, usize)| {
            let last = parts.iter().rposition(|parts| !parts.is_empty());
            device.scope(|| {
                let mut done = Vec::new();
                for (index, parts) in parts.iter().enumerate() {
                    let (before, from) = lanes.split_at_mut(index);
                    let (lane, after) = from.split_first_mut().expect("each leaf has a lane");
                    for (number, images) in parts.iter().enumerate() {
                        let is_last = last == Some(index) && number + 1 == parts.len();
                        let rest = is_last.then_some(Rest { before, after, side, sides });
                        done.push(task(device, images.clone(), lane, rest)?);
                    }
                }
                Ok(done)
            })
        };
        let middle = leaves.len() / 2;
        let halves = self.halves.get_or_init(|| self.processor.halves()).as_ref().filter(|_| middle > 0);
        let Some(halves) = halves else {
            return run(&Cpu { packs, ..self.clone() }, &cut, lanes, (0, 1));
        };
        let [one, other] =
            halves.clone().map(|half| Cpu { packs: packs.clone(), precision: self.precision, ..Cpu::of(half) });
        let (first, second) = lanes.split_at_mut(middle);
        let (front, back) = self
            .processor
            .both(|| run(&one, &cut[..middle], first, (0, 2)), || run(&other, &cut[middle..], second, (1, 2)));
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
                for (convolutions, count) in [(false, 1), (true, 2), (false, 4), (true, 8)] {
                    let batch = BatchExtent { tokens, convolutions };
                    let cut = leaves(images, count);
                    let all: Vec<usize> = cut.iter().flat_map(|leaf| Cpu::parts(batch, leaf)).flatten().collect();
                    assert_eq!(all, (0..images).collect::<Vec<_>>());
                    // A half of the batch has the leaves that half as many would make of it.
                    if let Some(first) = cut.get(..count / 2).filter(|first| !first.is_empty()) {
                        assert_eq!(*first, leaves(images.div_ceil(2), count / 2));
                    }
                }
                let groups = Cpu::with_threads(3).inference_groups(images, tokens);
                let all: Vec<usize> = groups.into_iter().flatten().collect();
                assert_eq!(all, (0..images / 3 * 3).collect::<Vec<_>>());
            }
        }
    }
}
