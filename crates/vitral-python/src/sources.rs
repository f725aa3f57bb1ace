//! Images as Python has them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};
use vitral::image::{DecodeOptions, Decoded, ImageError, Note, RgbImage, decode_with, open_with};

/// An image that is yet to be read.
pub(crate) enum Source {
    File(PathBuf),
    /// An encoded image; the bytes are Python's own.
    Encoded(PyBackedBytes),
    Pixels(Result<RgbImage, ImageError>),
}

impl Source {
    /// Takes a path, bytes, or an array of 8-bit pixels: `[height, width, 3]`, `[height, width, 4]` (alpha is dropped, as
    /// everywhere) or `[height, width]`.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(path) = object.cast::<PyString>() {
            return Ok(Source::File(PathBuf::from(path.to_str()?)));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Source::Encoded(bytes.clone().into()));
        }
        let Ok(array) = object.extract::<PyReadonlyArrayDyn<'_, u8>>() else {
            let found = object.get_type().name()?.to_string();
            return Err(PyTypeError::new_err(format!("expected a path, bytes or pixels, found {found}")));
        };
        let copied;
        let values = match array.as_slice() {
            Ok(values) => values,
            Err(_) => {
                copied = array.as_array().iter().copied().collect::<Vec<u8>>();
                &copied
            }
        };
        Ok(Source::Pixels(match *array.shape() {
            [height, width] => RgbImage::from_gray(width, height, values),
            [height, width, 3] => RgbImage::new(width, height, values.to_vec()),
            [height, width, 4] => {
                RgbImage::new(width, height, values.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect())
            }
            ref other => {
                let shape = format!("{other:?}");
                return Err(PyTypeError::new_err(format!("expected pixels [height, width, 3], found {shape}")));
            }
        }))
    }

    /// Reads and decodes it.
    pub(crate) fn read(self, options: &DecodeOptions, notes: &Notes) -> Result<RgbImage, ImageError> {
        match self {
            Source::File(path) => {
                open_with(&path, options).map(|decoded| notes.keep(|| format!("`{}`", path.display()), decoded))
            }
            Source::Encoded(bytes) => {
                decode_with(&bytes, options).map(|decoded| notes.keep(|| "an image in memory".to_owned(), decoded))
            }
            Source::Pixels(image) => image,
        }
    }
}

/// What is to be said about images that were decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn keep(&self, name: impl Fn() -> String, decoded: Decoded) -> RgbImage {
        for note in decoded.notes() {
            let advice = match note {
                Note::Dark { bits } => format!("; `sample_range=\"{bits}\"` stretches them"),
                _ => String::new(),
            };
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(format!("{}: {note}{advice}", name()));
        }
        decoded.into_image()
    }

    /// Takes what has come together.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
