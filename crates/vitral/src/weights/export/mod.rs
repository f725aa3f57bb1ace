//! A model written for another library: the dialects' data read the other way, a description in the library's own form, and
//! a check that what was written describes the same model. Files are written aside and then renamed, never half-written.

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

use super::dialect::matches_glob;
use super::error::Difference;
use super::{Container, Dialect, ResolveOptions, WeightsError, load_description, resolve};
use crate::atomic::AtomicFolder;
use crate::config::{ModelConfig, OtherSizes};
use crate::image::Preprocess;
use crate::model::Vit;

pub use source::{ExportSource, Read};
pub use target::Target;

/// Converts the model at `source` into `target` at `destination`, its numbers kept as `storage` says, and says what was not
/// kept because `allow` names it.
///
/// # Errors
/// If the source cannot be read, the target cannot express it ([`WeightsError::Inexpressible`]), or the destination exists.
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

/// Writes a model to a new folder (for JAX and big_vision also to a file whose name ends in `.npz`), and says what was not kept because
/// `allow` names it.
///
/// # Errors
/// [`WeightsError::Inexpressible`] with everything the target cannot say and `allow` does not name; a system error; or
/// [`WeightsError::NoModel`] when the destination exists already.
pub fn export(
    model: &ExportSource<'_>,
    destination: &Path,
    target: Target,
    allow: &[String],
) -> Result<Vec<Difference>, WeightsError> {
    let occupied = destination.is_file() || destination.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let fault = "exists already and is not overwritten; remove it or choose another place".to_owned();
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
        // A file that describes itself by its arrays alone has no words for this model.
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

/// Reads back what was written: the names and shapes must fit strictly, and the description must be the model's.
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
    // A model shown images of another size than its own cannot do without what it does to other sizes.
    let shown = model.preprocess.as_ref().and_then(Preprocess::output_size);
    let (ours, theirs) = (model.vit.config(), &description.config);
    let same = match (ours.other_sizes, theirs.other_sizes) {
        // By which kernel, says nothing where there is nothing to resample.
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
    if let (Some(ours), false) = (model.labels, description.labels.is_some()) {
        let (ours, theirs) = (format!("{} of them", ours.len()), "none".into());
        differences.push(Difference { field: "labels".into(), ours, theirs });
    }
    Ok(differences)
}
