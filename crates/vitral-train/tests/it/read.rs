//! Values that are not used are not computed, which does not change any result.

use vitral::config::{Axis, BlockKind, MlpKind, ModelConfig, RelativePositions, Rotary, Size};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Input, Vit, variants};
use vitral::numbers::largest;
use vitral::{Device, DeviceError, Tensor};
use vitral_engine::{Context, DType, Observer, Parameters};
use vitral_train::loss::Loss;

/// Requests one intermediate, and therefore the whole of the last block.
struct Wants<'a>(&'a str);

impl Observer for Wants<'_> {
    fn wants(&self, name: &str) -> bool {
        name == self.0
    }

    fn observe(&self, _: &str, _: &Tensor) {}
}

/// With 32-wide heads, for which queries are computed separately from keys and values on every instruction set.
fn configs() -> Vec<ModelConfig> {
    let base = ModelConfig { image_size: Size::square(16), classes: 3, ..variants::find("test/4").unwrap() };
    assert!(base.heads * base.head_width == 32 && base.depth > 1);
    let kinds = [
        BlockKind::PreNorm,
        BlockKind::PostNorm,
        BlockKind::ResidualPostNorm,
        BlockKind::ParallelScaling,
        BlockKind::ParallelPairs,
    ];
    let mut configs: Vec<_> = kinds.map(|block| ModelConfig { block, ..base.clone() }).into();
    configs.extend([
        ModelConfig { distillation_token: true, distillation_head: true, registers: 2, ..base.clone() },
        ModelConfig { distillation_token: true, layer_scale: Some(0.3), mlp: MlpKind::Gated, ..base.clone() },
        ModelConfig { qk_norm: true, key_bias: false, attention_norm: true, ..base.clone() },
        ModelConfig { rotary: Some(Rotary::Normalized { theta: 100.0 }), ..base.clone() },
        ModelConfig { rotary: Some(Rotary::Mixed { theta: 10.0, first: Axis::Columns }), ..base.clone() },
        ModelConfig { relative_positions: RelativePositions::Both, depth: 1, ..base.clone() },
        ModelConfig { attention_projection: false, ..base },
    ]);
    configs
}

fn flat(vit: &Vit, device: &Device) -> Parameters {
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(vit, &mut parameters, Initialization::Lucidrains, 3);
    parameters
}

/// Intermediates that require the whole last block.
fn names(config: &ModelConfig) -> Vec<String> {
    let last = format!("blocks.{}", config.depth - 1);
    let pairs = config.block == BlockKind::ParallelPairs;
    let inside = if pairs { &["pairs.0.", "pairs.1."][..] } else { &[""] };
    let weights = inside.iter().map(|pair| format!("{last}.{pair}attention.weights"));
    weights.chain(["norm".to_owned(), format!("{last}.output")]).collect()
}

fn pixels(device: &Device) -> Tensor {
    let pixels: Vec<f32> = (0..3 * 3 * 16 * 16).map(|i| (i as f32 * 0.7).sin()).collect();
    device.upload([3, 3, 16, 16], &pixels).unwrap()
}

#[test]
fn logits_are_bit_identical() {
    for threads in [1, 2] {
        let device = Device::cpu(threads);
        let pixels = pixels(&device);
        for config in configs() {
            let names = names(&config);
            let vit = Vit::new(config).unwrap();
            let patches = vit.config().grid().area();
            let mask: Vec<u8> = (0..3 * patches).map(|i| u8::from(i % 5 != 2)).collect();
            let source = flat(&vit, &device);
            for storage in [DType::F32, DType::Bf16] {
                let read = |spec: &vitral_engine::ParameterSpec| {
                    let id = source.declarations().find(&spec.name).expect("declared");
                    Ok::<_, DeviceError>(source.read(id)?.into())
                };
                let frozen = Parameters::prepared(vit.declarations().clone(), device.clone(), storage, read).unwrap();
                for mask in [None, Some(&mask[..])] {
                    let run = |cx: &Context<'_>| {
                        let output = vit.forward(cx, Input { pixels: &pixels, mask }).unwrap();
                        (output.logits.unwrap().to_vec().unwrap(), output.features.to_vec().unwrap())
                    };
                    let expected = run(&Context::inference(&frozen));
                    for name in &names {
                        let whole = run(&Context::inference(&frozen).observed_by(&Wants(name)));
                        assert!(whole == expected, "{:?} watched at {name}", vit.config());
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_match_the_full_computation() {
    let device = Device::cpu(2);
    let pixels = pixels(&device);
    let targets = device.upload([3, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.2, 0.0, 0.8]).unwrap();
    let gradients = |vit: &Vit, parameters: &Parameters, cx: Context<'_>| {
        let mut flat = device.flat_zeros(parameters.flat().len());
        let output = vit.forward(&cx, Input { pixels: &pixels, mask: None }).unwrap();
        let loss = Loss::CrossEntropy.of_output(&cx, &output, &targets, None, None);
        let value = loss.to_vec().unwrap()[0].to_bits();
        cx.backward(&loss, &mut flat);
        (value, flat.to_vec().unwrap())
    };
    for config in configs() {
        let vit = Vit::new(config).unwrap();
        let all = flat(&vit, &device);
        // First all parameters are trained, then the last block's attention is frozen.
        let last = format!("blocks.{}.attention", vit.config().depth - 1);
        let learns = |id| !vit.declarations().spec(id).name.starts_with(&last);
        let read = |spec: &vitral_engine::ParameterSpec| {
            Ok::<_, DeviceError>(all.read(vit.declarations().find(&spec.name).expect("declared"))?.into())
        };
        let partly = Parameters::partly_frozen(vit.declarations().clone(), device.clone(), learns, read);
        let mut partly = partly.unwrap();
        for id in vit.declarations().ids().filter(|&id| learns(id)) {
            partly.write(id, &all.read(id).unwrap());
        }
        for parameters in [&all, &partly] {
            let whole = gradients(&vit, parameters, Context::recording(parameters).observed_by(&Wants("norm")));
            let largest = largest(whole.1.iter().map(|gradient| gradient.abs()));
            assert!(largest > 0.0);
            let alone = gradients(&vit, parameters, Context::recording(parameters));
            assert_eq!(alone.0, whole.0, "{:?}", vit.config());
            for (found, expected) in alone.1.iter().zip(&whole.1) {
                let near = (found - expected).abs() <= 1e-5 * largest;
                assert!(near, "{found} for {expected}, the largest being {largest}: {:?}", vit.config());
            }
            // Recomputing blocks changes no bit.
            let again = gradients(&vit, parameters, Context::recording(parameters).with_checkpoints());
            assert!(again == alone, "{:?}", vit.config());
        }
    }
}
