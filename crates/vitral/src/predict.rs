//! Bytes of an image to ranked labels: the main job, on one screen.

use std::path::{Path, PathBuf};

use vitral_engine::{Context, DType, Device, Parameters, Tensor};

use crate::config::{Pooling, Size};
use crate::error::Error;
use crate::image::{Limits, Preprocess, RgbImage, decode};
use crate::labels::{Labels, Ranked, top};
use crate::model::{Input, Output, Vit};
use crate::weights::adapt::{Adaptation, HeadChoice};
use crate::weights::export::ExportSource;
use crate::weights::{self, Description, PreprocessSource, ResolveOptions, WeightsError};

/// A model ready to answer: architecture, weights, and what its own files say of preprocessing and labels.
pub struct Model {
    /// The path it came from.
    pub path: PathBuf,
    /// What it is called.
    pub name: String,
    /// Its license, where stated.
    pub license: Option<String>,
    /// Whose names its tensors had: `huggingface-vit`, `timm`, `vitral`…
    pub dialect: String,
    /// Names of its classes.
    pub labels: Labels,
    /// The architecture.
    pub vit: Vit,
    /// The weights.
    pub parameters: Parameters,
    preprocess: PreprocessSource,
    /// The image size that preprocessing was written for.
    trained_size: Size,
}

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The file that describes a checkpoint which does not describe itself.
    pub config: Option<PathBuf>,
    /// Tensors, by our names or theirs, that may be missing or unused; `*` stands for anything.
    pub ignore: Vec<String>,
    /// Another form of the model: image or patch size, channels, head, tokens.
    pub adapt: Adaptation,
    /// How matrices are kept in memory.
    pub storage: DType,
}

impl Model {
    /// Loads a model: a Hugging Face folder, a timm folder, a Vitral bundle, or a checkpoint with `config`.
    ///
    /// # Errors
    /// If its files are missing, damaged, or do not fit each other; the error names the file and the tensor.
    pub fn load(path: &Path, options: &LoadOptions, device: &Device) -> Result<Self, Error> {
        let description = weights::load_description(path, options.config.as_deref())?;
        let container = description.open()?;
        Model::assemble(path, description, &container, options, device)
    }

    /// Puts a model together from its description and its opened weights.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn assemble(
        path: &Path,
        description: Description,
        container: &weights::Container,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Self, Error> {
        let build = |config| Vit::new(config).map_err(|fault| Error::Config { path: path.into(), fault });
        let stored = build(description.config.clone())?;
        let specs = stored.declarations().specs();
        let resolving = ResolveOptions::for_model(stored.config()).ignoring(&options.ignore);
        let dialect = match description.dialect()? {
            Some(dialect) => dialect,
            None => weights::recognize(specs, container, &resolving)?,
        };
        let assignment = weights::resolve(specs, &dialect, container, &resolving)?;
        let vit = build(options.adapt.target(stored.config()))?;
        // One pass over the files: what was packed is given back before the next tensor is touched.
        let mut packed: Option<String> = None;
        let read = |spec: &vitral_engine::ParameterSpec| {
            if let Some(packed) = packed.replace(spec.name.clone()) {
                assignment.release(&packed);
            }
            let values = options.adapt.read(&assignment, spec, &stored, &vit)?;
            weights::assign::finite(&spec.name, &values).map(|()| values)
        };
        let parameters = Parameters::prepared(vit.declarations().clone(), device.clone(), options.storage, read)?;
        let classes = stored.config().classes;
        if let Some(found) = description.labels.as_ref().map(Vec::len).filter(|&found| found != classes && classes > 0)
        {
            return Err(Error::Labels { path: path.into(), expected: classes, found });
        }
        let labels = Labels::new(description.labels.filter(|_| options.adapt.head == HeadChoice::Keep));
        Ok(Model {
            path: path.into(),
            name: description.name,
            license: description.license,
            dialect: dialect.name().to_owned(),
            labels,
            vit,
            parameters,
            preprocess: description.preprocess,
            trained_size: stored.config().image_size,
        })
    }

    /// The same model with other weights, as many and of the same shapes: `read` gives those of each parameter.
    ///
    /// # Errors
    /// The first that `read` gives.
    pub fn with_weights<'a>(
        &self,
        read: impl FnMut(&vitral_engine::ParameterSpec) -> Result<std::borrow::Cow<'a, [f32]>, Error>,
    ) -> Result<Self, Error> {
        let fault = |fault| Error::Config { path: self.path.clone(), fault };
        let vit = Vit::new(self.vit.config().clone()).map_err(fault)?;
        let device = self.parameters.device().clone();
        let parameters = Parameters::prepared(vit.declarations().clone(), device, DType::F32, read)?;
        Ok(Model {
            path: self.path.clone(),
            name: self.name.clone(),
            license: self.license.clone(),
            dialect: self.dialect.clone(),
            labels: self.labels.clone(),
            vit,
            parameters,
            preprocess: self.preprocess.clone(),
            trained_size: self.trained_size,
        })
    }

    /// The steps from an image to the model's input, as the model's own files demand.
    ///
    /// # Errors
    /// If they say nothing of it (guessing would change the answers silently), or what they say does not fit the model.
    pub fn preprocess(&self) -> Result<Preprocess, Error> {
        let path = || self.path.clone();
        let read = self.preprocess.read().ok_or_else(|| Error::NoPreprocessing { path: path() })?;
        let preprocess = read.map_err(|fault| Error::Preprocessing { path: path(), fault: Box::new(fault) })?;
        let preprocess = preprocess.at_size(self.trained_size, self.vit.config().image_size);
        let disagreement = |expected, found| Err(Error::Disagreement { path: path(), expected, found });
        let (found, expected) = (preprocess.channels.count(), self.vit.config().channels);
        if found != expected {
            return disagreement(format!("{expected} channels"), format!("{found}"));
        }
        match preprocess.output_size().filter(|&size| self.vit.grid(size).is_err()) {
            Some(size) => disagreement(format!("{} pixels", self.vit.config().image_size), format!("{size}")),
            None => Ok(preprocess),
        }
    }

    /// The model as it is written for another library: see [`weights::export::export`].
    pub fn exported(&self) -> ExportSource<'_> {
        ExportSource {
            name: &self.name,
            vit: &self.vit,
            preprocess: self.preprocess().ok(),
            labels: self.labels.names(),
            license: self.license.as_deref(),
            storage: DType::F32,
            read: Box::new(|spec| match self.parameters.declarations().find(&spec.name) {
                Some(id) => Ok(self.parameters.read(id)?.into()),
                None => Err(WeightsError::NotAssigned(spec.name.clone())),
            }),
        }
    }

    /// Ranks the classes of one image, from its bytes: JPEG, PNG, WebP, GIF, BMP or TIFF.
    ///
    /// # Errors
    /// If the bytes are no such image, or the model cannot classify.
    pub fn classify_bytes(&self, bytes: &[u8], count: usize) -> Result<Vec<Ranked>, Error> {
        let image = decode(bytes, &Limits::default())?;
        Ok(self.classify(&[image], count)?.remove(0))
    }

    /// Ranks the classes of a batch of images.
    ///
    /// # Errors
    /// As [`Model::classify_bytes`].
    pub fn classify(&self, images: &[RgbImage], count: usize) -> Result<Vec<Vec<Ranked>>, Error> {
        self.check_classifies()?;
        let logits = self.logits(&self.pixels(images)?)?;
        let classes = logits.shape().last();
        Ok(logits.to_vec()?.chunks(classes).map(|logits| top(logits, count, &self.labels)).collect())
    }

    /// Whether the model gives one ranking of classes for each image.
    ///
    /// # Errors
    /// If it has no classifier, or gives a ranking for each token.
    pub fn check_classifies(&self) -> Result<(), Error> {
        if self.vit.config().classes == 0 {
            return Err(Error::NoHead { name: self.name.clone() });
        }
        self.check_pools("ranking")
    }

    /// Whether the model gives one answer for each image; `what` names the answer in the error.
    ///
    /// # Errors
    /// If it does not pool, and so gives an answer for each token.
    pub fn check_pools(&self, what: &'static str) -> Result<(), Error> {
        match self.vit.config().pooling {
            Pooling::None => Err(Error::PerToken { name: self.name.clone(), what }),
            _ => Ok(()),
        }
    }

    /// Logits `[batch, classes]` of preprocessed pixels `[batch, channels, height, width]`: one row for each image.
    ///
    /// # Errors
    /// If the model does not take such an input, has no classifier, or gives logits for each token.
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor, Error> {
        self.check_classifies()?;
        let logits = self.run(pixels, None)?.logits;
        logits.ok_or_else(|| Error::NoHead { name: self.name.clone() })
    }

    /// Images as the model's input, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If the model's files do not say how, an image cannot be brought to its size, or images differ in size afterwards.
    pub fn pixels(&self, images: &[RgbImage]) -> Result<Tensor, Error> {
        let preprocess = self.preprocess()?;
        let size_of = |image: &RgbImage| preprocess.output_size_for(image.size());
        let size = images.first().map_or(self.vit.config().image_size, size_of);
        let mut all = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let found = size_of(image);
            if found != size {
                return Err(Error::Sizes { index, expected: size, found });
            }
            all.extend(preprocess.apply(image)?);
        }
        let shape = [images.len(), preprocess.channels.count(), size.height, size.width];
        Ok(self.parameters.device().upload(shape, &all)?)
    }

    /// Runs the model on preprocessed pixels `[batch, channels, height, width]`; `mask` as in [`Input`].
    ///
    /// # Errors
    /// If the model does not take such an input.
    pub fn run(&self, pixels: &Tensor, mask: Option<&[u8]>) -> Result<Output, Error> {
        let device = self.parameters.device();
        let forward = || self.vit.forward(&Context::inference(&self.parameters), Input { pixels, mask });
        Ok(device.scope(forward)?)
    }
}
