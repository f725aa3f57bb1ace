//! Image sizes that are not a multiple of the patch size, as in SigLIP's `so400m-patch14-384`.

use vitral::Device;
use vitral::config::{ConvolutionalStem, ModelConfig, Size, Stem, StemLayer};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Input, Vit, variants};
use vitral_engine::{Context, Parameters};

fn logits(vit: &Vit, device: &Device, size: usize, pixel: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(vit, &mut parameters, Initialization::Lucidrains, 5);
    let pixels: Vec<f32> = (0..3 * size * size).map(|i| pixel(i / size / size, i / size % size, i % size)).collect();
    let pixels = device.upload([1, 3, size, size], &pixels).expect("uploaded");
    let output = vit.forward(&Context::inference(&parameters), Input { pixels: &pixels, mask: None });
    output.expect("its own size").logits.expect("a head").to_vec().expect("logits")
}

#[test]
fn pixels_after_the_last_whole_patch_are_dropped() {
    let base = ModelConfig { patch_size: Size::square(8), ..variants::find("test/4").expect("a size") };
    let model = |size| Vit::new(ModelConfig { image_size: Size::square(size), ..base.clone() }).expect("a model");
    let (odd, whole) = (model(30), model(24));
    assert_eq!(odd.config().grid(), Size::square(3));
    let pixel = |c: usize, y: usize, x: usize| ((c * 900 + y * 30 + x) as f32 * 0.37).sin();
    for device in [Device::cpu(2), Device::reference()] {
        assert_eq!(logits(&odd, &device, 30, pixel), logits(&whole, &device, 24, pixel));
    }
}

#[test]
fn a_stem_rounds_up() {
    let layers = [8, 12].map(|channels| StemLayer { channels, stride: 2 }).to_vec();
    let stem = Stem::Convolutional(ConvolutionalStem { layers, group_width: 4 });
    let base = variants::find("test/4").expect("a size");
    let vit = Vit::new(ModelConfig { image_size: Size::square(10), patch_size: Size::square(1), stem, ..base });
    let vit = vit.expect("a model");
    assert_eq!(vit.config().grid(), Size::square(3), "10 to 5 to 3");
    let found = logits(&vit, &Device::cpu(2), 10, |c, y, x| ((c + y * x) as f32 * 0.1).cos());
    assert!(found.iter().all(|logit| logit.is_finite()));
}
