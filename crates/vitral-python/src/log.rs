//! Reports for Python's `logging`, under the name `vitral`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::interrupt::Event;

/// How important a report is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info,
    Warning,
}

/// Logs a warning.
#[pyfunction]
pub(crate) fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    log(py, Level::Warning, text)
}

/// Logs a sentence.
pub(crate) fn log(py: Python<'_>, level: Level, text: &str) -> PyResult<()> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if matches!(level, Level::Info) && LOGGER.get(py).is_none() {
        // Whoever wants to read these has imported `logging`, which takes as long as all of this package.
        let modules = py.import("sys")?.getattr("modules")?;
        if !modules.contains("logging")? {
            return Ok(());
        }
    }
    let logger = LOGGER.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        Ok(py.import("logging")?.call_method1("getLogger", ("vitral",))?.unbind())
    })?;
    let method = match level {
        Level::Info => "info",
        Level::Warning => "warning",
    };
    logger.bind(py).call_method1(method, ("%s", text))?;
    Ok(())
}

/// A sentence from another thread.
pub(crate) struct Report(pub(crate) Level, pub(crate) String);

impl Event for Report {
    fn tell(self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        log(py, self.0, &self.1)
    }
}
