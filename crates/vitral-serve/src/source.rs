//! Where a model comes from.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[cfg(feature = "embedded-model")]
use vitral::Precision;
use vitral::text::TextModel;
use vitral::weights::WeightsError;
use vitral::{Device, Error, LoadOptions, Model};

/// Where a model comes from, so that it can be loaded, and loaded again.
#[derive(Clone, Debug)]
pub struct ModelSource(From);

#[derive(Clone, Debug)]
enum From {
    #[cfg(feature = "embedded-model")]
    Embedded {
        precision: Option<Precision>,
    },
    Path {
        path: PathBuf,
        options: Box<LoadOptions>,
    },
}

/// What a model's files looked like: names, sizes and times.
pub(crate) type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

impl ModelSource {
    /// The built-in model, in the device's precision unless another is named.
    #[cfg(feature = "embedded-model")]
    pub fn embedded(precision: impl Into<Option<Precision>>) -> Self {
        ModelSource(From::Embedded { precision: precision.into() })
    }

    /// A folder or a checkpoint, as [`Model::load`] takes it.
    pub fn path(path: impl Into<PathBuf>, options: LoadOptions) -> Self {
        ModelSource(From::Path { path: path.into(), options: Box::new(options) })
    }

    pub(crate) fn load(&self, device: &Device) -> Result<Model, Error> {
        match &self.0 {
            #[cfg(feature = "embedded-model")]
            From::Embedded { precision: Some(precision) } => {
                Model::embedded(&device.clone().with_precision(*precision)?)
            }
            #[cfg(feature = "embedded-model")]
            From::Embedded { precision: None } => Model::embedded(device),
            From::Path { path, options } => Model::load(path, options, device),
        }
    }

    /// The text tower beside a model without classes of its own; `None` if it is of images alone.
    pub(crate) fn texts(&self, model: &Model, device: &Device) -> Option<Result<TextModel, Error>> {
        let (path, options) = match &self.0 {
            #[cfg(feature = "embedded-model")]
            From::Embedded { .. } => return None,
            From::Path { path, options } => (path, options),
        };
        if model.check_classifies().is_ok() {
            return None;
        }
        match TextModel::load(path, options.config_file(), device) {
            Err(Error::Weights(fault)) if matches!(*fault, WeightsError::NoTextTower { .. }) => None,
            found => Some(found),
        }
    }

    /// What the files look like now; empty for a model without files.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let (path, options) = match &self.0 {
            #[cfg(feature = "embedded-model")]
            From::Embedded { .. } => return Vec::new(),
            From::Path { path, options } => (path, options),
        };
        let entry = |path: &Path| {
            let data = path.metadata().ok()?;
            data.is_file().then(|| (path.to_owned(), data.len(), data.modified().ok()))
        };
        let mut files: Fingerprint = match path.read_dir() {
            Ok(entries) => entries.flatten().filter_map(|file| entry(&file.path())).collect(),
            Err(_) => entry(path).into_iter().collect(),
        };
        files.extend(options.config_file().and_then(entry));
        files.sort();
        files
    }
}
