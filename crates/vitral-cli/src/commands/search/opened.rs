//! The index that a command asks.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use vitral::search::Index;

use crate::fault::Usage;
use crate::printer::Printer;

/// An index, and where its images are.
#[derive(Args, Debug)]
pub(super) struct IndexFile {
    /// The index, as `vitral search index` wrote it
    #[arg(value_name = "INDEX")]
    pub(super) index: PathBuf,
    /// The folder of the images, if it has moved since
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl IndexFile {
    /// Reads the index.
    pub(super) fn open(&self, printer: &Printer) -> anyhow::Result<Index> {
        let mut index = Index::read(&self.index)?;
        if let Some(folder) = &self.folder {
            if !folder.is_dir() {
                bail!(Usage(format!("`--folder {}`: expected a folder, found none", folder.display())));
            }
            index = index.in_folder(folder);
        }
        let name = self.index.display();
        if index.is_empty() {
            bail!("`{name}`: expected an index of images, found one without any; make it again");
        }
        if index.missing() > 0 {
            let (missing, noun) = (index.missing(), if index.missing() == 1 { "image is" } else { "images are" });
            printer.note(format_args!("`{name}` is not complete: {missing} {noun} missing; make it again to go on"));
        }
        Ok(index)
    }
}
