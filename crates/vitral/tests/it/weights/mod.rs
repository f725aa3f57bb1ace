//! Weights from other libraries: every golden matches its description strictly, and no file harms the reader.

mod adaptations;
mod convert;
mod examine;
mod export;
mod goldens;
mod hostile;
mod hostile_npz;
mod hub;
mod original;
mod strictness;
mod tables;

use std::path::PathBuf;

use vitral::config::ModelConfig;
use vitral::model::Vit;
use vitral::weights::{Container, Description, Dialect, ResolveOptions, load_description, recognize};
use vitral_engine::ParameterSpec;

/// The repository's goldens.
pub(crate) fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

/// Names of all model cases, sorted.
pub(crate) fn cases() -> Vec<String> {
    let folder = goldens().join("models");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() > 80, "the goldens are incomplete");
    names
}

/// A case's description.
pub(crate) fn describe(case: &str) -> Description {
    let folder = goldens().join("models").join(case);
    let own = folder.join("vitral-config.json");
    let description =
        if own.is_file() { load_description(&folder, Some(&own)) } else { load_description(&folder, None) };
    description.unwrap_or_else(|error| panic!("{case}: {error}"))
}

/// Parameters of a model.
pub(crate) fn specs_of(config: &ModelConfig) -> Vec<ParameterSpec> {
    Vit::new(config.clone()).unwrap_or_else(|error| panic!("{error}")).declarations().specs().to_vec()
}

/// The dialect that matches a description's weights.
pub(crate) fn dialect(description: &Description, container: &Container) -> Dialect {
    let specs = specs_of(&description.config);
    let options = ResolveOptions::for_model(&description.config);
    description
        .dialect()
        .unwrap()
        .unwrap_or_else(|| recognize(&specs, container, &options).unwrap_or_else(|error| panic!("{error}")))
}
