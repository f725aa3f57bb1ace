//! Recomputing blocks in the backward pass gives bit-identical results.

use vitral::Device;
use vitral::config::{BlockKind, DropRates, ModelConfig, RelativePositions, Size};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Input, Vit, variants};
use vitral_engine::{Context, DrawKey, Parameters};
use vitral_train::loss::Loss;

/// The loss's bits and every gradient.
fn gradients(vit: &Vit, frozen: &[&str], threads: usize, recompute: bool) -> (u32, Vec<f32>) {
    let device = Device::cpu(threads);
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(vit, &mut parameters, Initialization::Lucidrains, 3);
    let ids = vit.declarations().ids();
    let is_frozen = |id: &_| frozen.iter().any(|start| vit.declarations().spec(*id).name.starts_with(start));
    parameters.freeze(ids.filter(is_frozen).collect::<Vec<_>>());
    let pixels: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| (i as f32 * 0.7).sin()).collect();
    let pixels = device.upload([2, 3, 16, 16], &pixels).unwrap();
    let targets = device.upload([2, 2], &[1.0, 0.0, 0.0, 1.0]).unwrap();
    let mut flat = device.flat_zeros(parameters.flat().len());
    let cx = Context::training(&parameters, DrawKey { seed: 1, step: 0, first_image: 0 });
    let cx = if recompute { cx.with_checkpoints() } else { cx };
    let output = vit.forward(&cx, Input { pixels: &pixels, mask: None }).unwrap();
    let loss = Loss::CrossEntropy.of_output(&cx, &output, &targets, None, None);
    let value = loss.to_vec().unwrap()[0].to_bits();
    cx.backward(&loss, &mut flat);
    (value, flat.to_vec().unwrap())
}

#[test]
fn gradients_are_bit_identical() {
    let base = variants::find("test/4").unwrap();
    let drop = DropRates { hidden: 0.1, attention: 0.1, path: 0.3, ..base.drop };
    for (block, relative_positions) in [
        (BlockKind::PreNorm, RelativePositions::None),
        (BlockKind::PreNorm, RelativePositions::Both),
        (BlockKind::PostNorm, RelativePositions::None),
        (BlockKind::ResidualPostNorm, RelativePositions::None),
        (BlockKind::ParallelScaling, RelativePositions::None),
        (BlockKind::ParallelPairs, RelativePositions::Shared),
    ] {
        let image_size = Size::square(16);
        let config = ModelConfig { image_size, classes: 2, block, relative_positions, drop, ..base.clone() };
        let vit = Vit::new(config).unwrap();
        for frozen in [&[][..], &["patches.", "tokens.", "positions", "blocks.0."], &["blocks.1."]] {
            let expected = gradients(&vit, frozen, 1, false);
            assert!(expected.1.iter().any(|&gradient| gradient != 0.0));
            assert!(expected == gradients(&vit, frozen, 2, true), "{block:?} with {frozen:?} frozen");
        }
    }
}
