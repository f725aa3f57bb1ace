//! Download progress.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use vitral::weights::hub::Progress;

/// Shows a progress bar for each file on a terminal.
pub(crate) struct Download {
    bar: Option<(String, ProgressBar)>,
    hidden: bool,
}

impl Download {
    pub(crate) fn new(quiet: bool) -> Self {
        Download { bar: None, hidden: quiet || !std::io::stderr().is_terminal() }
    }

    /// Updates the progress of a file.
    pub(crate) fn show(&mut self, Progress { file, done, total }: Progress<'_>) {
        if self.hidden {
            return;
        }
        if self.bar.as_ref().is_none_or(|(shown, _)| shown != file) {
            self.finish();
            let bar = ProgressBar::new(total.unwrap_or(0)).with_message(file.to_owned());
            if let Ok(style) = ProgressStyle::with_template("{msg}  {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}") {
                bar.set_style(style);
            }
            self.bar = Some((file.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
