//! The only place that prints: results to standard output, everything else to standard error.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};

use console::Style;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use vitral::{Model, Precision};

use crate::fault::{StandardOutput, plain};
use crate::settings::Settings;

/// Fewer items than this need no progress bar.
const FEW: usize = 8;
/// Maximum number of buffered bytes.
const MUCH: usize = 1 << 16;

/// Prints results and messages.
pub(crate) struct Printer {
    /// Buffered results, so that those of a batch appear at once.
    waiting: RefCell<Vec<u8>>,
    bar: RefCell<Option<ProgressBar>>,
    quiet: bool,
    terminal: bool,
    /// Whether a standard output that is closed ends the command.
    ends_with_output: Cell<bool>,
    /// On a rank that is not the first, which prints for all: what it would have said.
    said: Option<RefCell<Vec<String>>>,
}

impl Printer {
    pub(crate) fn new(settings: &Settings) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let said = (!settings.ranks.is_first()).then(RefCell::default);
        Printer {
            waiting: RefCell::default(),
            bar: RefCell::default(),
            quiet: settings.quiet,
            terminal,
            ends_with_output: Cell::new(true),
            said,
        }
    }

    /// For commands that write files: if standard output is closed, as `head` does, they go on without it.
    pub(crate) fn go_on_without_output(&self) {
        self.ends_with_output.set(false);
    }

    /// What this rank would have said, if it is not the one that prints.
    pub(crate) fn take_said(&self) -> Vec<String> {
        self.said.as_ref().map(RefCell::take).unwrap_or_default()
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Bold text on a terminal.
    pub(crate) fn heading(&self, text: impl Display) -> String {
        if self.terminal { Style::new().bold().apply_to(text).to_string() } else { text.to_string() }
    }

    /// Prints a line of results.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), StandardOutput> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Prints bytes of results.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), StandardOutput> {
        if self.said.is_some() {
            return Ok(());
        }
        self.waiting.borrow_mut().extend_from_slice(bytes);
        if self.waiting.borrow().len() < MUCH { Ok(()) } else { self.flush() }
    }

    /// Prints results as indented JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string_pretty(value)?)?)
    }

    /// Prints results as one line of JSON.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string(value)?)?)
    }

    /// Writes the buffered results.
    pub(crate) fn flush(&self) -> Result<(), StandardOutput> {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        if waiting.is_empty() {
            return Ok(());
        }
        let write = || {
            let mut out = std::io::stdout().lock();
            out.write_all(&waiting)?;
            out.flush()
        };
        let bar = self.bar.borrow();
        let written = match bar.as_ref().filter(|_| self.terminal) {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        match written {
            Err(fault) if fault.kind() == ErrorKind::BrokenPipe && !self.ends_with_output.get() => Ok(()),
            written => written.map_err(StandardOutput),
        }
    }

    /// Prints a message to standard error, unless quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            self.fault(text);
        }
    }

    /// Says in which precision a model is computed, if it is not the usual one.
    pub(crate) fn note_precision(&self, model: &Model) {
        if model.precision() != Precision::F32 {
            self.note(format_args!("computed in {}", model.precision()));
        }
    }

    /// Prints an error. If it cannot be written either, nothing can be done.
    pub(crate) fn fault(&self, text: impl Display) {
        let text = plain(&text.to_string());
        if let Some(said) = &self.said {
            said.borrow_mut().push(text);
            return;
        }
        let write = || drop(writeln!(std::io::stderr(), "{text}"));
        match self.bar.borrow().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Shows a progress bar for long work, on a terminal.
    pub(crate) fn start_progress(&self, total: usize, unit: &str) {
        if self.quiet || self.said.is_some() || total <= FEW || !std::io::stderr().is_terminal() {
            return;
        }
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{rate}}  {{eta}} left  {{wide_msg}}");
        let rate = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            let _ = write!(to, "{:.1}/s", state.per_sec());
        };
        let bar = ProgressBar::new(total as u64);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.with_key("rate", rate));
        }
        *self.bar.borrow_mut() = Some(bar);
    }

    /// Writes buffered results and advances the bar.
    pub(crate) fn advance(&self, count: usize) -> Result<(), StandardOutput> {
        self.flush()?;
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.inc(count as u64);
        }
        Ok(())
    }

    /// Sets the message next to the bar.
    pub(crate) fn beside_progress(&self, text: impl Display) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_message(text.to_string());
        }
    }

    /// Removes the bar.
    pub(crate) fn finish_progress(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
