//! Errors in a checkpoint.

/// An error in a checkpoint, without its path.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file is broken or uses a feature that no checkpoint has.
    Damaged(String),
    /// The pickle requires a global that is not part of a tensor.
    Forbidden(String),
    /// A tensor of the state dictionary is an instance of a class that we cannot rebuild.
    Unreadable { tensor: String, class: String },
    /// There is no such section.
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
