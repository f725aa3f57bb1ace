//! The only place that prints: results to standard output, everything else to standard error.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

use console::Style;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::fault::StandardOutput;
use crate::settings::Settings;

/// Fewer items than this need no progress bar.
const FEW: usize = 8;

/// Prints.
pub(crate) struct Printer {
    out: RefCell<BufWriter<Stdout>>,
    bar: RefCell<Option<ProgressBar>>,
    quiet: bool,
    terminal: bool,
}

impl Printer {
    pub(crate) fn new(settings: &Settings) -> Self {
        let out = std::io::stdout();
        let terminal = out.is_terminal();
        Printer { out: BufWriter::new(out).into(), bar: RefCell::default(), quiet: settings.quiet, terminal }
    }

    /// Whether a person reads the results.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Bold on a terminal that can.
    pub(crate) fn heading(&self, text: impl Display) -> String {
        if self.terminal { Style::new().bold().apply_to(text).to_string() } else { text.to_string() }
    }

    /// A line of results.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), StandardOutput> {
        let write = || {
            let mut out = self.out.borrow_mut();
            writeln!(out, "{text}")?;
            if self.terminal { out.flush() } else { Ok(()) }
        };
        let bar = self.bar.borrow();
        let written = match bar.as_ref().filter(|_| self.terminal) {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        written.map_err(StandardOutput)
    }

    /// Bytes of results.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), StandardOutput> {
        self.out.borrow_mut().write_all(bytes).map_err(StandardOutput)
    }

    /// Results as indented JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string_pretty(value)?)?)
    }

    /// Results as one line of JSON.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string(value)?)?)
    }

    /// Hands on what waits to be printed.
    pub(crate) fn flush(&self) -> Result<(), StandardOutput> {
        self.out.borrow_mut().flush().map_err(StandardOutput)
    }

    /// Something good to know, unless it is to be quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            self.fault(text);
        }
    }

    /// Something that went wrong. Nothing can be done if this cannot be written either.
    pub(crate) fn fault(&self, text: impl Display) {
        let write = || drop(writeln!(std::io::stderr(), "{text}"));
        match self.bar.borrow().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Shows a bar for long work, where a person looks on.
    pub(crate) fn start_progress(&self, total: usize, unit: &str) {
        if self.quiet || total <= FEW || !std::io::stderr().is_terminal() {
            return;
        }
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left");
        let bar = ProgressBar::new(total as u64);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        *self.bar.borrow_mut() = Some(bar);
    }

    /// Moves the bar on.
    pub(crate) fn advance(&self, count: usize) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.inc(count as u64);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish_progress(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
