//! From a model to its file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use vitral_engine::{DType, ParameterSpec};

use super::build::build;
use super::error::OnnxError;
use super::graph::Kept;
use super::initializer::{Initializer, Weights};
use super::inspect::inspect;
use super::metadata::metadata;
use super::options::OnnxOptions;
use super::proto::{GraphProto, ModelProto, OperatorSetIdProto};
use super::write::Whole;
use crate::atomic::{AtomicFolder, settle};
use crate::config::{ModelConfig, Size};
use crate::model::{ModelError, Vit};
use crate::weights::adapt::Adaptation;
use crate::weights::export::ExportSource;
use crate::weights::{ResolveOptions, load_description, recognize, resolve};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The size of the images that the graph takes.
    pub image_size: Size,
    /// The files and their sizes in bytes: the graph, and where they are apart the weights.
    pub files: Vec<(PathBuf, u64)>,
    /// How many nodes the graph has.
    pub nodes: usize,
}

/// Writes the model at `source` as an ONNX file at `destination`, in whose folder nothing else of that name may be.
///
/// Images have the size that the options ask for. Otherwise it is that of the model's own preprocessing, if the model takes
/// images of that size, or the one it was trained with.
///
/// # Errors
/// If the source cannot be read, does not take such images, or the destination cannot be written; nothing is then left
/// behind.
pub fn convert(source: &Path, destination: &Path, options: &OnnxOptions) -> Result<Exported, OnnxError> {
    check_destination(destination)?;
    let description = load_description(source, options.config.as_deref())?;
    let container = description.open()?;
    let build =
        |config: ModelConfig| Vit::new(config).map_err(|fault| OnnxError::Config { path: source.to_owned(), fault });
    let stored = build(description.config.clone())?;
    let resolving = ResolveOptions::for_model(stored.config());
    let specs = stored.declarations().specs();
    let dialect = match description.dialect()? {
        Some(dialect) => dialect,
        None => recognize(specs, &container, &resolving)?,
    };
    let assignment = resolve(specs, &dialect, &container, &resolving)?;
    let of_files = ExportSource::of_files(&stored, &description, &assignment);
    let in_bytes = specs.iter().any(|spec| assignment.is_int8(&spec.name));
    let (storage, kept) = match options.storage {
        None | Some(DType::I8) if in_bytes => {
            let own = |spec: &ParameterSpec| Some((spec.name.clone(), assignment.storage(&spec.name)?));
            (DType::I8, specs.iter().filter_map(own).collect())
        }
        Some(DType::I8) => return Err(OnnxError::Storage),
        other => (other.unwrap_or(DType::F32), Kept::new()),
    };
    let trained = stored.config().image_size;
    let Some(size) = options.image_size else {
        let own = of_files.preprocess.as_ref().and_then(|steps| steps.output_size());
        let size = own.filter(|&size| stored.grid(size).is_ok()).unwrap_or(trained);
        let source = ExportSource { storage, ..of_files };
        return written(&source, &kept, dialect.name(), size, destination, options);
    };
    let preprocess = of_files.preprocess.map(|steps| steps.for_size(trained, size));
    match stored.grid(size) {
        // As its own forward pass would take them.
        Ok(_) => {
            let source = ExportSource { storage, preprocess, ..of_files };
            written(&source, &kept, dialect.name(), size, destination, options)
        }
        Err(ModelError::ImageSize { .. }) => {
            let patch = stored.config().token_stride();
            if !size.height.is_multiple_of(patch.height) || !size.width.is_multiple_of(patch.width) {
                return Err(ModelError::PatchSize { patch, found: size }.into());
            }
            let adapt = Adaptation { image_size: Some(size), ..Adaptation::default() };
            let vit = build(adapt.target(stored.config()))?;
            let read = Box::new(|spec: &ParameterSpec| adapt.read(&assignment, spec, &stored, &vit));
            let source = ExportSource { vit: &vit, storage, preprocess, read, ..of_files };
            // What was resampled is no longer a number of 16 bits.
            let kept = kept.into_iter().filter(|(_, kind)| *kind == DType::I8).collect();
            written(&source, &kept, dialect.name(), size, destination, options)
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Writes a model as an ONNX file for images of one size. `dialect` says whose names its parameters had.
///
/// What was written is read again: [`inspect`] must find it whole, with the shapes that the configuration says and the very
/// bytes of the model's parameters. Only then it gets its name.
///
/// # Errors
/// As [`convert`].
pub fn export(
    model: &ExportSource<'_>,
    dialect: &str,
    image: Size,
    destination: &Path,
    options: &OnnxOptions,
) -> Result<Exported, OnnxError> {
    if model.storage == DType::I8 {
        return Err(OnnxError::Storage);
    }
    written(model, &Kept::new(), dialect, image, destination, options)
}

/// The same with types that single parameters are stored in.
fn written(
    model: &ExportSource<'_>,
    kept: &Kept,
    dialect: &str,
    image: Size,
    destination: &Path,
    options: &OnnxOptions,
) -> Result<Exported, OnnxError> {
    let (name, beside) = check_destination(destination)?;
    let grid = model.vit.grid(image)?;
    let (graph, constants) = build(model.vit, image, grid, options.opset, model.storage, kept);
    let nodes = graph.node.len();
    let whole = Whole { model: description(model, dialect, image, options), graph, constants: &constants };
    let apart = options.external || whole.needs_two_files();

    let failed = |fault| OnnxError::writing(destination, fault);
    let aside = AtomicFolder::beside(destination).map_err(failed)?;
    let (file, data) = (aside.path().join(&name), aside.path().join(&beside));
    let digests = whole.write(&Weights(model), &file, apart.then_some((data.as_path(), beside.as_str())));
    // Errors name the place that was asked for, not the temporary one.
    let digests = digests.map_err(|fault| match fault {
        OnnxError::Write { source, .. } => failed(source),
        other => other,
    })?;
    verify(&file, destination, &whole.graph, &constants, &digests)?;
    let own = |path: &Path, temporary: &Path| Ok((path.to_owned(), std::fs::metadata(temporary)?.len()));
    let mut files = vec![own(destination, &file).map_err(failed)?];
    let place = destination.with_file_name(&beside);
    if apart {
        files.push(own(&place, &data).map_err(failed)?);
        settle(&data, &place).map_err(failed)?;
    }
    aside.finish_as(&name).map_err(|fault| {
        if apart {
            // The weights of a graph that is not there; if they cannot be removed, they stay.
            let _ = std::fs::remove_file(&place);
        }
        failed(fault)
    })?;
    Ok(Exported { image_size: image, files, nodes })
}

/// The names of the file and of one beside it, both of which must be free, in a folder that exists.
fn check_destination(destination: &Path) -> Result<(String, String), OnnxError> {
    let path = || destination.to_owned();
    let name =
        destination.file_name().and_then(|name| name.to_str()).ok_or_else(|| OnnxError::NoName { path: path() })?;
    let folder = destination.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(OnnxError::NoFolder { path: path(), folder: folder.to_owned() });
    }
    let beside = format!("{name}.data");
    for taken in [path(), destination.with_file_name(&beside)] {
        if taken.symlink_metadata().is_ok() {
            return Err(OnnxError::Exists { path: taken });
        }
    }
    Ok((name.to_owned(), beside))
}

/// Everything about the model but its graph.
fn description(model: &ExportSource<'_>, dialect: &str, image: Size, options: &OnnxOptions) -> ModelProto {
    ModelProto {
        ir_version: options.opset.format(),
        producer_name: "vitral".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!("{}, exported by Vitral from {dialect}", model.name),
        graph: None,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: options.opset.number() }],
        metadata_props: metadata(model, dialect, image),
    }
}

/// Reads back what was written and compares it with what was to be written.
fn verify(
    file: &Path,
    destination: &Path,
    graph: &GraphProto,
    constants: &[Initializer],
    digests: &HashMap<String, u64>,
) -> Result<(), OnnxError> {
    let broken = |fault: String| OnnxError::NotWhole { path: destination.to_owned(), fault };
    let contents = inspect(file)?;
    let (found, expected) = (contents.operators.values().sum::<usize>(), graph.node.len());
    if found != expected || contents.constants.len() != constants.len() {
        return Err(broken(format!("it has {found} of {expected} nodes")));
    }
    match constants.iter().find(|constant| contents.digests.get(&constant.name) != digests.get(&constant.name)) {
        Some(constant) => Err(broken(format!("`{}` has other values than the model", constant.name))),
        None => Ok(()),
    }
}
