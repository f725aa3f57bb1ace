//! Writes a bundle whose matrices are in 8 bits.

use std::path::Path;

use half::bf16;
use serde_json::{Map, json};
use vitral_engine::{DType, ParameterSpec, int8};

use super::describe::int8_bundle;
use super::source::ExportSource;
use super::write::Writer;
use crate::atomic::AtomicFolder;
use crate::model::Vit;
use crate::weights::assign::SCALES;
use crate::weights::{Dialect, ResolveOptions, WeightsError, load_description, resolve};

/// A tensor of the file: its name, type, shape and bytes.
type Stored = (String, &'static str, Vec<usize>, Vec<u8>);

/// Writes a bundle in 8 bits to a new folder; `storage` says what each parameter is stored in. What was written is read back
/// and must be the same numbers, rounded.
///
/// # Errors
/// If the destination exists, cannot be written, or does not give the model back.
pub fn quantized(
    model: &ExportSource<'_>,
    destination: &Path,
    storage: &dyn Fn(&ParameterSpec) -> DType,
) -> Result<(), WeightsError> {
    let occupied = destination.is_file() || destination.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let fault = "already exists and is not overwritten; remove it or choose another path".to_owned();
        return Err(WeightsError::NoModel { path: destination.to_owned(), fault });
    }
    let failed = |source| WeightsError::writing(destination, source);
    let aside = AtomicFolder::beside(destination).map_err(failed)?;
    int8_bundle(model, aside.path())?;
    let mut tensors = Vec::new();
    for spec in model.vit.declarations().specs() {
        let values = (model.read)(spec)?;
        let shape = spec.shape.clone();
        let bytes_of = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        match storage(spec) {
            DType::I8 => {
                let (integers, scales) = rows(&values, spec.shape[0]);
                tensors.push((format!("{}{SCALES}", spec.name), "F32", vec![scales.len()], bytes_of(&scales)));
                tensors.push((spec.name.clone(), "I8", shape, integers));
            }
            DType::Bf16 => {
                let bytes = values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
                tensors.push((spec.name.clone(), "BF16", shape, bytes));
            }
            DType::F32 | DType::F16 => tensors.push((spec.name.clone(), "F32", shape, bytes_of(&values))),
        }
    }
    // Readers use tensors in place where they are aligned: the widest first.
    tensors.sort_by_key(|(_, kind, _, _)| match *kind {
        "F32" => 0,
        "BF16" => 1,
        _ => 2,
    });
    write(&aside.path().join("model.safetensors"), &tensors)?;
    drop(tensors);
    check(model, aside.path(), storage)?;
    aside.finish().map_err(failed)
}

/// A matrix as signed bytes, and the scale of each row.
fn rows(values: &[f32], count: usize) -> (Vec<u8>, Vec<f32>) {
    let width = values.len() / count.max(1);
    let scales: Vec<f32> = values.chunks(width.max(1)).map(int8::row_scale).collect();
    let quantized = |(row, &scale): (&[f32], &f32)| {
        row.iter().map(move |&value| int8::quantized(value, scale) as u8).collect::<Vec<u8>>()
    };
    (values.chunks(width.max(1)).zip(&scales).flat_map(quantized).collect(), scales)
}

fn write(path: &Path, tensors: &[Stored]) -> Result<(), WeightsError> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut end = 0;
    for (name, kind, shape, bytes) in tensors {
        let start = end;
        end += bytes.len();
        header.insert(name.clone(), json!({ "dtype": kind, "shape": shape, "data_offsets": [start, end] }));
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = Writer::create(path)?;
    file.put(&(header.len() as u64).to_le_bytes())?;
    file.put(header.as_bytes())?;
    tensors.iter().try_for_each(|(_, _, _, bytes)| file.put(bytes))?;
    file.finish()
}

/// Reads the bundle back and compares every value.
fn check(
    model: &ExportSource<'_>,
    folder: &Path,
    storage: &dyn Fn(&ParameterSpec) -> DType,
) -> Result<(), WeightsError> {
    let broken = |fault: String| WeightsError::NotReadBack { fault };
    let description = load_description(folder, None)?;
    let vit = Vit::new(description.config.clone()).map_err(|fault| broken(fault.to_string()))?;
    let container = description.open()?;
    let options = ResolveOptions::for_model(&description.config);
    let written = resolve(vit.declarations().specs(), &Dialect::vitral(), &container, &options)
        .map_err(|fault| broken(fault.to_string()))?;
    for spec in vit.declarations().specs() {
        let (ours, theirs) = ((model.read)(spec)?, written.read(&spec.name)?);
        let width = ours.len() / spec.shape.first().copied().unwrap_or(1).max(1);
        let most = |row: &[f32]| row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let near = |(ours, theirs): (&[f32], &[f32])| {
            let bound = match storage(spec) {
                DType::I8 => 0.5001 * int8::row_scale(ours),
                DType::Bf16 => most(ours) / 256.0,
                DType::F32 | DType::F16 => 0.0,
            };
            ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= bound)
        };
        let (ours, theirs) = (ours.chunks(width.max(1)), theirs.chunks(width.max(1)));
        if ours.len() != theirs.len() || !ours.zip(theirs).all(near) {
            return Err(broken(format!("`{}` has other values than the model's", spec.name)));
        }
    }
    Ok(())
}
