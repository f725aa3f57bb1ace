//! Writes a model for another library: the dialects' data in reverse, a description in the library's own format, and a
//! check that the result describes the same model. Files are written to a temporary name and then renamed, so they are
//! never incomplete.

mod compare;
mod describe;
mod invert;
mod naming;
mod preprocess;
mod quantized;
mod rewrite;
mod source;
mod target;
mod tensor;
mod verify;
mod words;
mod write;

use std::path::{Path, PathBuf};

use vitral_engine::{DType, ParameterSpec};

use super::adapt::Adaptation;
use super::description::is_known;
use super::dialect::matches_glob;
use super::error::Difference;
use super::{Description, Dialect, ResolveOptions, WeightsError, load_description, resolve};
use crate::atomic::AtomicFolder;
use crate::config::{ModelConfig, OtherSizes, Size};
use crate::image::Preprocess;
use crate::model::Vit;

pub use quantized::quantized;
pub use source::{ExportSource, Read};
pub use target::Target;

/// How a model is converted. By default as it is, in 32 bits, and without any difference.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConvertOptions {
    config: Option<PathBuf>,
    allow: Vec<String>,
    storage: DType,
    image_size: Option<Size>,
}

impl ConvertOptions {
    /// The file that describes the model, for a checkpoint that does not describe itself.
    #[must_use]
    pub fn config(mut self, file: impl Into<Option<PathBuf>>) -> Self {
        self.config = file.into();
        self
    }

    /// What may differ in the target, by the names in [`WeightsError::Inexpressible`]; `*` matches anything.
    #[must_use]
    pub fn allow(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allow.extend(fields.into_iter().map(Into::into));
        self
    }

    /// The type of the stored values.
    #[must_use]
    pub fn storage(mut self, storage: DType) -> Self {
        self.storage = storage;
        self
    }

    /// Another image size: positions are resampled once and for all, and the preprocessing follows.
    #[must_use]
    pub fn image_size(mut self, size: impl Into<Option<Size>>) -> Self {
        self.image_size = size.into();
        self
    }
}

/// Whether there is a field of that name, or one that the pattern matches (`*` is anything), in which a target can differ.
pub fn is_field(pattern: &str) -> bool {
    let others = ["preprocess", "labels", OTHER_SIZES];
    compare::fields().iter().chain(&others).any(|field| matches_glob(pattern, field))
}

/// Converts the model at `source` into `target` at `destination`, and returns the differences permitted by the options.
/// What was written is loaded again and must compute the same.
///
/// # Errors
/// If the source cannot be read, the target cannot express it ([`WeightsError::Inexpressible`]), what was written does not
/// give the model back ([`WeightsError::NotReadBack`]), or the destination exists.
pub fn convert(
    source: &Path,
    destination: &Path,
    target: Target,
    options: &ConvertOptions,
) -> Result<Vec<Difference>, WeightsError> {
    let description = load_description(source, options.config.as_deref())?;
    let container = description.open()?;
    let build = |config: ModelConfig| Vit::new(config).map_err(|fault| WeightsError::description(source, fault));
    let stored = build(description.config.clone())?;
    let resolving = ResolveOptions::for_model(stored.config());
    let specs = stored.declarations().specs();
    let dialect = match description.dialect()? {
        Some(dialect) => dialect,
        None => super::recognize(specs, &container, &resolving)?,
    };
    let assignment = resolve(specs, &dialect, &container, &resolving)?;
    let adapt = Adaptation { image_size: options.image_size, ..Adaptation::default() };
    let vit = build(adapt.target(stored.config()))?;
    let of_files = ExportSource::of_files(&vit, &description, &assignment);
    let preprocess = match options.image_size {
        Some(size) => of_files.preprocess.map(|steps| steps.for_size(stored.config().image_size, size)),
        None => of_files.preprocess,
    };
    let read = Box::new(|spec: &ParameterSpec| adapt.read(&assignment, spec, &stored, &vit));
    let source = ExportSource { storage: options.storage, preprocess, read, ..of_files };
    written(&source, destination, target, &options.allow, true)
}

/// Writes a model to a new folder (for JAX and big_vision also to a file with the extension `.npz`), and returns the
/// differences permitted by `allow`.
///
/// # Errors
/// [`WeightsError::Inexpressible`] with everything the target cannot express and `allow` does not permit; a system
/// error; or [`WeightsError::NoModel`] if the destination already exists.
pub fn export(
    model: &ExportSource<'_>,
    destination: &Path,
    target: Target,
    allow: &[String],
) -> Result<Vec<Difference>, WeightsError> {
    written(model, destination, target, allow, false)
}

/// Like [`export`]; `run` is whether both models also run on an image and are compared.
fn written(
    model: &ExportSource<'_>,
    destination: &Path,
    target: Target,
    allow: &[String],
    run: bool,
) -> Result<Vec<Difference>, WeightsError> {
    let occupied = destination.is_file() || destination.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let fault = "already exists and is not overwritten; remove it or choose another path".to_owned();
        return Err(WeightsError::NoModel { path: destination.to_owned(), fault });
    }
    match rewrite::rewritten(model, target)? {
        Some(rewritten) => placed(&rewritten.source(model), destination, target, allow, run),
        None => placed(model, destination, target, allow, run),
    }
}

/// Writes the model as it is, checks it, and puts it into its place.
fn placed(
    model: &ExportSource<'_>,
    destination: &Path,
    target: Target,
    allow: &[String],
    run: bool,
) -> Result<Vec<Difference>, WeightsError> {
    let failed = |source| WeightsError::writing(destination, source);
    let aside = AtomicFolder::beside(destination).map_err(failed)?;
    let naming = describe::describe(model, target, aside.path())?;
    let tensors = invert::invert(model.vit, naming).map_err(|differences| {
        let advice = "choose another target".to_owned();
        WeightsError::Inexpressible { target: target.name(), differences, advice }
    })?;
    let weights = aside.path().join(if target.is_archive() { "model.npz" } else { "model.safetensors" });
    match target {
        Target::Jax | Target::BigVision => write::npz(&weights, &tensors, model)?,
        _ => write::safetensors(&weights, &tensors, model)?,
    }
    let description = match load_description(aside.path(), None) {
        // A file without a configuration, described only by its arrays, cannot express this model.
        Err(WeightsError::Description { fault, .. }) if target.is_archive() => {
            let config = model.vit.config();
            let ours = format!("{} for a grid of {}", words::positions(config.positions), config.grid());
            let differences = vec![Difference { field: "positions".into(), ours, theirs: fault }];
            let advice = "choose another target".to_owned();
            return Err(WeightsError::Inexpressible { target: target.name(), differences, advice });
        }
        read => read?,
    };
    let differences = differences(model, &description);
    let allowed = |difference: &Difference| allow.iter().any(|pattern| matches_glob(pattern, &difference.field));
    let (kept, refused): (Vec<_>, Vec<_>) = differences.into_iter().partition(allowed);
    if !refused.is_empty() {
        let advice = advice(model, &description, &refused);
        return Err(WeightsError::Inexpressible { target: target.name(), differences: refused, advice });
    }
    check(model, &description, &kept, run)?;
    drop(tensors);
    let single = target.is_archive() && destination.extension().is_some_and(|extension| extension == "npz");
    if single { aside.finish_as("model.npz") } else { aside.finish() }.map_err(failed)?;
    Ok(kept)
}

/// Everything in which the written description differs from the model.
fn differences(model: &ExportSource<'_>, description: &Description) -> Vec<Difference> {
    let mut differences = compare::differences(model.vit.config(), &description.config);
    differences.extend(preprocess::difference(model.preprocess.as_ref(), &description.preprocess));
    // The behavior at other sizes matters if preprocessing gives images of another size than the model's.
    let shown = model.preprocess.as_ref().and_then(Preprocess::output_size);
    let (ours, theirs) = (model.vit.config(), &description.config);
    let same = match (ours.other_sizes, theirs.other_sizes) {
        // The resampling kernel does not matter if nothing is resampled.
        (OtherSizes::Resample { pad: ours_pads, .. }, OtherSizes::Resample { pad, .. })
            if ours.learned_positions().is_none() =>
        {
            ours_pads == pad
        }
        (ours, theirs) => ours == theirs,
    };
    if shown.is_some_and(|shown| shown != ours.image_size) && !same {
        let [ours, theirs] = [ours, theirs].map(|config| words::other_sizes(config.other_sizes).to_owned());
        differences.push(Difference { field: OTHER_SIZES.into(), ours, theirs });
    }
    // A well-known set of classes is known without its names.
    let labels = model.labels.filter(|labels| !is_known(labels));
    if let (Some(ours), false) = (labels, description.labels.is_some()) {
        let (ours, theirs) = (format!("{} of them", ours.len()), "none".into());
        differences.push(Difference { field: "labels".into(), ours, theirs });
    }
    differences
}

/// The difference that another image size settles.
const OTHER_SIZES: &str = "other_sizes";

/// What to do about differences: only those that leave every parameter its shape can be allowed.
fn advice(model: &ExportSource<'_>, description: &Description, refused: &[Difference]) -> String {
    let shapes = |vit: &Vit| -> Vec<(String, Vec<usize>)> {
        vit.declarations().specs().iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect()
    };
    let same = Vit::new(description.config.clone()).is_ok_and(|theirs| shapes(&theirs) == shapes(model.vit));
    if !same {
        return "choose another target: its models have other parameters than this one".to_owned();
    }
    let mut advice = Vec::new();
    let shown = model.preprocess.as_ref().and_then(Preprocess::output_size);
    let sized = refused.iter().any(|difference| difference.field == OTHER_SIZES);
    if let (true, Some(shown)) = (sized, shown) {
        advice.push(format!("resample the positions to the size of its images with `--image-size {}`", shown.height));
    }
    // What only its own size would take is not to be given images of another.
    let useless = |field: &str| field == OTHER_SIZES && description.config.other_sizes == OtherSizes::Refuse;
    let flags = refused.iter().filter(|difference| !useless(&difference.field));
    let flags: Vec<String> = flags.map(|difference| format!("--allow {}", difference.field)).collect();
    if !flags.is_empty() {
        advice.push(format!("write it with these differences with `{}`", flags.join(" ")));
    }
    advice.insert(0, "choose another target".into());
    advice.join(", or ")
}

/// Reads back what was written: names and shapes must match strictly, values must be the same, and the model must take its
/// own images.
fn check(
    model: &ExportSource<'_>,
    description: &Description,
    kept: &[Difference],
    run: bool,
) -> Result<(), WeightsError> {
    let broken = |fault: String| match kept {
        [] => WeightsError::NotReadBack { fault },
        kept => {
            let fields: Vec<String> = kept.iter().map(|difference| format!("`{}`", difference.field)).collect();
            WeightsError::NotReadBack { fault: format!("{fault}; it differs by {}, as allowed", fields.join(", ")) }
        }
    };
    let vit = Vit::new(description.config.clone()).map_err(|fault| broken(fault.to_string()))?;
    let container = description.open()?;
    let dialect = description.dialect()?.unwrap_or_else(Dialect::vitral);
    let options = ResolveOptions::for_model(&description.config);
    let written = resolve(vit.declarations().specs(), &dialect, &container, &options)
        .map_err(|fault| broken(fault.to_string()))?;
    verify::takes_its_images(model, description, &vit).map_err(broken)?;
    verify::same_values(model, &vit, &written)?;
    let same = compare::differences(model.vit.config(), &description.config).is_empty();
    if run && same { verify::same_outputs(model, &vit, &written) } else { Ok(()) }
}
