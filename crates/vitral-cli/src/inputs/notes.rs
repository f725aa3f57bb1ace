//! Notes on images, from the threads that decode them to the one that prints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use vitral::image::{Decoded, Image, Note};

use crate::printer::Printer;

/// Notes that wait to be printed, by the image's name.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<BTreeMap<String, Vec<Note>>>>);

impl Kept {
    /// Keeps what is to be said about an image, and passes the image on.
    pub(super) fn keep(&self, name: &str, decoded: Decoded<Image>) -> Image {
        if !decoded.notes().is_empty() {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.insert(name.to_string(), decoded.notes().to_vec());
        }
        decoded.into_image()
    }
}

/// Prints notes, once for each name.
#[derive(Default)]
pub(super) struct Notes {
    kept: Kept,
    printed: BTreeSet<String>,
}

impl Notes {
    /// Where decoding threads leave notes.
    pub(super) fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// Prints the notes on an image.
    pub(super) fn print(&mut self, name: &str, printer: &Printer) {
        let notes = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name).unwrap_or_default();
        if notes.is_empty() || !self.printed.insert(name.to_string()) {
            return;
        }
        for note in notes {
            let advice = match note {
                Note::Dark { bits } => format!("; `--sample-range {bits}` stretches them"),
                _ => String::new(),
            };
            printer.note(format_args!("note: `{name}`: {note}{advice}"));
        }
    }
}
