//! BiT's ResNets, in addition to the goldens.

use vitral::Device;
use vitral::config::{Border, ConfigError, ModelConfig, Size, Stem};
use vitral::model::init::{Initialization, frozen};
use vitral::model::{Input, Vit, variants};
use vitral_engine::Context;

fn small(name: &str) -> ModelConfig {
    ModelConfig { classes: 3, ..variants::find(name).expect("known") }
}

#[test]
fn accepts_images_of_any_size() {
    let vit = Vit::new(small("R14x0.125")).expect("a model");
    let device = Device::cpu(2);
    let parameters = frozen(&vit, Initialization::Jax, 1, &device);
    for (height, width, grid) in [(224, 224, [7, 7]), (33, 64, [2, 2]), (1, 1, [1, 1]), (31, 5, [1, 1])] {
        let size = Size { height, width };
        assert_eq!(vit.grid(size).expect("any"), Size { height: grid[0], width: grid[1] });
        let pixels: Vec<f32> = (0..3 * size.area()).map(|i| (i as f32 * 0.37).sin()).collect();
        let pixels = device.upload([1, 3, height, width], &pixels).unwrap();
        let output = vit.forward(&Context::inference(&parameters), Input { pixels: &pixels, mask: None });
        let output = output.expect("any size");
        assert_eq!(output.features.shape()[..], [1, 256]);
        assert!(output.features.to_vec().unwrap().iter().all(|value| value.is_finite() && *value >= 0.0));
    }
    assert!(vit.grid(Size { height: 0, width: 8 }).is_err());
}

#[test]
fn costs_match_the_convolutions() {
    let macs =
        |name: &str, side| Vit::new(variants::find(name).expect("known")).expect("valid").macs(Size::square(side));
    // timm's table has 4.23 and 16.6 GMACs, group norms included.
    for (name, side, expected) in [("R50x1", 224, 4.1), ("R101x1", 448, 31.3)] {
        let found = macs(name, side).expect("any size");
        let billions = found.total() as f64 / 1e9;
        assert!((billions / expected - 1.0).abs() < 0.03, "{name}: {billions} GMACs");
        assert_eq!(found.patch_embedding + found.attention + found.mlp, 0, "{name}");
    }
}

#[test]
fn contradictions_are_reported() {
    let broken = |change: fn(&mut ModelConfig)| {
        let mut config = small("R14x0.5");
        change(&mut config);
        Vit::new(config).err().map(|error: ConfigError| error.to_string()).unwrap_or_default()
    };
    assert!(broken(|config| config.width = 7).contains("ResNet of 1024 channels"));
    assert!(broken(|config| config.patch_size = Size::square(2)).contains("patches of 2"));
    assert!(broken(|config| config.depth = 1).contains("`heads` is 0"));
    let set = |change: fn(&mut vitral::config::ResNetV2)| {
        let mut config = small("R14x0.5");
        let Stem::ResNet(resnet) = &mut config.stem else { unreachable!("a ResNet") };
        change(resnet);
        Vit::new(config).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(set(|resnet| resnet.groups = 7).contains("in 7 groups"));
    assert!(set(|resnet| resnet.groups = 0).contains("in 0 groups"));
    assert!(set(|resnet| resnet.width_factor = f32::NAN).contains("width_factor"));
    assert!(set(|resnet| resnet.layers = vec![1, 0]).contains("[1, 0]"));
    assert!(set(|resnet| resnet.layers = vec![1; 9]).contains("stages"));
}

#[test]
fn older_bundles_with_same_padding_are_read() {
    let text = r#"{"layers": [1], "width_factor": 1, "same_padding": true, "groups": 32,
                   "standardization_epsilon": 1e-8, "norm_epsilon": 1e-5}"#;
    let read: vitral::config::ResNetV2 = serde_json::from_str(text).expect("reads");
    assert_eq!(read.padding, Border::Same);
    let written = serde_json::to_string(&read).expect("plain data");
    assert!(written.contains(r#""padding":"same""#), "{written}");
    assert_eq!(serde_json::from_str::<vitral::config::ResNetV2>(&written).expect("reads"), read);
}
