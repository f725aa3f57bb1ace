//! The text tower of a model of images and texts.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use vitral::text::TextModel as Tower;

use crate::answers::array;
use crate::device;
use crate::faults::Fault;
use crate::interrupt::{Ending, Teller, run, run_telling};
use crate::loaded::located;

/// The compiled side of `vitral.TextModel`.
#[pyclass(frozen, module = "vitral._native")]
pub(crate) struct TextModel {
    tower: Arc<Tower>,
}

#[pymethods]
impl TextModel {
    #[staticmethod]
    #[pyo3(signature = (path, *, config, device, threads, cuda_path))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        config: Option<PathBuf>,
        device: &str,
        threads: usize,
        cuda_path: Option<PathBuf>,
    ) -> PyResult<Self> {
        let opened = device::open(py, device, threads, cuda_path)?;
        let work = move |_: &_, teller: &Teller<_>| -> Result<Tower, Fault> {
            Ok(Tower::load(&located(&path, teller)?, config.as_deref(), &opened.device)?)
        };
        let tower = run_telling(py, Ending::Abandoned, work)??;
        Ok(TextModel { tower: Arc::new(tower) })
    }

    /// Vectors of texts, `[texts, width]`.
    fn embed<'py>(&self, py: Python<'py>, texts: Vec<String>) -> PyResult<Bound<'py, PyAny>> {
        let (tower, count) = (Arc::clone(&self.tower), texts.len());
        let vectors = run(py, move |_| tower.embed(&texts))?.map_err(Fault::from)?;
        array(py, &[count, self.tower.config().feature_width()], vectors.concat())
    }

    /// The tokens of a text.
    fn tokens(&self, text: &str) -> PyResult<Vec<u32>> {
        Ok(self.tower.tokens(text).map_err(Fault::from)?)
    }

    /// What similarities are multiplied by, and what is added to them.
    fn scale_and_bias(&self) -> (f32, f32) {
        (self.tower.scale(), self.tower.bias())
    }
}
