//! A subset of the images of a data set.

use std::sync::Arc;

use vitral::image::Image;
use vitral::image::preprocess::Channels;

use super::{Dataset, shuffled};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// A subset of the images of a data set, in an order of its own.
#[derive(Debug)]
pub struct Subset {
    inner: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The images at these indices.
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn new(inner: Arc<dyn Dataset>, indices: Vec<usize>) -> Self {
        assert!(indices.iter().all(|&index| index < inner.len()), "a subset of {} images", inner.len());
        Subset { inner, indices }
    }

    /// Splits a data set in two: about `fraction` of every class, drawn with the seed, and the rest. A class with one
    /// image goes to the rest; of others, at least one image goes to either side, unless the fraction is 0 or 1.
    pub fn parted(inner: &Arc<dyn Dataset>, fraction: f32, seed: u64) -> (Self, Self) {
        let (mut some, mut rest) = (Vec::new(), Vec::new());
        for members in by_class(inner.as_ref(), seed) {
            let wanted = (members.len() as f64 * f64::from(fraction)).round() as usize;
            let most = if fraction < 1.0 { members.len().saturating_sub(1) } else { members.len() };
            let (first, second) = members.split_at(if fraction > 0.0 { wanted.max(1).min(most) } else { 0 });
            some.extend_from_slice(first);
            rest.extend_from_slice(second);
        }
        some.sort_unstable();
        rest.sort_unstable();
        (Subset { inner: inner.clone(), indices: some }, Subset { inner: inner.clone(), indices: rest })
    }

    /// At most this many images of each class, drawn with the seed.
    pub fn shots(inner: &Arc<dyn Dataset>, shots: usize, seed: u64) -> Self {
        let indices = by_class(inner.as_ref(), seed).into_iter().flat_map(|members| members.into_iter().take(shots));
        let mut indices: Vec<usize> = indices.collect();
        indices.sort_unstable();
        Subset { inner: inner.clone(), indices }
    }

    /// A fraction of every class, at least one image of each, drawn with the seed. Larger fractions contain smaller
    /// ones.
    pub fn share(inner: &Arc<dyn Dataset>, fraction: f64, seed: u64) -> Self {
        let wanted = |members: usize| ((members as f64 * fraction).round() as usize).max(1);
        let some = |members: Vec<usize>| {
            let count = wanted(members.len());
            members.into_iter().take(count)
        };
        let mut indices: Vec<usize> = by_class(inner.as_ref(), seed).into_iter().flat_map(some).collect();
        indices.sort_unstable();
        Subset { inner: inner.clone(), indices }
    }

    /// An image's index in the whole set.
    pub fn original(&self, index: usize) -> usize {
        self.indices[index]
    }
}

/// The images of every class, shuffled.
fn by_class(dataset: &dyn Dataset, seed: u64) -> Vec<Vec<usize>> {
    let mut classes = vec![Vec::new(); dataset.classes().len()];
    for index in shuffled(dataset.len(), seed, 0) {
        classes[dataset.label(index)].push(index);
    }
    classes
}

impl Dataset for Subset {
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn label(&self, index: usize) -> usize {
        self.inner.label(self.indices[index])
    }

    fn labeling(&self) -> Labeling {
        self.inner.labeling()
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.inner.labels(self.indices[index])
    }

    fn values(&self, index: usize) -> Vec<f32> {
        self.inner.values(self.indices[index])
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(self.indices[index])
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        self.inner.image_for(self.indices[index], channels)
    }
}
