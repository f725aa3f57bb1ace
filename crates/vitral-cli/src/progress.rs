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
    /// Follows work to its end, and then prints what could not be read.
    pub(crate) fn of<T>(printer: &'a Printer, work: impl FnOnce(&mut Self) -> T) -> T {
        let mut progress = Progress { printer, unreadable: Vec::new() };
        let result = work(&mut progress);
        printer.finish_progress();
        progress.unreadable.iter().for_each(|fault| printer.fault(format_args!("skipped: {fault}")));
        result
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
