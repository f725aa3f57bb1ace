//! Images cached in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use vitral::image::Image;
use vitral::image::preprocess::Channels;

use super::Dataset;
use crate::error::TrainError;
use crate::labeling::Labeling;

/// A data set that keeps decoded images in memory, up to a limit. Images that do not fit are decoded every time; the
/// results are the same.
#[derive(Debug)]
pub struct Cached {
    inner: Arc<dyn Dataset>,
    kept: Vec<OnceLock<(Channels, Image)>>,
    bytes: AtomicU64,
    limit: u64,
}

impl Cached {
    /// Keeps at most `limit` bytes of pixels.
    pub fn new(inner: Arc<dyn Dataset>, limit: u64) -> Self {
        let kept = (0..inner.len()).map(|_| OnceLock::new()).collect();
        Cached { inner, kept, bytes: AtomicU64::new(0), limit }
    }
}

impl Dataset for Cached {
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn label(&self, index: usize) -> usize {
        self.inner.label(index)
    }

    fn labeling(&self) -> Labeling {
        self.inner.labeling()
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.inner.labels(index)
    }

    fn values(&self, index: usize) -> Vec<f32> {
        self.inner.values(index)
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        if let Some((_, image)) = self.kept[index].get().filter(|(kept, _)| *kept == channels) {
            return Ok(image.clone());
        }
        let image = self.inner.image_for(index, channels)?;
        let size = image.bytes();
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > self.limit
            || self.kept[index].set((channels, image.clone())).is_err()
        {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
        }
        Ok(image)
    }
}
