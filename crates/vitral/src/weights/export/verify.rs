//! Reads back what was written, as its own loader does, and compares it with the source.

use std::borrow::Cow;

use vitral_engine::{Context, DType, Device, ParameterSpec, Parameters};

use super::source::ExportSource;
use crate::config::{OtherSizes, Size};
use crate::image::Preprocess;
use crate::model::{Input, Vit};
use crate::weights::{Assignment, Description, WeightsError};

/// Checks that the written preprocessing gives images that the written model takes, if the source's does.
pub(super) fn takes_its_images(model: &ExportSource<'_>, description: &Description, vit: &Vit) -> Result<(), String> {
    let fits = |preprocess: &Preprocess, vit: &Vit| {
        let size = preprocess.output_size();
        preprocess.channels.count() == vit.config().channels && size.is_none_or(|size| vit.grid(size).is_ok())
    };
    if model.preprocess.as_ref().is_some_and(|preprocess| !fits(preprocess, model.vit)) {
        return Ok(());
    }
    let Some(preprocess) = description.preprocess.read() else { return Ok(()) };
    let preprocess = preprocess.map_err(|fault| format!("its preprocessing cannot be read: {fault}"))?;
    let (found, expected) = (preprocess.channels.count(), vit.config().channels);
    if found != expected {
        return Err(format!("the model takes {expected} channels, its preprocessing gives {found}"));
    }
    match preprocess.output_size().filter(|&size| vit.grid(size).is_err()) {
        Some(size) => Err(format!(
            "the model takes images of {}, its preprocessing gives {size}; bring it to one size with `--image-size {}`",
            vit.config().image_size,
            size.height
        )),
        None => Ok(()),
    }
}

/// Checks that every parameter has the source's bits, or those that are left of them in 16 bits.
pub(super) fn same_values(model: &ExportSource<'_>, vit: &Vit, written: &Assignment<'_>) -> Result<(), WeightsError> {
    let stored = |value: f32| match model.storage {
        DType::F32 | DType::I8 => value,
        DType::Bf16 => half::bf16::from_f32(value).to_f32(),
        DType::F16 => half::f16::from_f32(value).to_f32(),
    };
    for spec in vit.declarations().specs() {
        let (ours, theirs) = ((model.read)(spec)?, written.read(&spec.name)?);
        let same = |(ours, theirs): (&f32, &f32)| {
            stored(*ours).to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan())
        };
        if ours.len() != theirs.len() || !ours.iter().zip(theirs.iter()).all(same) {
            let name = spec.name.clone();
            return Err(WeightsError::NotReadBack { fault: format!("`{name}` has other values than the model's") });
        }
        written.release(&spec.name);
    }
    Ok(())
}

/// Checks that the written model computes what the source does from an image of noise, bit for bit; in 16 bits, that it
/// computes something.
pub(super) fn same_outputs(model: &ExportSource<'_>, vit: &Vit, written: &Assignment<'_>) -> Result<(), WeightsError> {
    let config = model.vit.config();
    let shown = model.preprocess.as_ref().and_then(|preprocess| preprocess.output_size());
    let size = match (shown, config.other_sizes) {
        (Some(shown), OtherSizes::Resample { .. }) if model.vit.grid(shown).is_ok() => shown,
        _ => config.image_size,
    };
    let theirs = output(vit, size, |spec| written.read(&spec.name))?;
    if theirs.iter().any(|value| !value.is_finite()) {
        return Err(WeightsError::NotReadBack { fault: "its output has values that are not finite".into() });
    }
    if model.storage != DType::F32 {
        return Ok(());
    }
    let ours = output(model.vit, size, |spec| (model.read)(spec))?;
    let same = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| a.to_bits() == b.to_bits());
    if same { Ok(()) } else { Err(WeightsError::NotReadBack { fault: "it computes something else".into() }) }
}

/// Logits, or features without a classifier, of one image of noise.
fn output<'a>(
    vit: &Vit,
    size: Size,
    read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, WeightsError>,
) -> Result<Vec<f32>, WeightsError> {
    let device = Device::cpu(0);
    let parameters = Parameters::prepared(vit.declarations().clone(), device.clone(), DType::F32, read)?;
    let channels = vit.config().channels;
    let pixels: Vec<f32> = (0..channels * size.area()).map(noise).collect();
    let pixels = device.upload([1, channels, size.height, size.width], &pixels)?;
    let cx = Context::inference(&parameters);
    let fault = |fault: crate::model::ModelError| WeightsError::NotReadBack { fault: fault.to_string() };
    let output = vit.forward(&cx, Input { pixels: &pixels, mask: None }).map_err(fault)?;
    Ok(output.logits.unwrap_or(output.features).to_vec()?)
}

/// A number between −1 and 1 that looks random (a multiplicative hash).
fn noise(index: usize) -> f32 {
    let hashed = (index as u32).wrapping_add(1).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
    hashed.wrapping_mul(2_246_822_519) as f32 / u32::MAX as f32 * 2.0 - 1.0
}
