//! From a path to a model: its description, its weights, and which tensor is which parameter.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use vitral_engine::{DType, Device, ParameterSpec, Parameters, Precision, Replays};

use crate::config::Size;
use crate::error::Error;
use crate::image::Backend;
use crate::labels::Labels;
use crate::model::{Vit, storage};
#[cfg(feature = "text")]
use crate::text::{TextClasses, TextLabels, TextModel};
use crate::weights::adapt::{Adaptation, HeadChoice};
use crate::weights::{self, Description, PreprocessSource, ResolveOptions};

/// A loaded model: architecture, weights, and what its own files say about preprocessing and labels.
///
/// `classify`, `features`, `explain` and the other things that a model does are methods, each defined in the module of that
/// name.
pub struct Model {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) license: Option<String>,
    pub(crate) dialect: String,
    pub(crate) labels: Labels,
    pub(crate) vit: Vit,
    pub(crate) parameters: Parameters,
    pub(crate) preprocessing: PreprocessSource,
    /// The image size that the weights were stored for.
    pub(crate) trained_size: Size,
    /// The image size that was asked for on loading; the preprocessing then follows it.
    pub(crate) asked_size: Option<Size>,
    /// The arithmetic of preprocessing that was asked for on loading.
    pub(crate) backend: Option<Backend>,
    /// The most patches of an image of any proportions, if they were asked for on loading.
    pub(crate) max_patches: Option<NonZero<usize>>,
    /// Passes that the device has recorded.
    pub(crate) replays: Replays,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Model");
        shown.field("name", &self.name).field("path", &self.path).field("dialect", &self.dialect);
        shown.field("vit", &self.vit).finish_non_exhaustive()
    }
}

/// How a model is loaded. The default is as its files describe it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    pub(crate) config: Option<PathBuf>,
    pub(crate) ignore: Vec<String>,
    pub(crate) adapt: Adaptation,
    pub(crate) precision: Option<Precision>,
    pub(crate) backend: Option<Backend>,
    pub(crate) max_patches: Option<NonZero<usize>>,
    #[cfg(feature = "text")]
    pub(crate) labels: Option<TextLabels>,
}

impl LoadOptions {
    /// The file that describes the model, for a checkpoint that does not describe itself.
    #[must_use]
    pub fn config(mut self, file: impl Into<Option<PathBuf>>) -> Self {
        self.config = file.into();
        self
    }

    /// The file that was named by [`LoadOptions::config`].
    pub fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Tensors that may be missing or unused, by our names or theirs; `*` matches anything.
    #[must_use]
    pub fn ignore(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.ignore.extend(names.into_iter().map(Into::into));
        self
    }

    /// Loads the model in another form: image or patch size, channels, head, tokens.
    #[must_use]
    pub fn adapt(mut self, adapt: Adaptation) -> Self {
        self.adapt = adapt;
        self
    }

    /// The precision that the model is computed in, if it is not the device's own.
    #[must_use]
    pub fn precision(mut self, precision: impl Into<Option<Precision>>) -> Self {
        self.precision = precision.into();
        self
    }

    /// Makes a classifier of a model of images and texts (CLIP, SigLIP): its classes are what these labels say.
    #[cfg(feature = "text")]
    #[must_use]
    pub fn labels(mut self, labels: impl Into<Option<TextLabels>>) -> Self {
        self.labels = labels.into();
        self
    }

    /// Whose arithmetic prepares images, for models of Hugging Face's. Without it, Pillow's, or what a bundle says.
    /// A model whose preprocessing has no such form is not loaded.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<Option<Backend>>) -> Self {
        self.backend = backend.into();
        self
    }

    /// Images of any proportions, each resized to at most so many patches, in place of the resize and the crop that the
    /// model's files describe (NaFlex). A model that takes images of one size is not loaded.
    #[must_use]
    pub fn max_patches(mut self, patches: impl Into<Option<NonZero<usize>>>) -> Self {
        self.max_patches = patches.into();
        self
    }
}

#[cfg(feature = "text")]
impl LoadOptions {
    /// The classes that the labels describe, by the text tower at the same path.
    fn classes(&self, path: &Path, device: &Device) -> Result<Option<TextClasses>, Error> {
        let Some(labels) = &self.labels else { return Ok(None) };
        if self.adapt.head != HeadChoice::Keep {
            let fault = "a new classifier takes the place of classes that are described in words; ask for one of them";
            return Err(Error::TextLabels { fault: fault.to_owned() });
        }
        Ok(Some(TextModel::load(path, self.config.as_deref(), device)?.classes(labels)?))
    }
}

impl Model {
    /// Loads a model: a Hugging Face folder, a timm folder, a Vitral bundle, or a checkpoint with
    /// [`LoadOptions::config`].
    ///
    /// # Errors
    /// If its files are missing, damaged, or do not fit each other; the error names the file and the tensor.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions, device: &Device) -> Result<Self, Error> {
        let path = path.as_ref();
        let description = weights::load_description(path, options.config.as_deref())?;
        let container = description.open()?;
        Model::assemble(path, description, &container, options, device)
    }

    /// The path that the model was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's license, if its files state one.
    pub fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    /// Whose names the checkpoint's tensors have: `huggingface-vit`, `timm`, `vitral`…
    pub fn dialect(&self) -> &str {
        &self.dialect
    }

    /// The names of the classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The architecture.
    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The precision that products are computed in.
    pub fn precision(&self) -> Precision {
        self.parameters.device().precision()
    }

    /// The architecture and the weights, taken out of the model.
    pub fn into_parts(self) -> (Vit, Parameters) {
        (self.vit, self.parameters)
    }

    /// Assembles a model from its description and its opened weights.
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
        // What a bundle asks for is a wish: a GPU has no 8 bits, and computes it in its own precision.
        let wished = description.precision.filter(|precision| device.precisions().contains(precision));
        let device = &match options.precision.or(wished) {
            Some(precision) => device.clone().with_precision(precision)?,
            None => device.clone(),
        };
        let precision = device.precision();
        let build = |config| Vit::new(config).map_err(|fault| Error::Config { path: path.into(), fault });
        let stored = build(description.config.clone())?;
        let specs = stored.declarations().specs();
        let found = stored.config().channels;
        if options.adapt.colors.is_some() && found != 3 {
            return Err(Error::Colors { path: path.into(), found });
        }
        let resolving = ResolveOptions::for_model(stored.config()).ignoring(&options.ignore);
        let dialect = match description.dialect()? {
            Some(dialect) => dialect,
            None => weights::recognize(specs, container, &resolving)?,
        };
        // transformers refuses positions of another grid than the configuration's; timm resamples them.
        let resolving = match dialect.name().starts_with("huggingface") {
            true => ResolveOptions { positions: None, ..resolving },
            false => resolving,
        };
        device
            .check_memory(specs.iter().map(|spec| (spec.count() * precision.storage().bytes()) as u64).sum::<u64>())?;
        let assignment = weights::resolve(specs, &dialect, container, &resolving)?;
        let target = options.adapt.target(stored.config());
        #[cfg(feature = "text")]
        let in_words = options.classes(path, device)?;
        #[cfg(feature = "text")]
        let target = in_words.as_ref().map_or(Ok(target.clone()), |classes| classes.target(&target))?;
        let vit = build(target)?;
        // One pass over the files: the pages of a tensor are released before the next one is touched.
        let mut packed: Option<String> = None;
        let read = |spec: &ParameterSpec| {
            if let Some(packed) = packed.replace(spec.name.clone()) {
                assignment.release(&packed);
            }
            #[cfg(feature = "text")]
            if let Some(classes) = &in_words {
                let [projection, stored] = TextClasses::PROJECTION;
                let values = match spec.name == projection {
                    true => Some(assignment.read(stored)?),
                    false => classes.values(spec).map(Cow::from),
                };
                if let Some(values) = values {
                    return weights::assign::finite(&spec.name, &values).map(|()| values);
                }
            }
            let values = options.adapt.read(&assignment, spec, &stored, &vit)?;
            weights::assign::finite(&spec.name, &values).map(|()| values)
        };
        // A bundle in 8 bits says which of its matrices are.
        let chosen = description.precision == Some(Precision::Int8) && precision == Precision::Int8;
        let dtype = |spec: &ParameterSpec| match chosen {
            true if assignment.is_int8(&spec.name) => DType::I8,
            true => DType::Bf16,
            false => storage(precision, &spec.name),
        };
        let parameters = Parameters::prepared_as(vit.declarations().clone(), device.clone(), dtype, read)?;
        let classes = stored.config().classes;
        if let Some(found) = description.labels.as_ref().map(Vec::len).filter(|&found| found != classes && classes > 0)
        {
            return Err(Error::Labels { path: path.into(), expected: classes, found });
        }
        let labels = description.labels.filter(|_| options.adapt.head == HeadChoice::Keep);
        #[cfg(feature = "text")]
        let labels = in_words.map(|classes| classes.labels().to_vec()).or(labels);
        let labels = Labels::new(labels);
        let model = Model {
            path: path.into(),
            name: description.name,
            license: description.license,
            dialect: dialect.name().to_owned(),
            labels,
            vit,
            parameters,
            preprocessing: description.preprocess,
            trained_size: stored.config().image_size,
            asked_size: options.adapt.image_size,
            backend: options.backend,
            max_patches: options.max_patches,
            replays: Replays::default(),
        };
        // What was asked for and cannot be had is said now, not with the first image.
        match model.preprocess() {
            Err(fault @ (Error::Backend { .. } | Error::OneSize { .. })) => Err(fault),
            _ => Ok(model),
        }
    }

    /// The same model with other weights of the same shapes; `read` gives the values of each parameter.
    ///
    /// # Errors
    /// The first error that `read` returns.
    pub fn with_weights<'a>(
        &self,
        read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, Error>,
    ) -> Result<Self, Error> {
        let fault = |fault| Error::Config { path: self.path.clone(), fault };
        let vit = Vit::new(self.vit.config().clone()).map_err(fault)?;
        let device = self.parameters.device().clone();
        let stored = |spec: &ParameterSpec| storage(device.precision(), &spec.name);
        let parameters = Parameters::prepared_as(vit.declarations().clone(), device.clone(), stored, read)?;
        Ok(Model {
            path: self.path.clone(),
            name: self.name.clone(),
            license: self.license.clone(),
            dialect: self.dialect.clone(),
            labels: self.labels.clone(),
            vit,
            parameters,
            preprocessing: self.preprocessing.clone(),
            trained_size: self.trained_size,
            asked_size: self.asked_size,
            backend: self.backend,
            max_patches: self.max_patches,
            replays: Replays::default(),
        })
    }
}
