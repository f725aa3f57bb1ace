//! Images that could not be used.

use serde::{Deserialize, Serialize};

use crate::fault;
use crate::printer::Printer;

/// Whether images that cannot be used get a record among the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Records {
    /// A line of JSON.
    Json,
    /// None; standard error has the message.
    #[default]
    None,
}

/// An image that could not be used: it is reported when it becomes known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Skipped {
    image: String,
    error: String,
}

impl Skipped {
    pub(super) fn new(image: String, error: &anyhow::Error, printer: &Printer) -> Self {
        let error = fault::line(error);
        // Errors of files contain the file name; those of standard input do not.
        let line = if error.contains(&image) { error.clone() } else { format!("`{image}`: {error}") };
        printer.fault(format_args!("skipped: {line}"));
        Skipped { image, error }
    }

    /// Prints its record among the results.
    pub(crate) fn print(&self, printer: &Printer) -> anyhow::Result<()> {
        printer.json_line(self)
    }
}
