//! A model to be written.

use std::borrow::Cow;
use std::fmt;

use vitral_engine::{DType, ParameterSpec};

use crate::image::Preprocess;
use crate::model::Vit;
use crate::weights::{Assignment, Description, WeightsError};

/// Everything that is written: a whole model, with its values read one parameter at a time.
pub struct ExportSource<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its architecture and parameters.
    pub vit: &'a Vit,
    /// Its preprocessing, if known.
    pub preprocess: Option<Preprocess>,
    /// Its labels, if known.
    pub labels: Option<&'a [String]>,
    /// Its license, if stated.
    pub license: Option<&'a str>,
    /// The data type of values in the file.
    pub storage: DType,
    /// The values of a parameter.
    pub read: Box<Read<'a>>,
}

/// Returns the values of a parameter.
pub type Read<'a> = dyn Fn(&ParameterSpec) -> Result<Cow<'a, [f32]>, WeightsError> + 'a;

impl fmt::Debug for ExportSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportSource").field("name", &self.name).field("vit", self.vit).finish_non_exhaustive()
    }
}

impl<'a> ExportSource<'a> {
    /// A model on disk, without loading it: values are copied from file to file.
    pub fn of_files(vit: &'a Vit, description: &'a Description, assignment: &'a Assignment<'a>) -> Self {
        ExportSource {
            name: &description.name,
            vit,
            preprocess: description.preprocess.read().and_then(Result::ok),
            labels: description.labels.as_deref(),
            license: description.license.as_deref(),
            storage: DType::F32,
            read: Box::new(|spec| assignment.read(&spec.name)),
        }
    }
}
