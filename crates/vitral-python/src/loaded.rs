//! A loaded model, and how it is found.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use vitral::image::DecodeOptions;
use vitral::weights::hub;
use vitral::{Device, LoadOptions, Model as Vitral};

use crate::faults::Fault;
use crate::interrupt::Teller;
use crate::log::{Level, Report};

/// Multiply-accumulates of a batch, at most, if nobody says how large it is: less than a second, on a slow processor.
const BATCH_MACS: u64 = 150_000_000_000;

/// Images in a batch, at most, if nobody says.
const BATCH: usize = 8;

/// A model, and what is needed to use it. It knows nothing of Python, so that threads may outlive the call they work for.
pub(crate) struct Loaded {
    pub(crate) model: Vitral,
    pub(crate) threads: NonZero<usize>,
    pub(crate) decoding: DecodeOptions,
    /// The path or the name that was given.
    pub(crate) given: Option<PathBuf>,
    /// The file that describes the model, if it was given.
    pub(crate) config: Option<PathBuf>,
}

impl Loaded {
    /// Images in a batch. Results do not depend on it.
    pub(crate) fn batch(&self, asked: Option<usize>) -> Result<NonZero<usize>, Fault> {
        if let Some(asked) = asked {
            return NonZero::new(asked).ok_or_else(|| {
                Fault::config("`batch_size`: expected at least 1, found 0; leave it out for the default")
            });
        }
        let config = self.model.vit().config();
        let size = self.model.preprocess().ok().and_then(|preprocess| preprocess.output_size());
        let macs = self.model.vit().macs(size.unwrap_or(config.image_size)).map_or(1, |macs| macs.total().max(1));
        let threads = self.threads.get();
        let most = usize::try_from(BATCH_MACS / macs).unwrap_or(usize::MAX).clamp(1, BATCH);
        // Every thread gets the same number of images.
        Ok(NonZero::new(most.next_multiple_of(threads)).unwrap_or(NonZero::<usize>::MIN))
    }
}

/// Loads a model by its path or name; without one the built-in model.
pub(crate) fn load<R>(
    path: Option<PathBuf>,
    options: &LoadOptions,
    device: &Device,
    teller: &Teller<R>,
) -> Result<Vitral, Fault> {
    match path {
        Some(path) => Ok(Vitral::load(located(&path, teller)?, options, device)?),
        None => Ok(Vitral::embedded_with(options, device)?),
    }
}

/// The folder of a model given by its path, or by its name on a hub, which is then downloaded.
pub(crate) fn located<R>(path: &Path, teller: &Teller<R>) -> Result<PathBuf, Fault> {
    let Some(name) = path.to_str() else { return Ok(path.to_owned()) };
    let mut shown = String::new();
    let mut report = |progress: hub::Progress<'_>| {
        if progress.file != shown {
            shown = progress.file.to_owned();
            teller.tell(Report(Level::Info, format!("downloading `{shown}` of `{name}`")));
        }
    };
    Ok(hub::locate(name, &mut report)?)
}

/// What there is to say about a model that was loaded.
pub(crate) fn about(model: &Vitral) -> String {
    let (name, dialect, precision) = (model.name(), model.dialect(), model.precision());
    let device = model.parameters().device().described();
    let preprocess = match model.preprocess() {
        Ok(steps) => steps.to_string(),
        Err(vitral::Error::NoPreprocessing { .. }) => "not stated in the model's files".to_owned(),
        Err(fault) => fault.to_string(),
    };
    format!("loaded `{name}` ({dialect} names), computing in {precision} on {device}; preprocessing: {preprocess}")
}
