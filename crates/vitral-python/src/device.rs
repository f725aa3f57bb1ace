//! Devices, and threads beside them.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use vitral::Device;
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

/// Runs work whose parallel parts are beside the device, on the device's threads or, if it has none, on as many of our own: the
/// threads that are used otherwise are started once for a process, and would be missing in a fork of it.
pub(crate) fn beside<R: Send>(device: &Device, threads: NonZero<usize>, work: impl FnOnce() -> R + Send) -> R {
    match device {
        Device::Cpu(cpu) if cpu.threads() > 1 => device.scope(work),
        _ => match rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build().map(Arc::new) {
            Ok(pool) => pool.install(work),
            Err(_) => work(),
        },
    }
}
