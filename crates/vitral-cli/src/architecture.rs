//! Known sizes of models, as they are named on the command line.

use vitral::config::ModelConfig;
use vitral::model::variants;

/// A known size, by name.
#[derive(Clone, Debug)]
pub(crate) struct Architecture {
    /// As it was typed.
    pub(crate) name: String,
    /// What it is.
    pub(crate) config: ModelConfig,
}

/// Reads the name of a known size.
pub(crate) fn architecture(name: &str) -> Result<Architecture, String> {
    let config = variants::find(name).ok_or("no such size; `vitral models` lists them")?;
    Ok(Architecture { name: name.to_owned(), config })
}
