//! Makes an index, or brings one up to date: only images that are new or have changed are computed.

use std::collections::HashMap;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use vitral_engine::DeviceError;

use super::SearchError;
use super::index::{Entry, FileState, Index};
use super::origin::Origin;
use super::pixels::{SMALL, small};
use crate::error::Error;
use crate::image::{DecodeOptions, Image, ImageError, Note, open_for};
use crate::load::Model;
use crate::pipeline::{BatchOptions, batches};

/// An image to put into an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path below the folder, with `/` between folders.
    pub name: String,
    /// Its label.
    pub label: Option<String>,
}

/// How images are read and computed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BuildOptions {
    decode: DecodeOptions,
    batch: NonZero<usize>,
    threads: NonZero<usize>,
}

impl BuildOptions {
    /// Reads images on this many threads.
    pub fn new(threads: NonZero<usize>) -> Self {
        let batch = const { NonZero::new(8).expect("positive") };
        BuildOptions { decode: DecodeOptions::default(), batch, threads }
    }

    /// How images are decoded.
    #[must_use]
    pub fn decode(mut self, options: DecodeOptions) -> Self {
        self.decode = options;
        self
    }

    /// Images in a batch; they do not affect the results.
    #[must_use]
    pub fn batch(mut self, images: NonZero<usize>) -> Self {
        self.batch = images;
        self
    }
}

/// What has just been done.
#[derive(Debug, Default)]
pub struct Done {
    /// Images that were computed.
    pub images: usize,
    /// Images that could not be, and why.
    pub faults: Vec<(String, String)>,
    /// What there is to say about images.
    pub notes: Vec<(String, Note)>,
}

/// Whether all images were reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of them.
    Complete,
    /// `each` asked to stop; the index holds what is done.
    Stopped,
}

/// An index that is being made.
#[derive(Debug)]
pub struct Builder {
    index: Index,
    todo: Vec<(Listed, FileState)>,
    kept: usize,
    gone: usize,
}

impl Builder {
    /// Begins an index of the images `listed` in `folder`. What `previous` knows of images that have not changed is kept;
    /// images that are no longer there are left out.
    ///
    /// # Errors
    /// If `previous` has another origin.
    pub fn new(
        origin: Origin,
        folder: &Path,
        listed: Vec<Listed>,
        previous: Option<&Index>,
    ) -> Result<Self, SearchError> {
        let mut index = Index::new(origin, folder);
        if let Some(previous) = previous {
            previous.origin.check(&index.origin)?;
            // What is kept was computed with it.
            index.origin.test.clone_from(&previous.origin.test);
        }
        let entries = previous.map_or(&[][..], Index::entries);
        let known: HashMap<&str, usize> = entries.iter().enumerate().map(|(row, old)| (&*old.name, row)).collect();
        let (mut todo, mut kept) = (Vec::new(), 0);
        let mut there = 0;
        for one in listed {
            let state = state(&folder.join(&one.name));
            let row = known.get(&*one.name).copied();
            there += usize::from(row.is_some());
            match (row, previous) {
                (Some(row), Some(previous)) if entries[row].state == state => {
                    index.push(
                        Entry { label: one.label, ..entries[row].clone() },
                        previous.rows(row..row + 1),
                        previous.small(row),
                    );
                    kept += 1;
                }
                _ => todo.push((one, state)),
            }
        }
        index.missing = todo.len();
        Ok(Builder { index, todo, kept, gone: entries.len() - there })
    }

    /// Images to compute.
    pub fn todo(&self) -> usize {
        self.todo.len()
    }

    /// Images whose features are kept.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Images of the previous index that are no longer there.
    pub fn gone(&self) -> usize {
        self.gone
    }

    /// Computes what is to be done. After each batch, `each` gets the index so far, and decides whether to go on; images
    /// that cannot be used are told to it and left out.
    ///
    /// # Errors
    /// If the model or the device fails, or `each` does.
    pub fn run<E: From<SearchError>>(
        mut self,
        model: &Model,
        options: &BuildOptions,
        mut each: impl FnMut(&Index, Done) -> Result<ControlFlow<()>, E>,
    ) -> Result<(Index, Ended), E> {
        let todo = std::mem::take(&mut self.todo);
        let mut index = self.index;
        let pool = index.origin.pool();
        let (seen, notes) = (Mutex::new(HashMap::new()), Mutex::new(Vec::new()));
        let folder = index.folder.clone();
        let places: Vec<usize> = (0..todo.len()).collect();
        let preprocess = model.preprocess().map_err(SearchError::from)?;
        let channels = preprocess.channels;
        let read = |&place: &usize| -> Result<Image, ImageError> {
            let name = &todo[place].0.name;
            let decoded = open_for(folder.join(name), channels, &options.decode)?;
            let said = decoded.notes().iter().map(|&note| (name.clone(), note));
            notes.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
            let image = decoded.into_image();
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(place, (hash(&image), brightness(&image)));
            Ok(image)
        };
        let batching = BatchOptions { batch: options.batch, threads: options.threads };
        let device = model.parameters().device();
        let ended = batches(&places, &preprocess, batching, device, read, |batch| -> Result<(), Halt<E>> {
            let fault = |(place, error): &(usize, ImageError)| (todo[*place].0.name.clone(), error.to_string());
            let mut done = Done { faults: batch.faults.iter().map(fault).collect(), ..Done::default() };
            if !batch.indices.is_empty() {
                let features = model.features(&batch.pixels, pool).map_err(SearchError::from)?;
                let features = features.to_vec().map_err(SearchError::from)?;
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                for (&place, features) in batch.indices.iter().zip(features.chunks_exact(index.width())) {
                    let (Listed { name, label }, state) = todo[place].clone();
                    if !features.iter().all(|value| value.is_finite()) {
                        let fault = "expected finite features, found infinity or NaN; this model cannot look at it";
                        done.faults.push((name, fault.to_owned()));
                        continue;
                    }
                    let (pixels, small) = seen.remove(&place).unwrap_or(([0; 16], [0; SMALL]));
                    index.push(Entry { name, label, state, pixels }, features, &small);
                    done.images += 1;
                }
            }
            done.notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
            index.missing -= done.images + done.faults.len();
            match each(&index, done).map_err(Halt::Fault)? {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Halt::Stop),
            }
        });
        let ended = match ended {
            Ok(()) => Ended::Complete,
            Err(Halt::Stop) => Ended::Stopped,
            Err(Halt::Fault(fault)) => return Err(fault),
        };
        index.sort();
        Ok((index, ended))
    }
}

/// Why batches end early.
enum Halt<E> {
    Stop,
    Fault(E),
}

impl<E: From<SearchError>> From<DeviceError> for Halt<E> {
    fn from(fault: DeviceError) -> Self {
        Halt::Fault(SearchError::from(fault).into())
    }
}

impl<E: From<SearchError>> From<SearchError> for Halt<E> {
    fn from(fault: SearchError) -> Self {
        Halt::Fault(fault.into())
    }
}

impl From<ImageError> for SearchError {
    fn from(fault: ImageError) -> Self {
        Error::from(fault).into()
    }
}

/// The state of a file; all zero if it cannot be looked at, which reading it reports.
fn state(path: &Path) -> FileState {
    let Ok(about) = path.metadata() else { return FileState::default() };
    let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let written = since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0);
    FileState { bytes: about.len(), written }
}

/// An image in few gray pixels; one of bands as it is shown.
fn brightness(image: &Image) -> [u8; SMALL] {
    match image {
        Image::Rgb(image) => small(image),
        Image::Bands(image) => small(&image.to_rgb()),
    }
}

/// A hash of an image's pixels and extents.
fn hash(image: &Image) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update((image.size().width as u64).to_le_bytes());
    hasher.update((image.size().height as u64).to_le_bytes());
    match image {
        Image::Rgb(image) => hasher.update(image.pixels()),
        Image::Bands(image) => image.values().iter().for_each(|value| hasher.update(value.to_le_bytes())),
    }
    let whole: [u8; 32] = hasher.finalize().into();
    *whole.first_chunk().expect("half of it")
}
