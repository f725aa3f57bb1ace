//! Functions about files.

use std::path::PathBuf;

use pyo3::prelude::*;
use vitral::config::Size;
use vitral::weights::export::{self, ConvertOptions, Target};
use vitral::{DType, LoadOptions, doctor as library, files};

use crate::answers::json;
use crate::device;
use crate::faults::{Fault, Kind};
use crate::interrupt::{Ending, Stop, Teller, run, run_telling};
use crate::loaded::located;
use crate::log::{Level, log};

/// Writes a model in another library's format; the differences that were allowed, as `(field, model, target)`.
#[pyfunction]
#[pyo3(signature = (model, destination, to, *, config, allow, image_size, dtype))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn convert(
    py: Python<'_>,
    model: PathBuf,
    destination: PathBuf,
    to: &str,
    config: Option<PathBuf>,
    allow: Vec<String>,
    image_size: Option<usize>,
    dtype: &str,
) -> PyResult<Vec<(String, String, String)>> {
    let target: Target = to.parse().map_err(|fault| Fault::config(format!("`to`: {fault}, found `{to}`")))?;
    let dtype = match dtype {
        "f32" | "float32" => DType::F32,
        "bf16" | "bfloat16" => DType::Bf16,
        "f16" | "float16" => DType::F16,
        other => {
            return Err(Fault::config(format!("`dtype`: expected `f32`, `bf16` or `f16`, found `{other}`")).into());
        }
    };
    let options =
        ConvertOptions::default().config(config).allow(allow).storage(dtype).image_size(image_size.map(Size::square));
    let work = move |_: &Stop, teller: &Teller<_>| -> Result<_, Fault> {
        let found = export::convert(&located(&model, teller)?, &destination, target, &options);
        found.map_err(|error| {
            let fault = Fault::from(error);
            Fault { text: format!("cannot convert `{}`: {}", model.display(), fault.text), ..fault }
        })
    };
    // A folder that nobody waits for would still appear.
    let found = run_telling(py, Ending::Awaited, work)??;
    Ok(found.iter().map(|each| (each.field.to_string(), each.ours.to_string(), each.theirs.to_string())).collect())
}

/// What `vitral doctor --json` prints.
#[pyfunction]
#[pyo3(signature = (model, *, config))]
pub(crate) fn doctor(py: Python<'_>, model: PathBuf, config: Option<PathBuf>) -> PyResult<String> {
    let opened = device::open(py, "cpu", 0, None)?;
    let options = LoadOptions::default().config(config);
    let work = move |_: &Stop, teller: &Teller<_>| -> Result<_, Fault> {
        let path = located(&model, teller)?;
        Ok(device::beside(opened.threads, || library::examine(&path, &options, &opened.device)))
    };
    json(&run_telling(py, Ending::Abandoned, work)??)
}

/// The images in a folder and its sub-folders, in the order of `vitral embed`.
#[pyfunction]
pub(crate) fn images_in(py: Python<'_>, folder: PathBuf) -> PyResult<Vec<PathBuf>> {
    let path = folder.clone();
    let found = run(py, move |_| files::images_in(&path))?;
    let found = found.map_err(|error| {
        let text = format!("`{}`: the folder could not be read: {}", folder.display(), vitral::message::line(&error));
        Fault { kind: Kind::Image, text }
    })?;
    for (path, why) in found.faults() {
        log(py, Level::Warning, &format!("skipped: `{}`: {why}", path.display()))?;
    }
    if let Some(others) = files::passed_over(found.others()) {
        log(py, Level::Info, &format!("`{}`: skipped {others}", folder.display()))?;
    }
    Ok(found.into_images())
}
