//! Low-rank updates: their gradients, the resulting model, and resuming a run.

use vitral::Device;
use vitral::config::{ModelConfig, Size};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Input, Vit, variants};
use vitral::numbers::{apart, largest};
use vitral_engine::random::normal;
use vitral_engine::{Context, Parameters};
use vitral_train::lora::{Lora, Map, checksum, merged, prepare, trainable};
use vitral_train::loss::Loss;

const RANK: usize = 3;

fn small() -> Vit {
    let base = variants::find("test/4").unwrap();
    Vit::new(ModelConfig { image_size: Size::square(16), classes: 2, ..base }).unwrap()
}

fn initial(vit: &Vit, device: &Device, seed: u64) -> Parameters {
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(vit, &mut parameters, Initialization::Lucidrains, seed);
    parameters
}

fn lora(maps: &[Map]) -> Lora {
    Lora { rank: RANK, alpha: 6.0, maps: maps.to_vec(), dropout: 0.0 }
}

/// Logits and gradients of the loss.
fn pass(vit: &Vit, parameters: &Parameters) -> (Vec<f32>, Vec<f32>) {
    let device = parameters.device();
    let pixels: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| (i as f32 * 0.7).sin()).collect();
    let pixels = device.upload([2, 3, 16, 16], &pixels).unwrap();
    let targets = device.upload([2, 2], &[1.0, 0.0, 0.0, 1.0]).unwrap();
    let mut flat = device.flat_zeros(parameters.flat().len());
    let cx = Context::recording(parameters);
    let output = vit.forward(&cx, Input { pixels: &pixels, mask: None }).unwrap();
    let loss = Loss::CrossEntropy.of_output(&cx, &output, &targets, None, None);
    let logits = output.logits.as_ref().unwrap().to_vec().unwrap();
    cx.backward(&loss, &mut flat);
    (logits, flat.to_vec().unwrap())
}

fn near(found: &[f32], expected: &[f32], what: &str) {
    let scale = largest(expected.iter().map(|x| x.abs()).chain([1e-3]));
    let worst = apart(found, expected) as f32;
    assert!(found.len() == expected.len() && worst <= 1e-4 * scale, "{what}: off by {worst:.1e} of {scale:.1e}");
}

#[test]
fn updates_have_the_gradients_of_the_merged_model() {
    let (vit, device) = (small(), Device::cpu(2));
    let maps = [Map::Qkv, Map::Projection, Map::Up, Map::Down];
    let base = initial(&vit, &device, 3);
    let mut adapted = prepare(&vit, initial(&vit, &device, 3), &[], Some(&lora(&maps)), 1).unwrap();
    // Initially the updates change nothing.
    near(&pass(&vit, &adapted).0, &pass(&vit, &base).0, "initial logits");

    let names = adapted.declarations().clone();
    for id in names.ids().filter(|&id| names.spec(id).name.ends_with(".adapter.up.weight")) {
        let values: Vec<f32> = (0..names.spec(id).count()).map(|i| 0.2 * normal(11, i as u64)).collect();
        adapted.write(id, &values);
    }
    let flat = adapted.flat().to_vec().unwrap();
    let mut whole = initial(&vit, &device, 3);
    for id in vit.declarations().ids() {
        whole.write(id, &merged(&adapted, &flat, id).unwrap());
    }
    let (logits, gradients) = pass(&vit, &adapted);
    let (expected_logits, expected) = pass(&vit, &whole);
    near(&logits, &expected_logits, "logits");

    let mut updates = 0;
    for id in vit.declarations().ids() {
        let spec = vit.declarations().spec(id);
        let of_whole = &expected[whole.range(id)];
        let Some(adapter) = adapted.adapter(id) else {
            if spec.name.starts_with("head.") {
                near(&gradients[adapted.range(id)], of_whole, &spec.name);
            } else {
                assert!(!adapted.is_trainable(id) && !adapted.is_flat(id), "{} is frozen", spec.name);
            }
            continue;
        };
        updates += 1;
        // With y = x (W + s U D)ᵀ and G the gradient of W + s U D, the gradient of U is s G Dᵀ and that of D is s Uᵀ G.
        let (rows, columns) = (spec.shape[0], spec.shape[1]);
        let [up, down] = [adapter.up, adapter.down].map(|id| adapted.read(id).unwrap());
        let of_up: Vec<f32> = (0..rows * RANK)
            .map(|i| {
                let (row, r) = (i / RANK, i % RANK);
                2.0 * (0..columns).map(|c| of_whole[row * columns + c] * down[r * columns + c]).sum::<f32>()
            })
            .collect();
        let of_down: Vec<f32> = (0..RANK * columns)
            .map(|i| {
                let (r, column) = (i / columns, i % columns);
                2.0 * (0..rows).map(|row| up[row * RANK + r] * of_whole[row * columns + column]).sum::<f32>()
            })
            .collect();
        near(&gradients[adapted.range(adapter.up)], &of_up, &format!("{} up", spec.name));
        near(&gradients[adapted.range(adapter.down)], &of_down, &format!("{} down", spec.name));
    }
    assert_eq!(updates, 4 * vit.config().depth);
}

#[test]
fn frozen_parameters_have_no_gradients_or_moments() {
    let (vit, device) = (small(), Device::cpu(1));
    let parameters = prepare(&vit, initial(&vit, &device, 3), &[], Some(&lora(&[Map::Qkv])), 1).unwrap();
    let (trained, all) = trainable(&vit, &parameters);
    let width = vit.config().width;
    let head = 2 * width + 2;
    assert_eq!(trained, vit.config().depth * RANK * (width + 3 * width) + head);
    assert_eq!(all, vit.declarations().count());
    assert!(parameters.flat().len() < trained + 16 * 16);
    let other = prepare(&vit, initial(&vit, &device, 4), &[], Some(&lora(&[Map::Qkv])), 1).unwrap();
    assert_ne!(checksum(&parameters).unwrap(), checksum(&other).unwrap(), "another model has another checksum");
}

#[test]
fn invalid_updates_are_refused_by_name() {
    let (vit, device) = (small(), Device::cpu(1));
    for (lora, word) in [
        (Lora { rank: 0, ..lora(&[Map::Qkv]) }, "lora.rank"),
        (Lora { rank: 1000, ..lora(&[Map::Qkv]) }, "lora.rank"),
        (lora(&[]), "lora.maps"),
        (lora(&[Map::Up, Map::Up]), "twice"),
        (Lora { dropout: 1.0, ..lora(&[Map::Up]) }, "lora.dropout"),
    ] {
        let error = prepare(&vit, initial(&vit, &device, 3), &[], Some(&lora), 1).expect_err("a mistake").to_string();
        assert!(error.contains(word), "{error}");
    }
}
