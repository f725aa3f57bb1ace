//! Devices, and threads beside them.

use std::num::NonZero;
use std::path::PathBuf;

use pyo3::prelude::*;
use vitral::choice::{DeviceChoice, Opened};

use crate::faults::Fault;
use crate::interrupt::run;
use crate::log::{Level, log};

/// Opens the device of this name.
pub(crate) fn open(py: Python<'_>, name: &str, threads: usize, cuda: Option<PathBuf>) -> PyResult<Opened> {
    let choice: DeviceChoice = name
        .parse()
        .map_err(|expected| Fault::config(format!("`device`: {expected}, found `{name}`; pass one of these")))?;
    let opened = run(py, move |_| choice.open(threads, cuda.as_deref()))?.map_err(Fault::from)?;
    if let Some(note) = &opened.note {
        log(py, Level::Info, note)?;
    }
    Ok(opened)
}

/// Runs work that computes beside the device, too, on this many threads of its own. The threads that are used otherwise are
/// started once for a process, and would be missing in a fork of it.
pub(crate) fn beside<R: Send>(threads: NonZero<usize>, work: impl FnOnce() -> R + Send) -> R {
    match rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}
