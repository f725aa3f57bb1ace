//! Who does what: the leaves of a batch and the moments of parameters, dealt to ranks.

use std::ops::Range;

use vitral_engine::{Device, Parameters, UpdateGroup, leaves};
use vitral_ranks::{Ranks, RanksError};

use crate::error::TrainError;

/// Checks that so many ranks can train on batches of so many leaves, and share moments if they are to.
///
/// # Errors
/// If they are not a power of two, more than the leaves, or cannot share moments on this device.
pub(crate) fn check(ranks: &Ranks, leaves: usize, share_moments: bool, device: &Device) -> Result<(), TrainError> {
    let recipe = |fault: String| TrainError::Recipe { path: "[run]".into(), fault };
    if !leaves.is_power_of_two() {
        return Err(recipe(format!("`leaves`: expected a power of two, found {}", leaves)));
    }
    let (size, most) = (ranks.size(), leaves);
    if !size.is_power_of_two() || size > most {
        let below = 1 << size.min(most).ilog2();
        let more = if size > most && size.is_power_of_two() {
            format!(", or set `run.leaves = {size}`")
        } else {
            String::new()
        };
        let expected = format!("a power of two up to the {most} leaves of a batch");
        return Err(RanksError::Count { expected, found: size, hint: format!("start {below}{more}") }.into());
    }
    if share_moments && ranks.is_several() && !matches!(device, Device::Cpu(_)) {
        return Err(recipe(format!("`share_moments`: expected the device cpu, found {}", device.name())));
    }
    Ok(())
}

/// The leaves of a batch of so many images that are this rank's.
pub(crate) fn own_leaves(images: usize, count: usize, ranks: &Ranks) -> Vec<Range<usize>> {
    let each = count / ranks.size();
    leaves(images, count).split_off(ranks.rank() * each).into_iter().take(each).collect()
}

/// The images of neighboring leaves.
pub(crate) fn span(leaves: &[Range<usize>]) -> Range<usize> {
    leaves.first().map_or(0, |leaf| leaf.start)..leaves.last().map_or(0, |leaf| leaf.end)
}

/// The groups of images of a batch within which images are mixed: its leaves if they have even numbers of images, so that
/// each has a partner, else pairs of leaves, and so on up to the whole batch. Nobody needs images of far leaves.
pub(crate) fn mixing_groups(images: usize, count: usize) -> Vec<Range<usize>> {
    let cuts = std::iter::successors(Some(count), |count| (*count > 1).then_some(count / 2));
    let mut groups = cuts.map(|count| leaves(images, count));
    let even = |groups: &Vec<Range<usize>>| groups.iter().all(|group| !group.is_empty() && group.len() % 2 == 0);
    groups.find(even).unwrap_or_else(|| leaves(images, 1))
}

/// Which parameters each rank updates, whose moments only it keeps: runs of whole tensors, about as many values each.
#[derive(Debug)]
pub(crate) struct Shares(Vec<Range<usize>>);

impl Shares {
    /// Shares of so many ranks.
    pub(crate) fn of(parameters: &Parameters, size: usize) -> Self {
        let total = parameters.flat().len();
        let flat = parameters.declarations().ids().filter(|&id| parameters.is_flat(id));
        let mut starts: Vec<usize> = flat.map(|id| parameters.range(id).start).chain([total]).collect();
        starts.sort_unstable();
        let nearest =
            |wanted: usize| starts.iter().copied().min_by_key(|start| start.abs_diff(wanted)).unwrap_or(total);
        let mut bounds: Vec<usize> = (0..=size).map(|rank| nearest(total * rank / size)).collect();
        (bounds[0], bounds[size]) = (0, total);
        Shares(bounds.windows(2).map(|pair| pair[0]..pair[1]).collect())
    }

    /// Everybody's, in the order of ranks.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        &self.0
    }

    /// A rank's.
    pub(crate) fn owned(&self, rank: usize) -> Range<usize> {
        self.0[rank].clone()
    }
}

/// The parts of groups that lie in a share.
pub(crate) fn cut(groups: &[UpdateGroup], share: &Range<usize>) -> Vec<UpdateGroup> {
    let inside = groups.iter().map(|group| UpdateGroup {
        range: group.range.start.max(share.start)..group.range.end.min(share.end),
        ..group.clone()
    });
    inside.filter(|group| !group.range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_mixed_in_the_smallest_groups_that_have_pairs() {
        assert_eq!(mixing_groups(16, 4), [0..4, 4..8, 8..12, 12..16]);
        assert_eq!(mixing_groups(12, 4), [0..6, 6..12]);
        for (images, count) in [(6, 4), (2, 4), (7, 4), (1, 1)] {
            let groups = mixing_groups(images, count);
            assert!(groups.len() == 1 && groups[0] == (0..images), "{images} in {count} leaves: {groups:?}");
        }
    }
}
