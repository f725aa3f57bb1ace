//! A loaded model on its way into files.

use vitral_engine::DType;

use crate::load::Model;
use crate::weights::WeightsError;
use crate::weights::export::ExportSource;

impl Model {
    /// The model as a source for [`export`](crate::weights::export::export), which writes it for another library.
    pub fn exported(&self) -> ExportSource<'_> {
        ExportSource {
            name: &self.name,
            vit: &self.vit,
            preprocess: self.preprocess().ok(),
            labels: self.labels.names(),
            license: self.license.as_deref(),
            storage: DType::F32,
            read: Box::new(|spec| match self.parameters.declarations().find(&spec.name) {
                Some(id) => Ok(self.parameters.read(id)?.into()),
                None => Err(WeightsError::NotAssigned(spec.name.clone())),
            }),
        }
    }
}
