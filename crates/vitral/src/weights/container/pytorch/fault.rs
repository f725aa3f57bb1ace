//! What can be wrong inside a checkpoint.

/// A fault inside a checkpoint, before it has a path.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file is broken or uses a feature that no checkpoint has.
    Damaged(String),
    /// The pickle asks for a global that is not allowed.
    Forbidden(String),
    /// No such section.
    Section { asked: String, found: Vec<String> },
}

impl From<String> for Fault {
    fn from(fault: String) -> Self {
        Fault::Damaged(fault)
    }
}

impl From<&str> for Fault {
    fn from(fault: &str) -> Self {
        Fault::Damaged(fault.into())
    }
}
