//! Frozen parameters.

use vitral::Device;
use vitral::config::ModelConfig;
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Vit, variants};
use vitral_engine::{Context, DrawKey, Parameters};
use vitral_train::loss::Loss;

fn gradients(vit: &Vit, frozen: &[&str]) -> Vec<(String, Vec<f32>)> {
    let device = Device::cpu(2);
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(vit, &mut parameters, Initialization::Lucidrains, 3);
    let ids = vit.declarations().ids();
    let chosen = ids.filter(|&id| frozen.iter().any(|start| vit.declarations().spec(id).name.starts_with(start)));
    parameters.freeze(chosen.collect::<Vec<_>>());
    let pixels: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| (i as f32 * 0.7).sin()).collect();
    let pixels = device.upload([2, 3, 16, 16], &pixels).unwrap();
    let targets = device.upload([2, 2], &[1.0, 0.0, 0.0, 1.0]).unwrap();
    let mut flat = device.flat_zeros(parameters.flat().len());
    let cx = Context::training(&parameters, DrawKey { seed: 1, step: 0, first_image: 0 });
    let output = vit.forward(&cx, vitral::model::Input { pixels: &pixels, mask: None }).unwrap();
    let loss = Loss::CrossEntropy.of_output(&cx, &output, &targets, None, None);
    cx.backward(&loss, &mut flat);
    let flat = flat.to_vec().unwrap();
    let named = |id| (vit.declarations().spec(id).name.clone(), flat[parameters.range(id)].to_vec());
    vit.declarations().ids().map(named).collect()
}

#[test]
fn other_parameters_are_trained_as_before() {
    let base = variants::find("test/4").unwrap();
    let config =
        ModelConfig { image_size: vitral::config::Size::square(16), classes: 2, layer_scale: Some(0.5), ..base };
    let vit = Vit::new(config).unwrap();
    let all = gradients(&vit, &[]);
    for frozen in [&["patches.", "tokens.", "positions", "blocks.0."][..], &["blocks.1.", "norm."], &["positions"]] {
        for ((name, expected), (_, found)) in all.iter().zip(gradients(&vit, frozen)) {
            let is_frozen = frozen.iter().any(|start| name.starts_with(start));
            if is_frozen {
                assert!(found.iter().all(|&gradient| gradient == 0.0), "{name} is frozen");
            } else {
                assert!(&found == expected, "{name} is trained as before");
            }
        }
    }
}
