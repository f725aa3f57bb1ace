//! Images as Python has them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};
use vitral::image::preprocess::Channels;
use vitral::image::{BandImage, DecodeOptions, Decoded, Image, ImageError, Note, RgbImage, decode_for, open_for};

/// An image that is yet to be read.
pub(crate) enum Source {
    File(PathBuf),
    /// An encoded image; the bytes are Python's own.
    Encoded(PyBackedBytes),
    /// An array of samples, of a type whose largest value is `full` (1 for real numbers).
    Samples {
        shape: Vec<usize>,
        values: Vec<f32>,
        full: f32,
    },
    Pixels {
        shape: Vec<usize>,
        values: Vec<u8>,
    },
}

impl Source {
    /// Takes a path, bytes, or an array: of 8-bit pixels `[height, width, 3]`, `[height, width, 4]` (alpha is dropped, as
    /// everywhere) or `[height, width]` for models that take color, and of samples in `uint8`, `uint16` or `float32` for models
    /// that take bands.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(path) = object.cast::<PyString>() {
            return Ok(Source::File(PathBuf::from(path.to_str()?)));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Source::Encoded(bytes.clone().into()));
        }
        if let Ok(array) = object.extract::<PyReadonlyArrayDyn<'_, u8>>() {
            return Ok(Source::Pixels { shape: array.shape().to_vec(), values: in_order(&array) });
        }
        if let Ok(array) = object.extract::<PyReadonlyArrayDyn<'_, u16>>() {
            let values = in_order(&array).into_iter().map(f32::from).collect();
            return Ok(Source::Samples { shape: array.shape().to_vec(), values, full: 65535.0 });
        }
        if let Ok(array) = object.extract::<PyReadonlyArrayDyn<'_, f32>>() {
            return Ok(Source::Samples { shape: array.shape().to_vec(), values: in_order(&array), full: 1.0 });
        }
        let found = object.get_type().name()?.to_string();
        Err(PyTypeError::new_err(format!("expected a path, bytes or pixels, found {found}")))
    }

    /// Reads and decodes it for a model that takes these channels.
    pub(crate) fn read(self, channels: Channels, options: &DecodeOptions, notes: &Notes) -> Result<Image, ImageError> {
        match (self, channels) {
            (Source::File(path), _) => open_for(&path, channels, options)
                .map(|decoded| notes.keep(|| format!("`{}`", path.display()), decoded)),
            (Source::Encoded(bytes), _) => decode_for(&bytes, channels, options)
                .map(|decoded| notes.keep(|| "an image in memory".to_owned(), decoded)),
            (Source::Pixels { shape, values }, Channels::Bands(bands)) => {
                let values: Vec<f32> = values.into_iter().map(f32::from).collect();
                Ok(BandImage::from_array(&shape, &values, bands, 255.0, options.sample_range)?.into())
            }
            (Source::Samples { shape, values, full }, Channels::Bands(bands)) => {
                Ok(BandImage::from_array(&shape, &values, bands, full, options.sample_range)?.into())
            }
            (Source::Pixels { shape, values }, _) => in_color(&shape, values).map(Image::from),
            (Source::Samples { shape, .. }, _) => Err(ImageError::ArrayPixels { shape, bytes: false }),
        }
    }
}

/// The values of an array, row by row.
fn in_order<T: numpy::Element + Copy>(array: &PyReadonlyArrayDyn<'_, T>) -> Vec<T> {
    match array.as_slice() {
        Ok(values) => values.to_vec(),
        Err(_) => array.as_array().iter().copied().collect(),
    }
}

fn in_color(shape: &[usize], values: Vec<u8>) -> Result<RgbImage, ImageError> {
    match *shape {
        [height, width] => RgbImage::from_gray(width, height, &values),
        [height, width, 3] => RgbImage::new(width, height, values),
        [height, width, 4] => {
            RgbImage::new(width, height, values.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect())
        }
        _ => Err(ImageError::ArrayPixels { shape: shape.to_vec(), bytes: true }),
    }
}

/// What is to be said about images that were decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn keep(&self, name: impl Fn() -> String, decoded: Decoded<Image>) -> Image {
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
