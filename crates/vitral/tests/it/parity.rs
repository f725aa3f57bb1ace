//! Whole models compared with the libraries they come from: every folder of `goldens/models`.

use std::path::Path;

use vitral::numbers::apart;
use vitral::trace::TraceOptions;
use vitral::weights::Container;
use vitral::{Device, LoadOptions, Model, Tensor};

use crate::weights::{cases, goldens};

/// Relative to the reference's standard deviation.
const TOLERANCE: f32 = 2e-4;

/// Loads a golden model, with the description beside it if its own files do not describe it.
pub(crate) fn load(case: &Path, device: &Device) -> Model {
    let own = case.join("vitral-config.json");
    let options = LoadOptions::default().config(own.is_file().then_some(own));
    Model::load(case, &options, device).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
}

/// The tensors of a golden file.
pub(crate) struct Stored(Container);

impl Stored {
    pub(crate) fn open(path: &Path) -> Self {
        Stored(Container::open(path).unwrap_or_else(|error| panic!("{error}")))
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.names().collect()
    }

    pub(crate) fn values(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let view = self.0.tensor(name)?;
        let values = view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect();
        Some((view.shape.to_vec(), values))
    }

    pub(crate) fn pixels(&self, device: &Device) -> Tensor {
        let (shape, values) = self.values("pixel_values").expect("pixel_values");
        device.upload(vitral_engine::Shape::new(&shape), &values).unwrap()
    }

    pub(crate) fn mask(&self) -> Option<Vec<u8>> {
        self.0.tensor("mask").map(|view| view.bytes.to_vec())
    }
}

/// The largest difference in units of the reference's standard deviation.
pub(crate) fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let count = expected.len() as f64;
    let mean = expected.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let deviation = (expected.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count).sqrt();
    let worst = apart(found, expected);
    assert!(found.iter().all(|x| x.is_finite()), "not finite");
    (worst / deviation) as f32
}

/// Compares one case and returns its largest difference, or what is wrong.
fn compare(case: &Path, device: &Device) -> Result<f32, String> {
    let model = load(case, device);
    let input = Stored::open(&case.join("input.safetensors"));
    let expected = Stored::open(&case.join("expected.safetensors"));
    let options = TraceOptions::default().hidden_states(true).attentions(true);
    let (pixels, mask) = (input.pixels(device), input.mask());
    let trace = model.trace(&pixels, mask.as_deref(), options).map_err(|error| error.to_string())?;
    // Without an observer, parts that are not needed are not computed.
    let unwatched = model.run(&pixels, mask.as_deref()).map_err(|error| error.to_string())?;
    let values = |x: Option<&Tensor>| x.map(|x| x.to_vec().unwrap());
    if values(unwatched.logits.as_ref()) != values(trace.output.logits.as_ref())
        || values(Some(&unwatched.features)) != values(Some(&trace.output.features))
    {
        return Err("observing intermediates changes the output".into());
    }
    let mut named = vec![("features".to_owned(), trace.output.features)];
    named.extend(trace.output.logits.map(|logits| ("logits".to_owned(), logits)));
    named.extend(trace.hidden_states.into_iter().enumerate().map(|(i, x)| (format!("hidden_states.{i}"), x)));
    named.extend(trace.attentions.into_iter().enumerate().map(|(i, x)| (format!("attentions.{i}"), x)));
    let mut worst = 0.0f32;
    for (name, found) in &named {
        let Some((shape, values)) = expected.values(name) else {
            if name.starts_with("attentions") {
                continue;
            }
            return Err(format!("we return `{name}` {:?}, the reference does not", found.shape()));
        };
        if found.shape()[..] != shape[..] {
            return Err(format!("`{name}` is {:?}, expected {shape:?}", found.shape()));
        }
        let difference = difference(&found.to_vec().unwrap(), &values);
        if difference > TOLERANCE {
            return Err(format!("`{name}` differs by {difference:.2e} standard deviations"));
        }
        worst = worst.max(difference);
    }
    let missing = |name: &&str| !named.iter().any(|(known, _)| known == name);
    match expected.0.names().find(missing) {
        Some(name) => Err(format!("the reference returns `{name}`, we do not")),
        None => Ok(worst),
    }
}

fn compare_all(device: &Device) {
    let cases = cases();
    assert!(cases.len() > 80, "only {} golden models", cases.len());
    let mut faults = Vec::new();
    let mut worst = (0.0f32, String::new());
    for case in &cases {
        let name = case.clone();
        let path = goldens().join("models").join(case);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compare(&path, device))) {
            Ok(Ok(difference)) if difference > worst.0 => worst = (difference, name),
            Ok(Ok(_)) => {}
            Ok(Err(fault)) => faults.push(format!("{name}: {fault}")),
            Err(panic) => faults.push(format!("{name}: panicked: {:?}", panic.downcast_ref::<String>())),
        }
    }
    println!("{} models, largest difference {:.1e} standard deviations in {}", cases.len(), worst.0, worst.1);
    assert!(faults.is_empty(), "{} of {} differ:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn every_golden_model_matches_its_library() {
    compare_all(&Device::cpu(2));
}

#[test]
fn every_golden_model_matches_its_library_on_the_reference_device() {
    compare_all(&Device::reference());
}

#[test]
fn every_golden_model_matches_its_library_on_a_gpu() {
    match vitral_emulator::driver(false) {
        Ok(folder) => compare_all(&Device::cuda(0, Some(&folder)).unwrap()),
        Err(missing) if missing.skips() => eprintln!("no GPU is compared: {missing}"),
        Err(missing) => panic!("{missing}"),
    }
}

#[test]
fn a_batch_is_downloaded_once() {
    let device = Device::reference();
    let model = load(&goldens().join("models/timm_plain"), &device);
    let pixels = Stored::open(&goldens().join("models/timm_plain/input.safetensors")).pixels(&device);
    let before = device.downloads();
    let logits = model.logits(&pixels).expect("runs");
    assert_eq!(device.downloads(), before, "nothing waits before the logits are read");
    logits.to_vec().expect("logits");
    assert_eq!(device.downloads(), before + 1);
}

#[test]
fn threads_batches_and_observers_do_not_change_bits() {
    // Eight images do not divide evenly among three threads.
    let [one, three] = [1, 3].map(Device::cpu);
    for case in [
        "timm_plain",
        "hf_dinov2_registers_classifier",
        "timm_map",
        "timm_qk_norm",
        "timm_hybrid_stages",
        "timm_bit",
        "timm_beit_both",
    ] {
        let case = goldens().join("models").join(case);
        let input = Stored::open(&case.join("input.safetensors"));
        let (shape, values) = input.values("pixel_values").expect("pixel_values");
        let (serial, parallel) = (load(&case, &one), load(&case, &three));
        // Eight images, all different.
        let pixels = values.len() / shape[0];
        let images: Vec<f32> =
            (0..8).flat_map(|i| values[..pixels].iter().map(move |x| x * (1.0 - 0.1 * i as f32))).collect();
        let tensor =
            |count: usize, values: &[f32]| three.upload([count, shape[1], shape[2], shape[3]], values).unwrap();
        let together = parallel.run(&tensor(8, &images), None).expect("runs");
        let options = TraceOptions::default().hidden_states(true).attentions(true);
        let watched = parallel.trace(&tensor(8, &images), None, options).expect("runs").output;
        assert_eq!(together.features.to_vec().unwrap(), watched.features.to_vec().unwrap(), "{}", case.display());
        let width = together.features.to_vec().unwrap().len() / 8;
        for (i, image) in images.chunks(pixels).enumerate() {
            for model in [&serial, &parallel] {
                let alone = model.run(&tensor(1, image), None).expect("runs");
                let expected = &together.features.to_vec().unwrap()[i * width..][..width];
                assert_eq!(alone.features.to_vec().unwrap(), expected, "{} image {i}", case.display());
            }
        }
    }
}
