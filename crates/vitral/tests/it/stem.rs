//! The small convolutional stem.

use vitral::Device;
use vitral::config::{ConvolutionalStem, ModelConfig, Pooling, Positions, Size, Stem, StemLayer};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Input, Vit};
use vitral_engine::{Context, Parameters};

fn small(layers: &[(usize, usize)], group_width: usize) -> ModelConfig {
    let layers = layers.iter().map(|&(channels, stride)| StemLayer { channels, stride }).collect();
    ModelConfig {
        image_size: Size { height: 16, width: 24 },
        patch_size: Size::square(2),
        classes: 3,
        width: 12,
        depth: 1,
        heads: 2,
        head_width: 6,
        mlp_width: 16,
        class_token: false,
        pooling: Pooling::Mean,
        positions: Positions::LearnedPatches,
        stem: Stem::Convolutional(ConvolutionalStem { layers, group_width }),
        ..ModelConfig::default()
    }
}

#[test]
fn has_the_expected_grid_and_parameters() {
    let vit = Vit::new(small(&[(8, 2), (12, 1)], 4)).expect("a model");
    assert_eq!(vit.config().grid(), Size { height: 4, width: 6 });
    let stem = 3 * 9 * 8 + 2 * 8 + 8 * 9 * 12 + 2 * 12;
    let counted: usize =
        vit.declarations().specs().iter().filter(|s| s.name.starts_with("stem.")).map(|s| s.count()).sum();
    assert_eq!(counted, stem);
    let macs = vit.macs(vit.config().image_size).expect("its own size");
    assert_eq!(macs.stem, (16 * 24 * 27 * 8 + 8 * 12 * 72 * 12) as u64);
    assert_eq!(macs.patch_embedding, 24 * 4 * 12 * 12);
}

#[test]
fn gives_the_same_bits_for_any_batch_and_threads() {
    let vit = Vit::new(small(&[(8, 2), (12, 1)], 4)).expect("a model");
    let logits = |threads: usize, batch: usize| {
        let device = Device::cpu(threads);
        let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
        initialize(&vit, &mut parameters, Initialization::Lucidrains, 5);
        let pixels: Vec<f32> = (0..batch * 3 * 16 * 24).map(|i| ((i % 1152) as f32 * 0.37).sin()).collect();
        let pixels = device.upload([batch, 3, 16, 24], &pixels).unwrap();
        let cx = Context::inference(&parameters);
        let output = vit.forward(&cx, Input { pixels: &pixels, mask: None }).expect("its own size");
        output.logits.expect("a head").to_vec().unwrap()[..3].to_vec()
    };
    let one = logits(1, 1);
    assert!(one.iter().all(|value| value.is_finite() && *value != 0.0));
    assert_eq!(one, logits(2, 1));
    assert_eq!(one, logits(2, 5));
}

#[test]
fn groups_that_do_not_divide_are_rejected() {
    let error = Vit::new(small(&[(8, 2), (12, 1)], 8)).expect_err("refused").to_string();
    assert!(error.contains("12 channels in groups of 8"), "{error}");
    assert!(Vit::new(small(&[(8, 0)], 8)).is_err());
}
