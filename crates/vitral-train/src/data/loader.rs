//! Batches, prepared ahead of the step that uses them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rayon::prelude::*;
use vitral::config::Size;
use vitral::image::preprocess::{Channels, Halving, Normalize, Rescale, Step, Target};
use vitral::image::{Filter, Image, Preprocess};
use vitral_engine::{Device, DeviceError};
use vitral_ranks::Ranks;

use super::sampling::Sampler;
use super::{Dataset, Order, Sampling, fault};
use crate::augment::Augment;
use crate::draws::Draws;
use crate::error::TrainError;
use crate::labeling::Labeling;
use crate::shares;
use crate::step::{Batch, Place};

/// Batches waiting for the consumer, besides the one being prepared.
const AHEAD: usize = 2;
/// Batches that are on the device ahead of the steps, at most: those, and one that waits for a place among them.
pub(crate) const LOADED: usize = AHEAD + 1;

/// What to do with images that do not fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBatch {
    /// Put them in a smaller batch.
    Keep,
    /// Leave them out of the epoch.
    Drop,
}

/// How batches are made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoaderOptions {
    /// Batch size.
    batch: usize,
    /// Seed for the order and every random choice.
    seed: u64,
    /// Channels, mean, standard deviation and size of the model's input, and the steps used if there is no random crop.
    preprocess: Preprocess,
    /// Data augmentation.
    augment: Augment,
    /// The epoch, from 0, from which augmentation is reduced ([`Augment::plainer`]).
    plain_from: u64,
    /// The order of an epoch.
    order: Order,
    /// How often the images of each class come in a shuffled epoch.
    sampling: Sampling,
    /// What to do with the last images.
    last: LastBatch,
    /// Threads that decode and augment; 0 means rayon's default, as many as for other work outside the device.
    threads: usize,
    /// Who works on the batches.
    ranks: Ranks,
    /// Leaves of a batch, which are dealt to ranks; without, whole batches are.
    leaves: Option<usize>,
}

impl LoaderOptions {
    /// Shuffled and augmented, complete batches only.
    pub fn training(preprocess: Preprocess, augment: Augment, batch: usize, seed: u64) -> Self {
        let (order, last) = (Order::Shuffled, LastBatch::Drop);
        LoaderOptions {
            batch,
            seed,
            preprocess,
            augment,
            plain_from: u64::MAX,
            order,
            sampling: Sampling::Each,
            last,
            threads: 0,
            ranks: Ranks::alone(),
            leaves: None,
        }
    }

    /// Every image once, in order, with the model's own preprocessing.
    pub fn evaluation(preprocess: Preprocess, batch: usize) -> Self {
        let (order, last) = (Order::Listed, LastBatch::Keep);
        let (augment, plain_from) = (Augment::default(), u64::MAX);
        let sampling = Sampling::Each;
        let (ranks, leaves) = (Ranks::alone(), None);
        LoaderOptions {
            batch,
            seed: 0,
            preprocess,
            augment,
            plain_from,
            order,
            sampling,
            last,
            threads: 0,
            ranks,
            leaves,
        }
    }

    /// Draws the images of a shuffled epoch by their classes.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Reduces augmentation from this epoch on, counted from 0 ([`Augment::plainer`]).
    #[must_use]
    pub fn plain_from(mut self, epoch: u64) -> Self {
        self.plain_from = epoch;
        self
    }

    /// Cuts each batch into leaves ([`vitral_engine::leaves`]), and gives a rank those that are its own. The images, and
    /// with whom they are mixed, depend on the number of leaves, not on that of ranks.
    #[must_use]
    pub fn in_leaves(mut self, leaves: usize, ranks: &Ranks) -> Self {
        (self.leaves, self.ranks) = (Some(leaves), ranks.clone());
        self
    }

    /// Gives whole batches to ranks, one after the other.
    #[must_use]
    pub fn dealt_to(mut self, ranks: &Ranks) -> Self {
        self.ranks = ranks.clone();
        self
    }

    /// Decodes and augments on this many threads; 0 is rayon's default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// Preprocessing for a model trained from scratch: short side resized to `size`, center crop, then mean and standard
/// deviation. One channel means grayscale.
pub fn plain(size: Size, filter: Filter, mean: &[f32], std: &[f32]) -> Preprocess {
    Preprocess {
        channels: if mean.len() == 1 { Channels::Gray } else { Channels::Rgb },
        steps: vec![
            Step::Resize { to: Target::Cover(size), filter },
            Step::CenterCrop { size, halving: Halving::Even, fill: [0; 3] },
        ],
        rescale: Some(Rescale::Divide255),
        normalize: Some(Normalize { mean: mean.to_vec(), std: std.to_vec() }),
    }
}

/// An image that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its index in the data set.
    pub index: usize,
    /// The error, including the image's name.
    pub fault: String,
}

/// Prepares batches of a data set.
///
/// A batch depends only on the seed, the epoch and the batch's number, not on threads and ranks, so a run can resume at any
/// batch. An image that cannot be used is recorded once; in a shuffled epoch the next usable one of the data set
/// replaces it, in a listed one it is left out.
#[derive(Debug)]
pub struct Loader {
    work: Arc<Work>,
    device: Device,
}

#[derive(Debug)]
struct Work {
    dataset: Arc<dyn Dataset>,
    options: LoaderOptions,
    plainer: Augment,
    numbers: Preprocess,
    /// The size of every image, if it is the same.
    size: Option<Size>,
    sampler: Sampler,
    pool: rayon::ThreadPool,
    skipped: Mutex<BTreeMap<usize, String>>,
}

impl Loader {
    /// A loader for a data set, with batches uploaded to a device.
    ///
    /// # Errors
    /// If there are no images, no batch can be filled, the augmentation is out of range, or the preprocessing does not produce a
    /// fixed size for a shuffled epoch.
    pub fn new(dataset: Arc<dyn Dataset>, options: LoaderOptions, device: &Device) -> Result<Self, TrainError> {
        let wrong = |what: String, hint| Err(fault(std::path::Path::new("data"), what, hint));
        options.augment.check()?;
        if matches!(options.preprocess.channels, Channels::Bands(_)) {
            options.augment.check_bands()?;
        }
        let size = options.preprocess.output_size();
        // Images of different sizes are batches of their own.
        let alone = size.is_none() && options.order == Order::Listed && options.augment.is_still();
        if size.is_none() && !alone {
            return wrong("expected preprocessing that produces a fixed size, found none".into(), "end it with a crop");
        }
        let options = LoaderOptions { batch: if alone { options.batch.min(1) } else { options.batch }, ..options };
        let images = dataset.len();
        if images == 0 || options.batch == 0 || options.last == LastBatch::Drop && images < options.batch {
            let found = format!("expected at least one batch of {}, found {images} images", options.batch);
            return wrong(found, "add images, or use a smaller batch");
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(if options.threads == 0 { rayon::current_num_threads() } else { options.threads })
            .thread_name(|index| format!("vitral-data-{index}"))
            .build();
        let pool = match pool {
            Ok(pool) => pool,
            Err(error) => return wrong(format!("cannot start threads: {error}"), "use fewer `threads`"),
        };
        let numbers = Preprocess { steps: Vec::new(), ..options.preprocess.clone() };
        let plainer = options.augment.plainer();
        let sampler = Sampler::new(options.sampling, dataset.as_ref());
        let work = Work { dataset, options, plainer, numbers, size, sampler, pool, skipped: Mutex::default() };
        Ok(Loader { work: Arc::new(work), device: device.clone() })
    }

    /// What images are decoded to.
    pub fn channels(&self) -> Channels {
        self.work.options.preprocess.channels
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.work.dataset
    }

    /// Number of batches in an epoch.
    pub fn batches(&self) -> usize {
        match self.work.options.last {
            LastBatch::Keep => self.work.dataset.len().div_ceil(self.work.options.batch),
            LastBatch::Drop => self.work.dataset.len() / self.work.options.batch,
        }
    }

    /// Who works on the batches.
    pub fn ranks(&self) -> &Ranks {
        &self.work.options.ranks
    }

    /// The number of a batch of a listed epoch, from its place.
    pub(crate) fn number(&self, place: Place) -> usize {
        place.first / self.work.options.batch
    }

    /// Notes images that others could not use.
    pub(crate) fn note_skipped(&self, others: impl IntoIterator<Item = (usize, String)>) {
        self.work.noted().extend(others);
    }

    /// Images that could not be used so far, in the order of the data set; what other ranks met is
    /// known once the epoch was gathered.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.work.noted().iter().map(|(&index, fault)| Skipped { index, fault: fault.clone() }).collect()
    }

    /// The batches of an epoch, starting from a given one, prepared ahead by other threads.
    pub fn epoch(&self, epoch: u64, from_batch: usize) -> Epoch {
        let (send, receive) = sync_channel(AHEAD);
        let (work, range, device) = (self.work.clone(), from_batch..self.batches(), self.device.clone());
        let thread = std::thread::spawn(move || work.run(epoch, range, &device, &send));
        Epoch { receive: Some(receive), thread: Some(thread) }
    }
}

/// The batches of an epoch.
#[derive(Debug)]
pub struct Epoch {
    receive: Option<Receiver<Result<Batch, TrainError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Epoch {
    type Item = Result<Batch, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Ok(batch) = self.receive.as_ref()?.recv() else {
            // After the last batch the thread has ended; if it panicked, this is not the end of the epoch.
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
            return None;
        };
        Some(batch)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        // With the receiver gone, the thread ends at its next batch.
        self.receive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The model's input for an image: its size, and its numbers.
type Made = (Size, Vec<f32>);

/// A batch before it is on a device.
struct Prepared {
    shape: [usize; 4],
    pixels: Vec<f32>,
    targets: Vec<f32>,
    labels: Vec<usize>,
    place: Place,
}

impl Prepared {
    fn on(self, device: &Device) -> Result<Batch, DeviceError> {
        let Prepared { shape, pixels, targets, labels, place } = self;
        Ok(Batch {
            pixels: device.upload(shape, &pixels)?,
            targets: device.upload([labels.len(), targets.len() / labels.len().max(1)], &targets)?,
            labels,
            place,
            hidden: None,
        })
    }
}

/// A rank's part of a batch, in places of images.
struct Part {
    own: Range<usize>,
    /// The images to prepare: its own, and those that they are mixed with.
    needed: Range<usize>,
    /// The groups in which they are mixed, in places among the prepared ones.
    groups: Vec<Range<usize>>,
}

impl Work {
    fn noted(&self) -> MutexGuard<'_, BTreeMap<usize, String>> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The augmentation in an epoch.
    fn augment(&self, epoch: u64) -> &Augment {
        if epoch < self.options.plain_from { &self.options.augment } else { &self.plainer }
    }

    fn run(&self, epoch: u64, range: Range<usize>, device: &Device, send: &SyncSender<Result<Batch, TrainError>>) {
        let LoaderOptions { batch, seed, order, .. } = self.options;
        let count = self.dataset.len();
        let order = match order {
            Order::Shuffled => self.options.augment.repeated(self.sampler.order(seed, epoch)),
            Order::Listed => (0..count).collect(),
        };
        // Whole batches go to ranks by turns.
        let ranks = &self.options.ranks;
        let turn = |number: &usize| self.options.leaves.is_some() || number % ranks.size() == ranks.rank();
        for number in range.filter(turn) {
            let places = number * batch..((number + 1) * batch).min(count);
            let prepared = self.prepare(epoch, number, &order[places.clone()], places.start);
            // A GPU copies what comes next while it computes.
            let prepared =
                prepared.and_then(|prepared| Ok(prepared.map(|prepared| prepared.on(device)).transpose()?));
            let failed = prepared.is_err();
            if let Some(prepared) = prepared.transpose()
                && (send.send(prepared).is_err() || failed)
            {
                return;
            }
        }
    }

    /// A batch, or this rank's part of it; `None` if none of the images of a listed batch can be used.
    fn prepare(
        &self,
        epoch: u64,
        number: usize,
        indices: &[usize],
        first_place: usize,
    ) -> Result<Option<Prepared>, TrainError> {
        let (seed, augment) = (self.options.seed, self.augment(epoch));
        let Part { own, needed, groups } = self.part(indices.len(), augment);
        let one = |(offset, &index): (usize, &usize)| {
            // The position distinguishes the repetitions of one image.
            let repeated = augment.repeats > 1 || self.sampler.repeats();
            let repetition = if repeated { (first_place + needed.start + offset) as u64 } else { 0 };
            self.usable(index, augment, Draws::new(seed ^ repetition.rotate_left(32), epoch, index as u64))
        };
        let wanted = indices[needed.clone()].par_iter().enumerate();
        let made: Vec<_> = self.pool.install(|| wanted.map(one).collect::<Result<_, _>>())?;
        let made: Vec<(usize, Made)> = made.into_iter().flatten().collect();
        let listed = self.options.order == Order::Listed;
        if made.is_empty() && listed {
            return Ok(None);
        }
        let classes = self.dataset.classes().len();
        let (mut pixels, mut targets) = (Vec::new(), Vec::new());
        for (index, (_, numbers)) in &made {
            pixels.extend_from_slice(numbers);
            match self.dataset.labeling() {
                Labeling::Number => targets.extend(self.dataset.values(*index)),
                labeling => augment.target(&self.dataset.labels(*index), classes, labeling, &mut targets),
            }
        }
        let channels = self.options.preprocess.channels.count();
        let size = made.first().map(|(_, (size, _))| *size).or(self.size).unwrap_or(Size { height: 0, width: 0 });
        let shape = [made.len(), channels, size.height, size.width];
        let mut draws = Draws::new(seed, epoch, !(number as u64) ^ 1 << 63);
        augment.mix(shape, &groups, &mut pixels, &mut targets, &mut draws);
        augment.decide(&mut targets);
        let mut labels: Vec<usize> = made.iter().map(|(index, _)| self.dataset.label(*index)).collect();
        if listed {
            let place = Place { first: first_place, of: self.dataset.len() };
            return Ok(Some(Prepared { shape, pixels, targets, labels, place }));
        }
        // Of the images that others were mixed with, the own ones stay.
        let kept = own.start - needed.start..own.end - needed.start;
        let cut = |values: &mut Vec<f32>| {
            let each = values.len() / made.len().max(1);
            values.truncate(kept.end * each);
            values.drain(..kept.start * each);
        };
        cut(&mut pixels);
        cut(&mut targets);
        labels.truncate(kept.end);
        labels.drain(..kept.start);
        let shape = [own.len(), channels, size.height, size.width];
        Ok(Some(Prepared { shape, pixels, targets, labels, place: Place { first: own.start, of: indices.len() } }))
    }

    /// Which of a batch's images this rank trains on, which it needs for that, and the groups in which they are mixed.
    fn part(&self, images: usize, augment: &Augment) -> Part {
        let Some(count) = self.options.leaves else {
            return Part { own: 0..images, needed: 0..images, groups: shares::mixing_groups(images, 1) };
        };
        let own = shares::span(&shares::own_leaves(images, count, &self.options.ranks));
        if !augment.mixes() {
            return Part { own: own.clone(), needed: own, groups: Vec::new() };
        }
        let mut groups = shares::mixing_groups(images, count);
        groups.retain(|group| group.start < own.end && own.start < group.end);
        let needed = shares::span(&groups);
        groups.iter_mut().for_each(|group| *group = group.start - needed.start..group.end - needed.start);
        Part { own, needed, groups }
    }

    /// The image at an index, or the next one that can be used.
    fn usable(&self, index: usize, augment: &Augment, draws: Draws) -> Result<Option<(usize, Made)>, TrainError> {
        let count = self.dataset.len();
        for step in 0..count {
            let index = (index + step) % count;
            let known = self.noted().contains_key(&index);
            if !known {
                let image = self.dataset.image_for(index, self.options.preprocess.channels);
                match image.and_then(|image| self.numbers(&image, augment, draws.clone())) {
                    Ok(numbers) => return Ok(Some((index, numbers))),
                    Err(error) => {
                        let (name, fault) = (self.dataset.name(index), error.to_string());
                        let fault = if fault.contains(&name) { fault } else { format!("`{name}`: {fault}") };
                        self.noted().insert(index, fault);
                    }
                }
            }
            if self.options.order == Order::Listed {
                return Ok(None);
            }
        }
        let first = self.noted().values().next().cloned().unwrap_or_default();
        let found = format!("expected images that can be read, found none among {count}; the first: {first}");
        Err(fault(std::path::Path::new(&self.dataset.name(0)), found, "check the paths, or replace the files"))
    }

    /// The model's input for an image, and its size.
    fn numbers(&self, image: &Image, augment: &Augment, mut draws: Draws) -> Result<Made, TrainError> {
        let still = || self.options.preprocess.apply(image).map_err(vitral::Error::from);
        let Some(fixed) = self.size else {
            return Ok((self.options.preprocess.output_size_for(image.size()), still()?));
        };
        if augment.is_still() {
            return Ok((fixed, still()?));
        }
        let numbers = match image {
            Image::Rgb(image) => {
                let shown = match augment.cut(image, fixed, &mut draws) {
                    Some(cut) => cut,
                    None => {
                        let channels = Channels::Rgb;
                        let steps = Preprocess { channels, normalize: None, ..self.options.preprocess.clone() };
                        steps.image(image).map_err(vitral::Error::from)?
                    }
                };
                self.numbers.apply(&augment.alter(shown, &mut draws))
            }
            Image::Bands(image) => {
                let shown = match augment.cut(image, fixed, &mut draws) {
                    Some(cut) => cut,
                    None => self.options.preprocess.bands(image).map_err(vitral::Error::from)?.into_owned(),
                };
                self.numbers.apply(&augment.flip(shown, &mut draws))
            }
        };
        let mut numbers = numbers.map_err(vitral::Error::from)?;
        augment.erase(&mut numbers, self.numbers.channels.count(), fixed, &mut draws);
        Ok((fixed, numbers))
    }
}
