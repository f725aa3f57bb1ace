//! The signal-to-noise ratio of a layer's output.

use vitral_engine::ops::Linear;
use vitral_engine::{Context, DType, Declarations, Device, DeviceError, ParameterKind, Parameters, Precision};

use super::calibration::Seen;

/// A layer, with tokens to measure it by.
pub(super) struct Measured<'a> {
    device: &'a Device,
    seen: &'a Seen,
    weight: &'a [f32],
    /// The output in 32 bits.
    exact: Vec<f32>,
}

impl<'a> Measured<'a> {
    pub(super) fn new(device: &'a Device, seen: &'a Seen, weight: &'a [f32]) -> Result<Self, DeviceError> {
        let mut measured = Measured { device, seen, weight, exact: Vec::new() };
        measured.exact = measured.output(Precision::F32, DType::F32, None)?;
        Ok(measured)
    }

    /// In 8 bits, in decibels, with channels of the input divided and weights multiplied by these factors.
    pub(super) fn signal(&self, factors: Option<&[f32]>) -> Result<f64, DeviceError> {
        self.output(Precision::Int8, DType::I8, factors).map(|output| self.ratio(&output))
    }

    /// In bfloat16.
    pub(super) fn signal_in_bf16(&self) -> Result<f64, DeviceError> {
        self.output(Precision::Bf16, DType::Bf16, None).map(|output| self.ratio(&output))
    }

    fn ratio(&self, output: &[f32]) -> f64 {
        let square = |x: f32| f64::from(x).powi(2);
        let signal: f64 = self.exact.iter().map(|&x| square(x)).sum();
        let noise: f64 = self.exact.iter().zip(output).map(|(x, y)| square(x - y)).sum();
        if noise > 0.0 { 10.0 * (signal / noise).log10() } else { f64::from(f32::MAX) }
    }

    fn output(&self, precision: Precision, dtype: DType, factors: Option<&[f32]>) -> Result<Vec<f32>, DeviceError> {
        let width = self.seen.width();
        let device = self.device.clone().with_precision(precision)?;
        let mut declarations = Declarations::default();
        let shape = [self.weight.len() / width, width];
        let weight = declarations.declare("weight", &shape, ParameterKind::Matrix);
        let scaled = |values: &[f32], scale: fn(f32, f32) -> f32| -> Vec<f32> {
            match factors {
                None => values.to_vec(),
                Some(factors) => values
                    .chunks_exact(width)
                    .flat_map(|row| row.iter().zip(factors).map(|(&x, &f)| scale(x, f)))
                    .collect(),
            }
        };
        let values = scaled(self.weight, |x, factor| x * factor);
        let read = |_: &_| Ok::<_, DeviceError>(values.as_slice().into());
        let parameters = Parameters::prepared(declarations, device.clone(), dtype, read)?;
        let tokens = scaled(&self.seen.tokens, |x, factor| x / factor);
        let tokens = device.upload([tokens.len() / width, width], &tokens)?;
        Context::inference(&parameters).linear(&tokens, Linear { weight, bias: None }).to_vec()
    }
}
