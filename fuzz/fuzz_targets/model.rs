#![no_main]
//! Any configuration, on any image size, is a forward pass or an error.

use libfuzzer_sys::fuzz_target;
use vitral::Device;
use vitral::config::Size;
use vitral::model::init::{Initialization, frozen};
use vitral::model::{Input, Vit};
use vitral_engine::Context;

#[path = "../../crates/vitral/tests/it/geometry/draw.rs"]
mod draw;

fuzz_target!(|bytes: &[u8]| {
    let mut draw = draw::Draw(bytes);
    let config = draw.config();
    let sizes = [config.image_size, draw.size(40)];
    let Ok(vit) = Vit::new(config) else { return };
    let device = Device::cpu(1);
    let parameters = frozen(&vit, Initialization::Timm, 0, &device);
    for Size { height, width } in sizes {
        let shape = [1, vit.config().channels, height, width];
        let pixels = device.upload(shape, &vec![0.5; shape.iter().product()]).expect("memory");
        let context = Context::inference(&parameters);
        if let Ok(output) = vit.forward(&context, Input { pixels: &pixels, mask: None }) {
            output.features.to_vec().expect("computed");
        }
    }
});
