//! The page of images that a command writes.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use vitral::search::Index;
use vitral_train::curate::{Card, Gallery};

use crate::fault::Usage;
use crate::output::{Format, write_file};
use crate::printer::Printer;

/// Whether to write a page, and how large.
#[derive(Args, Debug)]
pub(super) struct PageArgs {
    /// Write the result as a page with small images, too
    #[arg(long, value_name = "FILE.html", value_parser = page)]
    gallery: Option<PathBuf>,
    /// Small images on the page, at most
    #[arg(long, value_name = "N", default_value = "400", requires = "gallery")]
    thumbnails: u16,
}

fn page(text: &str) -> Result<PathBuf, String> {
    Format::ending(text, &["html"])
}

impl PageArgs {
    /// Refuses to write over the index.
    pub(super) fn check(&self, index: &std::path::Path) -> anyhow::Result<()> {
        let Some(gallery) = &self.gallery else { return Ok(()) };
        if gallery.canonicalize().is_ok_and(|gallery| index.canonicalize().is_ok_and(|index| index == gallery)) {
            bail!(Usage(format!("`{}` is the index; choose another page", gallery.display())));
        }
        Ok(())
    }

    /// Whether a page is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.gallery.is_some()
    }

    /// Writes the page, if it is wanted.
    pub(super) fn write(&self, gallery: &Gallery, printer: &Printer) -> anyhow::Result<()> {
        let Some(path) = &self.gallery else { return Ok(()) };
        write_file(path, gallery.html(self.thumbnails.into()).as_bytes())?;
        printer.note(format_args!("page: {}", path.display()));
        Ok(())
    }
}

/// An image of an index, without anything said about it.
pub(super) fn card(index: &Index, row: usize) -> Card {
    Card { path: index.path(row), name: index.entries()[row].name.clone(), ..Card::default() }
}
