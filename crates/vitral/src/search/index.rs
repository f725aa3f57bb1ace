//! An index: features of images, with the images' names, and what tells whether an image has changed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::origin::Origin;
use super::pixels::SMALL;

/// One image of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the index's folder, with `/` between folders.
    pub name: String,
    /// Its label.
    pub label: Option<String>,
    /// The state of its file when it was read.
    pub state: FileState,
    /// A hash of its upright pixels and their extents: the first half of SHA-256.
    pub pixels: [u8; 16],
}

/// What changes when a file is written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub written: i64,
}

/// Features of images, in the order of their names.
#[derive(Clone, Debug)]
pub struct Index {
    pub(super) origin: Origin,
    pub(super) folder: PathBuf,
    /// Images whose features are still to be computed.
    pub(super) missing: usize,
    pub(super) entries: Vec<Entry>,
    /// `[images, width]`.
    pub(super) features: Vec<f32>,
    /// Small gray images, `[images, 32, 32]`.
    pub(super) small: Vec<u8>,
}

impl Index {
    /// An index without images, of those in `folder`.
    pub fn new(origin: Origin, folder: &Path) -> Self {
        let (entries, features, small) = (Vec::new(), Vec::new(), Vec::new());
        Index { origin, folder: folder.to_owned(), missing: 0, entries, features, small }
    }

    /// The same index, of images that are in another folder now.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = folder.to_owned();
        self
    }

    /// What the features were computed with.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The folder that the names are relative to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many images were not reached when the index was written, because the work was interrupted.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Numbers of a feature vector.
    pub fn width(&self) -> usize {
        self.origin.width()
    }

    /// The images, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The features as the model gave them, `[images, width]`.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// The features of some images, `[images, width]`.
    pub fn rows(&self, rows: Range<usize>) -> &[f32] {
        &self.features[rows.start * self.width()..rows.end * self.width()]
    }

    /// An image in gray, `[32, 32]`.
    pub(super) fn small(&self, row: usize) -> &[u8] {
        &self.small[row * SMALL..][..SMALL]
    }

    /// Where an image is.
    pub fn path(&self, row: usize) -> PathBuf {
        self.folder.join(&self.entries[row].name)
    }

    /// The classes that labels name, in order of name, and the class of each image; `None` unless every image has a label.
    pub fn classes(&self) -> Option<(Vec<String>, Vec<usize>)> {
        let labels: Option<Vec<&str>> = self.entries.iter().map(|entry| entry.label.as_deref()).collect();
        let labels = labels.filter(|labels| !labels.is_empty())?;
        let mut classes = labels.clone();
        classes.sort_unstable();
        classes.dedup();
        let class = |label: &&str| classes.binary_search(label).unwrap_or_default();
        let of_images = labels.iter().map(class).collect();
        Some((classes.into_iter().map(str::to_owned).collect(), of_images))
    }

    /// Adds an image.
    pub(super) fn push(&mut self, entry: Entry, features: &[f32], small: &[u8]) {
        debug_assert_eq!((features.len(), small.len()), (self.width(), SMALL), "one image");
        self.small.extend_from_slice(small);
        self.entries.push(entry);
        self.features.extend_from_slice(features);
    }

    /// Puts images in the order of their names.
    pub(super) fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|&a, &b| self.entries[a].name.cmp(&self.entries[b].name));
        if order.is_sorted() {
            return;
        }
        let features = order.iter().flat_map(|&row| self.rows(row..row + 1).iter().copied()).collect();
        self.small = order.iter().flat_map(|&row| self.small(row).iter().copied()).collect();
        self.entries = order.iter().map(|&row| self.entries[row].clone()).collect();
        self.features = features;
    }
}
