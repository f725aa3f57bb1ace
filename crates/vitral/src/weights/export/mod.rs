//! Writes a model for another library: the dialects' data in reverse, a description in the library's own format, and a
//! check that the result describes the same model. Files are written to a temporary name and then renamed, so they are
//! never incomplete.

mod compare;
mod describe;
mod invert;
mod naming;
mod preprocess;
mod source;
mod target;
mod tensor;
mod write;

use std::path::Path;

use vitral_engine::DType;

use super::description::is_known;
use super::dialect::matches_glob;
use super::error::Difference;
use super::{Container, Dialect, ResolveOptions, WeightsError, load_description, resolve};
use crate::atomic::AtomicFolder;
use crate::config::{ModelConfig, OtherSizes};
use crate::image::Preprocess;
use crate::model::Vit;

pub use source::{ExportSource, Read};
pub use target::Target;

/// Converts the model at `source` into `target` at `destination`, storing values as `storage`, and returns the
/// differences permitted by `allow`.
///
/// # Errors
/// If the source cannot be read, the target cannot express it ([`WeightsError::Inexpressible`]), or the destination
/// exists.
pub fn convert(
    source: &Path,
    config: Option<&Path>,
    destination: &Path,
    target: Target,
    allow: &[String],
    storage: DType,
) -> Result<Vec<Difference>, WeightsError> {
    let description = load_description(source, config)?;
    let container = description.open()?;
    let build =
        |config: &ModelConfig| Vit::new(config.clone()).map_err(|fault| WeightsError::description(source, fault));
    let vit = build(&description.config)?;
    let options = ResolveOptions::for_model(vit.config());
    let specs = vit.declarations().specs();
    let dialect = match description.dialect()? {
        Some(dialect) => dialect,
        None => super::recognize(specs, &container, &options)?,
    };
    let assignment = resolve(specs, &dialect, &container, &options)?;
    let source = ExportSource { storage, ..ExportSource::of_files(&vit, &description, &assignment) };
    export(&source, destination, target, allow)
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
    let occupied = destination.is_file() || destination.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let fault = "already exists and is not overwritten; remove it or choose another path".to_owned();
        return Err(WeightsError::NoModel { path: destination.to_owned(), fault });
    }
    let failed = |source| WeightsError::io(destination, source);
    let aside = AtomicFolder::beside(destination).map_err(failed)?;
    let naming = describe::describe(model, target, aside.path())?;
    let inexpressible = |differences| WeightsError::Inexpressible { target: target.name(), differences };
    let tensors = invert::invert(model.vit, naming).map_err(inexpressible)?;
    let weights = aside.path().join(if target.is_archive() { "model.npz" } else { "model.safetensors" });
    match target {
        Target::Jax | Target::BigVision => write::npz(&weights, &tensors, model)?,
        _ => write::safetensors(&weights, &tensors, model)?,
    }
    let differences = match check(model, aside.path()) {
        // A file without a configuration, described only by its arrays, cannot express this model.
        Err(WeightsError::Description { fault, .. }) if target.is_archive() => {
            let ours = format!("{:?} for a grid of {}", model.vit.config().positions, model.vit.config().grid());
            vec![Difference { field: "positions".into(), ours, theirs: fault }]
        }
        checked => checked?,
    };
    let allowed = |difference: &Difference| allow.iter().any(|pattern| matches_glob(pattern, &difference.field));
    let (kept, refused): (Vec<_>, Vec<_>) = differences.into_iter().partition(allowed);
    if !refused.is_empty() {
        return Err(inexpressible(refused));
    }
    let single = target.is_archive() && destination.extension().is_some_and(|extension| extension == "npz");
    if single { aside.finish_as("model.npz") } else { aside.finish() }.map_err(failed)?;
    Ok(kept)
}

/// Reads back what was written: names and shapes must match strictly, and the description must equal the model's.
fn check(model: &ExportSource<'_>, folder: &Path) -> Result<Vec<Difference>, WeightsError> {
    let description = load_description(folder, None)?;
    let mut differences = compare::differences(model.vit.config(), &description.config);
    if differences.is_empty() {
        let container = Container::open_files(&description.files, None)?;
        let specs = model.vit.declarations().specs();
        let dialect = description.dialect()?.unwrap_or_else(Dialect::vitral);
        resolve(specs, &dialect, &container, &ResolveOptions::for_model(&description.config))?;
    }
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
        let [ours, theirs] = [ours, theirs].map(|config| format!("{:?}", config.other_sizes));
        differences.push(Difference { field: "other_sizes".into(), ours, theirs });
    }
    // A well-known set of classes is known without its names.
    let labels = model.labels.filter(|labels| !is_known(labels));
    if let (Some(ours), false) = (labels, description.labels.is_some()) {
        let (ours, theirs) = (format!("{} of them", ours.len()), "none".into());
        differences.push(Difference { field: "labels".into(), ours, theirs });
    }
    Ok(differences)
}
