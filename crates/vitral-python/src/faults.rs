//! The library's errors as Python's exceptions, with the same texts.

use std::error::Error;

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use vitral::choice::ChoiceError;
use vitral::image::ImageError;
use vitral::weights::WeightsError;
use vitral::weights::hub::HubError;
use vitral::{DeviceError, explain::ExplainError, message};
use vitral_train::TrainError;

/// Which exception an error becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `vitral.Error`.
    Other,
    /// `vitral.WeightsError`.
    Weights,
    /// `vitral.ImageError`.
    Image,
    /// `vitral.ConfigError`.
    Config,
    /// The work was stopped because somebody asked for it.
    Stopped,
}

/// An error on its way to Python.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Fault {
    /// An option or an input that cannot be used.
    pub(crate) fn config(text: impl Into<String>) -> Self {
        Fault { kind: Kind::Config, text: text.into() }
    }

    fn of(kind: Kind, error: &dyn Error) -> Self {
        Fault { kind, text: in_options(&message::line(error)) }
    }
}

/// A text with Python's names of options in place of the library's.
pub(crate) fn in_options(text: &str) -> String {
    let options = [("`Limits::max_pixels`", "`max_pixels`"), ("`Limits::max_bytes`", "`max_pixels`")];
    let text = options.iter().fold(text.to_owned(), |text, (library, python)| text.replace(library, python));
    text.replace("`--device cuda`", "`device=\"cuda\"`")
}

impl From<vitral::Error> for Fault {
    fn from(error: vitral::Error) -> Self {
        use vitral::Error::*;
        let kind = match &error {
            Image(_) | Sizes { .. } => Kind::Image,
            Weights(_) => Kind::Weights,
            Device(_) => Kind::Other,
            Explain(fault) if **fault == ExplainError::Stopped => Kind::Stopped,
            _ => Kind::Config,
        };
        Fault::of(kind, &error)
    }
}

impl From<TrainError> for Fault {
    fn from(error: TrainError) -> Self {
        let kind = match error {
            TrainError::Vitral(error) => return error.into(),
            TrainError::Recipe { .. } => Kind::Config,
            TrainError::Stopped => Kind::Stopped,
            _ => Kind::Other,
        };
        Fault::of(kind, &error)
    }
}

impl From<DeviceError> for Fault {
    fn from(error: DeviceError) -> Self {
        let kind = if matches!(error, DeviceError::Precision { .. }) { Kind::Config } else { Kind::Other };
        Fault::of(kind, &error)
    }
}

impl From<ChoiceError> for Fault {
    fn from(error: ChoiceError) -> Self {
        Fault::of(Kind::Config, &error)
    }
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Self {
        Fault::of(Kind::Image, &error)
    }
}

impl From<WeightsError> for Fault {
    fn from(error: WeightsError) -> Self {
        Fault::of(Kind::Weights, &error)
    }
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        Fault::of(Kind::Weights, &error)
    }
}

/// The exceptions, which are defined in Python so that they can derive from several of Python's own.
fn class(py: Python<'_>, kind: Kind) -> PyResult<Bound<'_, PyType>> {
    static CLASSES: [PyOnceLock<Py<PyType>>; 4] = [const { PyOnceLock::new() }; 4];
    let (place, name) = match kind {
        Kind::Other => (0, "Error"),
        Kind::Weights => (1, "WeightsError"),
        Kind::Image => (2, "ImageError"),
        Kind::Config => (3, "ConfigError"),
        Kind::Stopped => return Ok(py.get_type::<PyKeyboardInterrupt>()),
    };
    Ok(CLASSES[place].import(py, "vitral._errors", name)?.clone())
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        Python::attach(|py| match class(py, fault.kind) {
            Ok(class) => PyErr::from_type(class, fault.text),
            Err(error) => error,
        })
    }
}
