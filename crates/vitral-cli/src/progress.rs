//! Follows an evaluation, for all commands that look at labeled images.

use std::ops::ControlFlow;

use vitral_train::evaluate::Watcher;

use crate::printer::Printer;

/// Prints notes and a progress bar, and keeps what could not be read for the end.
pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    unreadable: Vec<String>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Self {
        Progress { printer, unreadable: Vec::new() }
    }

    /// Prints what could not be read.
    pub(crate) fn report_unreadable(&self) {
        self.unreadable.iter().for_each(|fault| self.printer.fault(format_args!("skipped: {fault}")));
    }
}

impl Watcher for Progress<'_> {
    fn note(&mut self, note: &str) {
        self.printer.note(note);
    }

    fn begin(&mut self, images: usize) {
        self.printer.start_progress(images, "images");
    }

    fn advance(&mut self, images: usize) -> ControlFlow<()> {
        // A closed output is noticed when the result is printed.
        let _ = self.printer.advance(images);
        ControlFlow::Continue(())
    }

    fn unreadable(&mut self, fault: &str) {
        self.unreadable.push(fault.to_owned());
    }
}
