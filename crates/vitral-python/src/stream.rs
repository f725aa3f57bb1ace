//! Many images through a model, batch by batch: images are decoded ahead, on threads of their own.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyTuple};
use vitral::config::Problem;
use vitral::features::FeatureKind;
use vitral::image::ImageError;
use vitral::labels::{Ranked, top};
use vitral::pipeline::{Batch, BatchOptions, Feed};

use crate::answers::{array, said};
use crate::faults::Fault;
use crate::interrupt::run;
use crate::loaded::Loaded;
use crate::log::{Level, log};
use crate::sources::{Notes, Source};

/// What is wanted of each image.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// So many classes, with what their logits become.
    Classify(usize, Problem),
    Embed(FeatureKind),
    Preprocess,
}

/// What a batch gives.
enum Found {
    Ranked(Vec<Vec<Ranked>>),
    /// A shape, and its values.
    Values(Vec<usize>, Vec<f32>),
}

/// An iterator over batches: the places of images, `(place, message)` of those that cannot be read, and the results.
#[pyclass(module = "vitral._native")]
pub(crate) struct Stream {
    model: Arc<Loaded>,
    images: Py<PyIterator>,
    /// `None` after the last batch, and after an error.
    feed: Mutex<Option<Feed<Source>>>,
    task: Task,
    notes: Notes,
    /// Images to take at most before a result is given; none if as many as are worth it.
    at_once: Option<usize>,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(
        model: &Arc<Loaded>,
        images: Bound<'_, PyIterator>,
        task: Task,
        batch: NonZero<usize>,
        in_step: bool,
    ) -> Result<Self, Fault> {
        let preprocess = model.model.preprocess()?;
        let (notes, decoding) = (Notes::default(), model.decoding);
        let kept = notes.clone();
        let options = BatchOptions { batch, threads: model.threads };
        let channels = preprocess.channels;
        let feed = Feed::new(preprocess, options, move |source: Source| source.read(channels, &decoding, &kept));
        Ok(Stream {
            model: Arc::clone(model),
            images: images.unbind(),
            feed: Mutex::new(Some(feed)),
            task,
            notes,
            at_once: in_step.then_some(batch.get()),
            ended: false,
        })
    }

    fn place(&mut self) -> &mut Option<Feed<Source>> {
        self.feed.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes images, as many as are worth it.
    fn fill(&mut self, py: Python<'_>, feed: &mut Feed<Source>) -> PyResult<()> {
        let mut images = self.images.bind(py).clone();
        while !self.ended && self.at_once.map_or(feed.room(), |most| most.saturating_sub(feed.waiting())) > 0 {
            match images.next() {
                Some(image) => feed.push(Source::of(&image?)?),
                None => self.ended = true,
            }
        }
        Ok(())
    }
}

#[pymethods]
impl Stream {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(mut feed) = self.place().take() else { return Ok(None) };
        self.fill(py, &mut feed)?;
        let (model, task) = (Arc::clone(&self.model), self.task);
        let done = run(py, move |_| -> Result<_, Fault> {
            let Some(batch) = feed.next(model.model.parameters().device())? else { return Ok(None) };
            let found = of_batch(&model, task, &batch)?;
            Ok(Some((feed, batch.indices, batch.faults, found)))
        })?;
        for note in self.notes.take() {
            log(py, Level::Warning, &note)?;
        }
        let Some((feed, places, faults, found)) = done? else { return Ok(None) };
        *self.place() = Some(feed);
        let message = |(place, fault): &(usize, ImageError)| (*place, said(*place, fault));
        let faults: Vec<(usize, String)> = faults.iter().map(message).collect();
        let found = match found {
            Found::Values(shape, values) => array(py, &shape, values)?,
            Found::Ranked(rows) => {
                let row = |row: Vec<Ranked>| row.into_iter().map(|r| (r.label, r.probability, r.class, r.logit));
                let rows: Vec<Vec<_>> = rows.into_iter().map(|ranked| row(ranked).collect()).collect();
                PyList::new(py, rows)?.into_any()
            }
        };
        Ok(Some((places, faults, found).into_pyobject(py)?))
    }
}

/// Runs the model over a batch.
fn of_batch(loaded: &Loaded, task: Task, batch: &Batch) -> Result<Found, Fault> {
    let model = &loaded.model;
    let none = batch.indices.is_empty();
    match task {
        Task::Classify(..) if none => Ok(Found::Ranked(Vec::new())),
        _ if none => Ok(Found::Values(vec![0], Vec::new())),
        Task::Classify(count, problem) => {
            let logits = model.logits(&batch.pixels)?;
            let classes = logits.shape().last();
            let rank = |logits: &[f32]| top(logits, count, model.labels(), problem);
            Ok(Found::Ranked(logits.to_vec()?.chunks_exact(classes).map(rank).collect()))
        }
        Task::Embed(kind) => {
            let features = model.features(&batch.pixels, kind)?;
            Ok(Found::Values(features.shape().to_vec(), features.to_vec()?))
        }
        Task::Preprocess => Ok(Found::Values(batch.pixels.shape().to_vec(), batch.pixels.to_vec()?)),
    }
}
