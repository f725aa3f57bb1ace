//! Named model sizes, as given on the command line.

use vitral::config::ModelConfig;
use vitral::model::variants;

/// A named size.
#[derive(Clone, Debug)]
pub(crate) struct Architecture {
    /// The name as typed.
    pub(crate) name: String,
    /// Its configuration.
    pub(crate) config: ModelConfig,
}

/// Looks up a named size.
pub(crate) fn architecture(name: &str) -> Result<Architecture, String> {
    let config = variants::find(name).ok_or("unknown size; `vitral models` lists them")?;
    Ok(Architecture { name: name.to_owned(), config })
}
