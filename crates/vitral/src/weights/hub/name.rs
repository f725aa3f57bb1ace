//! Names of models on a hub.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::error::HubError;

/// A revision of a model on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// The organization or user who published it.
    pub organization: String,
    /// The repository's name.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl FromStr for HubName {
    type Err = HubError;

    /// Parses `hf:ORG/NAME[@REVISION]`; `hf:` is optional.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let fault = || HubError::Name { found: text.to_owned() };
        let plain = text.strip_prefix("hf:").or_else(|| text.strip_prefix("hf-hub:")).unwrap_or(text);
        let (path, revision) = plain.split_once('@').unwrap_or((plain, "main"));
        let (organization, name) = path.split_once('/').ok_or_else(fault)?;
        let fits = |part: &str, more: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c);
            !part.is_empty() && !part.contains("..") && !part.starts_with(['.', '/']) && part.chars().all(known)
        };
        if !fits(organization, "") || !fits(name, "") || !fits(revision, "/") {
            return Err(fault());
        }
        let owned = str::to_owned;
        Ok(HubName { organization: owned(organization), name: owned(name), revision: owned(revision) })
    }
}

impl HubName {
    /// Parses a model name from user input: `hf:…`, or `timm/…` if no such folder exists. `None` for paths.
    ///
    /// # Errors
    /// [`HubError::Name`] for `hf:` followed by an invalid name.
    pub fn in_place_of_path(text: &str) -> Result<Option<Self>, HubError> {
        let marked = text.starts_with("hf:") || text.starts_with("hf-hub:");
        if marked || (text.starts_with("timm/") && !Path::new(text).exists()) {
            return text.parse().map(Some);
        }
        Ok(None)
    }

    pub(super) fn repository(&self) -> String {
        format!("{}/{}", self.organization, self.name)
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.name)?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}
