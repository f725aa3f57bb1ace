//! Every golden model as a graph, computed by the interpreter and compared with the model itself.

use std::path::{Path, PathBuf};

use prost::Message;
use vitral_engine::Device;

use super::interpreter::{Array, run};
use super::proto::ModelProto;
use super::{OnnxOptions, Opset, convert, inspect};
use crate::config::Size;
use crate::load::{LoadOptions, Model};
use crate::weights::Container;

/// Relative to the reference's standard deviation.
const TOLERANCE: f64 = 5e-5;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 160, "only {} golden models", cases.len());
    cases
}

/// Shape and values of a golden's input.
fn pixels(case: &Path) -> ([usize; 4], Vec<f32>) {
    let container = Container::open(&case.join("input.safetensors")).unwrap();
    let view = container.tensor("pixel_values").unwrap();
    let values = view.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    (view.shape.try_into().unwrap(), values)
}

/// The largest difference in units of the standard deviation.
fn deviation(found: &[f64], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let expected: Vec<f64> = expected.iter().map(|&value| value.into()).collect();
    let count = expected.len() as f64;
    let mean = expected.iter().sum::<f64>() / count;
    let spread = (expected.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // A head of zeros gives zeros, and nothing else.
    if worst == 0.0 && found.iter().all(|value| value.is_finite()) { 0.0 } else { worst / spread }
}

fn check(case: &Path, opset: Opset, options: &OnnxOptions) -> Result<(), String> {
    let own = case.join("vitral-config.json");
    let config = own.is_file().then_some(own);
    let model = Model::load(case, &LoadOptions::default().config(config.clone()), &Device::cpu(1)).unwrap();
    let (shape, values) = pixels(case);
    let [images, channels, height, width] = shape;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let options = options.clone().config(config).opset(opset).image_size(Size { height, width });
    let exported = convert(case, &path, &options).map_err(|fault| fault.to_string())?;
    let contents = inspect(&path).map_err(|fault| fault.to_string())?;
    assert_eq!(contents.operators.values().sum::<usize>(), exported.nodes);
    assert_eq!(contents.inputs, [("pixel_values".into(), vec![None, Some(channels), Some(height), Some(width)])]);

    let bytes = std::fs::read(&path).unwrap();
    let graph = ModelProto::decode(&*bytes).unwrap();
    let output = model.run(&model.parameters().device().upload(shape, &values).unwrap(), None).unwrap();
    let mut found = run(&graph, Array::new(&shape, values.iter().map(|&value| value.into()).collect()));
    let expected = [("logits", output.logits), ("features", Some(output.features))];
    for (name, expected) in expected.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let found = found.remove(name).ok_or_else(|| format!("no `{name}`"))?;
        let stated = contents.outputs.iter().find(|(output, _)| output == name).map(|(_, shape)| &shape[1..]);
        let inner: Vec<_> = expected.shape()[1..].iter().map(|&extent| Some(extent)).collect();
        if found.dims != expected.shape()[..] || found.dims[0] != images || stated != Some(&inner[..]) {
            return Err(format!("`{name}` is {:?}, expected {:?}", found.dims, expected.shape()));
        }
        let deviation = deviation(&found.values, &expected.to_vec().unwrap());
        // Not a number is not below anything.
        if !(deviation < TOLERANCE) {
            return Err(format!("`{name}` differs by {deviation:.1e} standard deviations"));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("it also gives {:?}", found.keys())) }
}

#[test]
fn every_golden_model_is_the_same_as_a_graph() {
    let mut faults = Vec::new();
    for case in cases() {
        for opset in Opset::ALL {
            if let Err(fault) = check(&case, opset, &OnnxOptions::default()) {
                faults.push(format!("{}, opset {opset}: {fault}", case.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
}
