//! The log of a run: `journal.jsonl` for programs, `journal.csv` for spreadsheets, `events…` for TensorBoard.

mod entry;
mod tensorboard;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::TrainError;

pub use entry::Entry;

/// TensorBoard recognizes its files by the middle of their name.
const EVENTS: &str = "events.out.tfevents.run";

/// The journal of a run.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens the journal in a run's folder, and drops entries after `epoch`: a run resumed from a checkpoint writes
    /// them again.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(folder: &Path, epoch: u64) -> Result<Self, TrainError> {
        let mut entries = Journal::read(folder)?;
        entries.retain(|entry| entry.epoch <= epoch);
        let journal = Journal { folder: folder.to_owned(), entries };
        journal.rewrite()?;
        Ok(journal)
    }

    /// The epochs in a run's journal, which is not changed; empty if there is no journal.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(folder: &Path) -> Result<Vec<Entry>, TrainError> {
        let path = folder.join("journal.jsonl");
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let file = File::open(&path).map_err(TrainError::file(&path, "reading the journal"))?;
        let mut entries = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(TrainError::file(&path, "reading the journal"))?;
            // A line cut off by a crash will be written again with its epoch.
            entries.extend(serde_json::from_str::<Entry>(&line));
        }
        Ok(entries)
    }

    /// All epochs so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds an epoch.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, entry: Entry) -> Result<(), TrainError> {
        self.entries.push(entry);
        let event = tensorboard::event(&entry, now());
        for (name, line) in
            [("journal.jsonl", json(&entry).into_bytes()), ("journal.csv", row(&entry).into_bytes()), (EVENTS, event)]
        {
            let path = self.folder.join(name);
            let mut file =
                OpenOptions::new().append(true).open(&path).map_err(TrainError::file(&path, "writing the journal"))?;
            file.write_all(&line).map_err(TrainError::file(&path, "writing the journal"))?;
        }
        Ok(())
    }

    fn rewrite(&self) -> Result<(), TrainError> {
        let header = "epoch,step,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy,gradient_norm,images_per_second,seconds\n";
        let table = self.entries.iter().fold(header.to_owned(), |text, entry| text + &row(entry));
        let lines: String = self.entries.iter().map(json).collect();
        // The times of earlier epochs are only known relative to the start of the run.
        let begun = now() - self.entries.last().map_or(0.0, |entry| entry.seconds);
        let mut events = tensorboard::header(begun);
        self.entries.iter().for_each(|entry| events.extend(tensorboard::event(entry, begun + entry.seconds)));
        for (name, text) in
            [("journal.jsonl", lines.into_bytes()), ("journal.csv", table.into_bytes()), (EVENTS, events)]
        {
            let path = self.folder.join(name);
            vitral::atomic::write(&path, &text).map_err(TrainError::file(&path, "writing the journal"))?;
        }
        Ok(())
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn json(entry: &Entry) -> String {
    serde_json::to_string(entry).expect("plain data") + "\n"
}

fn row(e: &Entry) -> String {
    let optional = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.5}"));
    format!(
        "{},{},{:e},{:.5},{},{},{},{:.4},{:.1},{:.1}\n",
        e.epoch,
        e.step,
        e.learning_rate,
        e.train_loss,
        optional(e.train_accuracy),
        optional(e.validation_loss),
        optional(e.validation_accuracy),
        e.gradient_norm,
        e.images_per_second,
        e.seconds
    )
}
