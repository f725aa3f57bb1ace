//! Weights in 8 bits: what they cost, layer by layer, and what is done about it.
//!
//! The scheme is that of the engine: each output of a matrix has a scale, each token has one of its own when it comes. A few
//! images show what each layer multiplies ([`Calibration`]). Where a norm, or attention's values, come right before a layer,
//! scales can be moved from the channels of its input into its weights, as in SmoothQuant (arXiv:2211.10438): how far is what
//! gives the best signal-to-noise ratio on those images. A layer that stays below a bound is kept in bfloat16.

mod calibration;
mod measure;
mod smooth;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use vitral_engine::{DType, ParameterSpec};

pub use calibration::Calibration;
use measure::Measured;
use smooth::Layer;

use crate::error::Error;
use crate::load::Model;
use crate::weights::WeightsError;
use crate::weights::export::{ExportSource, quantized};

/// The least signal-to-noise ratio of a layer in 8 bits, in decibels: below it, its noise is a tenth of its output.
pub const LEAST_SIGNAL: f64 = 20.0;

/// How a layer is stored, and what that costs.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// The matrix, such as `blocks.3.mlp.up.weight`.
    pub name: String,
    /// What it is stored in.
    pub storage: DType,
    /// How far scales were moved from its input into it: 0 not at all, 1 until all channels of the input are alike.
    pub moved: f32,
    /// Signal-to-noise ratio of its output in 8 bits, in decibels, without moving scales.
    pub plain_signal: f64,
    /// The same as it is stored.
    pub signal: f64,
}

/// A model in 8 bits, before it is written.
#[derive(Debug)]
pub struct Quantization {
    layers: Vec<QuantizedLayer>,
    /// Parameters that scales were moved from or to.
    changed: HashMap<String, Vec<f32>>,
}

impl Quantization {
    /// Decides how each layer of a model is stored. The model must be in 32 bits.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(model: &Model, calibration: &Calibration) -> Result<Self, Error> {
        let mut found = Quantization { layers: Vec::new(), changed: HashMap::new() };
        for layer in Layer::all(model) {
            let Some(seen) = calibration.layer(&layer.input()) else { continue };
            let weight = found.read(model, &layer.weight)?;
            let measured = Measured::new(model.parameters().device(), seen, &weight)?;
            let (plain, mut best) = (measured.signal(None)?, (measured.signal(None)?, 0.0, None));
            if layer.source.is_some() {
                for moved in [0.25, 0.5, 0.75] {
                    let factors = seen.factors(&weight, moved);
                    let signal = measured.signal(Some(&factors))?;
                    if signal > best.0 {
                        best = (signal, moved, Some(factors));
                    }
                }
            }
            let (mut signal, mut moved, factors) = best;
            let mut storage = DType::I8;
            if signal < LEAST_SIGNAL {
                (storage, moved, signal) = (DType::Bf16, 0.0, measured.signal_in_bf16()?);
            } else if let Some(factors) = factors {
                layer.move_scales(&factors, |name, change| found.change(model, name, change))?;
            }
            let name = layer.weight.clone();
            found.layers.push(QuantizedLayer { name, storage, moved, plain_signal: plain, signal });
        }
        // The measuring order is that of scales; the report's is that of the model.
        let place = |name: &str| model.parameters().declarations().find(name);
        found.layers.sort_by_key(|layer| place(&layer.name));
        Ok(found)
    }

    /// The layers, in the model's order.
    pub fn layers(&self) -> &[QuantizedLayer] {
        &self.layers
    }

    /// Writes the model as a bundle to a new folder.
    ///
    /// # Errors
    /// If the destination exists, cannot be written, or does not give the model back.
    pub fn write(&self, model: &Model, destination: &Path) -> Result<(), Error> {
        let parameters = model.parameters();
        let stored = |spec: &ParameterSpec| {
            let matrix = parameters.declarations().find(&spec.name).is_some_and(|id| parameters.is_matrix(id));
            match self.layers.iter().find(|layer| layer.name == spec.name) {
                Some(layer) => layer.storage,
                None if matrix => DType::Bf16,
                None => DType::F32,
            }
        };
        let read = Box::new(|spec: &ParameterSpec| -> Result<Cow<'_, [f32]>, WeightsError> {
            match self.changed.get(&spec.name) {
                Some(values) => Ok(values.as_slice().into()),
                None => (model.exported().read)(spec).map(|values| values.into_owned().into()),
            }
        });
        quantized(&ExportSource { read, ..model.exported() }, destination, &stored)?;
        Ok(())
    }

    /// A parameter's values, as they are by now.
    fn read(&self, model: &Model, name: &str) -> Result<Vec<f32>, Error> {
        if let Some(values) = self.changed.get(name) {
            return Ok(values.clone());
        }
        let id = model.parameters().declarations().find(name).expect("a layer's own parameter");
        Ok(model.parameters().read(id)?)
    }

    fn change(&mut self, model: &Model, name: &str, change: impl FnOnce(&mut [f32])) -> Result<(), Error> {
        let mut values = self.read(model, name)?;
        change(&mut values);
        self.changed.insert(name.to_owned(), values);
        Ok(())
    }
}
