//! Results in Python's forms.

use numpy::IntoPyArray;
use numpy::ndarray::{ArrayD, IxDyn};
use pyo3::prelude::*;
use vitral::image::{ImageError, RgbImage};

use crate::faults::{Fault, Kind, in_options};

/// What is wrong with an image; one without a name is called by its place.
pub(crate) fn said(place: usize, fault: &ImageError) -> String {
    let text = in_options(&vitral::message::line(fault));
    match fault {
        ImageError::Read { .. } | ImageError::InFile { .. } => text,
        _ => format!("image {place}: {text}"),
    }
}

/// An array of Python's, which takes the values over.
pub(crate) fn array<'py>(py: Python<'py>, shape: &[usize], values: Vec<f32>) -> PyResult<Bound<'py, PyAny>> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), values);
    let array = array.map_err(|error| Fault::config(format!("results of different shapes: {error}")))?;
    Ok(array.into_pyarray(py).into_any())
}

/// An image as an array, `[height, width, 3]`.
pub(crate) fn pixels<'py>(py: Python<'py>, image: &RgbImage) -> PyResult<Bound<'py, PyAny>> {
    let array = ArrayD::from_shape_vec(vec![image.height(), image.width(), 3], image.pixels().to_vec());
    let array = array.map_err(|error| Fault::config(error.to_string()))?;
    Ok(array.into_pyarray(py).into_any())
}

/// A value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| Fault { kind: Kind::Other, text: error.to_string() }.into())
}
