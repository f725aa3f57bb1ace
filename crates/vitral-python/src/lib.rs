//! The compiled part of the Python package `vitral`: a thin layer over the library. What Python can do as well (forms of
//! input and answer, defaults, documentation) is in `python/vitral`.

mod answers;
mod device;
mod explain;
mod faults;
mod finetune;
mod interrupt;
mod loaded;
mod log;
mod measure;
mod model;
mod sources;
mod stream;
mod texts;
mod tools;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<model::Model>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<texts::TextModel>()?;
    module.add_class::<explain::Explained>()?;
    module.add_function(wrap_pyfunction!(tools::convert, module)?)?;
    module.add_function(wrap_pyfunction!(tools::doctor, module)?)?;
    module.add_function(wrap_pyfunction!(tools::images_in, module)?)?;
    module.add_function(wrap_pyfunction!(log::warn, module)?)?;
    module.add_function(wrap_pyfunction!(explain::methods, module)?)?;
    module.add_function(wrap_pyfunction!(finetune::finetune, module)?)?;
    Ok(())
}
