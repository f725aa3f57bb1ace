//! Every golden model as a graph, computed by the interpreter and compared with the model itself.

use std::path::{Path, PathBuf};

use prost::Message;
use vitral_engine::{Context, DType, Device, ParameterSpec, Parameters, Precision};

use super::interpreter::{Array, run};
use super::proto::ModelProto;
use super::{OnnxOptions, Opset, convert, export, inspect};
use crate::config::*;
use crate::load::{LoadOptions, Model};
use crate::model::{Input, Output, Vit};
use crate::numbers::apart;
use crate::weights::export::{ExportSource, quantized};
use crate::weights::{Container, WeightsError};

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
    let expected: Vec<f64> = expected.iter().map(|&value| value.into()).collect();
    let count = expected.len() as f64;
    let mean = expected.iter().sum::<f64>() / count;
    let spread = (expected.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    // NaN on either side stays NaN.
    let worst = apart(found, &expected);
    // A head of zeros gives zeros, and nothing else.
    if worst == 0.0 { 0.0 } else { worst / spread }
}

fn check(case: &Path, opset: Opset, options: &OnnxOptions) -> Result<(), String> {
    let own = case.join("vitral-config.json");
    let config = own.is_file().then_some(own);
    let model = Model::load(case, &LoadOptions::default().config(config.clone()), &Device::cpu(1)).unwrap();
    let (shape, values) = pixels(case);
    let [_, channels, height, width] = shape;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let options = options.clone().config(config).opset(opset).image_size(Size { height, width });
    let exported = convert(case, &path, &options).map_err(|fault| fault.to_string())?;
    let contents = inspect(&path).map_err(|fault| fault.to_string())?;
    assert_eq!(contents.operators.values().sum::<usize>(), exported.nodes);
    assert_eq!(contents.inputs, [("pixel_values".into(), vec![None, Some(channels), Some(height), Some(width)])]);

    let output = model.run(&model.parameters().device().upload(shape, &values).unwrap(), None).unwrap();
    compare(&path, shape, &values, output)
}

/// Compares what the graph in a file computes with what the model gave.
fn compare(path: &Path, shape: [usize; 4], values: &[f32], output: Output) -> Result<(), String> {
    let contents = inspect(path).map_err(|fault| fault.to_string())?;
    let graph = ModelProto::decode(&*std::fs::read(path).unwrap()).unwrap();
    let mut found = run(&graph, Array::new(&shape, values.iter().map(|&value| value.into()).collect()));
    let expected = [("logits", output.logits), ("features", Some(output.features))];
    for (name, expected) in expected.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let found = found.remove(name).ok_or_else(|| format!("no `{name}`"))?;
        let stated = contents.outputs.iter().find(|(output, _)| output == name).map(|(_, shape)| &shape[1..]);
        let inner: Vec<_> = expected.shape()[1..].iter().map(|&extent| Some(extent)).collect();
        if found.dims != expected.shape()[..] || found.dims[0] != shape[0] || stated != Some(&inner[..]) {
            return Err(format!("`{name}` is {:?}, expected {:?}", found.dims, expected.shape()));
        }
        let deviation = deviation(&found.values, &expected.to_vec().unwrap());
        if deviation.is_nan() || deviation >= TOLERANCE {
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

/// Linear maps in 8 bits stay so, others in the type they have, and the graph is that of the rounded weights: compared with
/// them in double precision.
#[test]
fn a_model_in_8_bits_stays_in_8_bits() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for name in
        ["hf_vit_classifier", "hf_siglip_classifier", "timm_swiglu_split", "timm_deit_distilled", "hf_beit_classifier"]
    {
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/models").join(name);
        let model = Model::load(&case, &LoadOptions::default(), &Device::cpu(1)).unwrap();
        let stored = |spec: &ParameterSpec| match spec.shape.len() {
            2 if spec.name.ends_with("mlp.down.weight") => DType::Bf16,
            2 if spec.name.starts_with("blocks.") && spec.name.ends_with(".weight") => DType::I8,
            2 if spec.name == "head.weight" => DType::I8,
            _ => DType::F32,
        };
        let bundle = folder.path().join(name);
        quantized(&model.exported(), &bundle, &stored).unwrap();
        let (shape, values) = pixels(&case);
        let [_, _, height, width] = shape;
        for opset in Opset::ALL {
            let options = OnnxOptions::default().opset(opset).image_size(Size { height, width });
            let as_stored = folder.path().join(format!("{name}-{opset}.onnx"));
            let floats = folder.path().join(format!("{name}-{opset}-floats.onnx"));
            convert(&bundle, &as_stored, &options).unwrap();
            convert(&bundle, &floats, &options.storage(DType::F32)).unwrap();
            let contents = inspect(&as_stored).unwrap();
            assert_eq!(contents.metadata["weights"], "int8");
            for spec in model.vit().declarations().specs().iter().filter(|spec| stored(spec) == DType::I8) {
                assert_eq!(contents.constants[&spec.name].1, "int8", "{name}: {}", spec.name);
                let scales = &contents.constants[&format!("{}.scale", spec.name)];
                assert_eq!((&scales.0[..], scales.1), (&spec.shape[..1], "f32"), "{name}: {}", spec.name);
            }
            assert_eq!(contents.constants["blocks.0.mlp.down.weight"].1, "bf16");
            assert!(!inspect(&floats).unwrap().operators.contains_key("DequantizeLinear"));
            let rounded = LoadOptions::default().precision(Precision::F32);
            let rounded = Model::load(&bundle, &rounded, &Device::reference()).unwrap();
            for path in [&as_stored, &floats] {
                let pixels = rounded.parameters().device().upload(shape, &values).unwrap();
                if let Err(fault) = compare(path, shape, &values, rounded.run(&pixels, None).unwrap()) {
                    faults.push(format!("{}: {fault}", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
}

/// Numbers that look random, of a tensor's own.
fn noise(name: &str, count: usize, spread: f32) -> Vec<f32> {
    let mut state = name.bytes().fold(11u64, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * spread
    };
    (0..count).map(|_| draw()).collect()
}

/// A parameter's values: norms near one, everything else near zero.
fn drawn(spec: &ParameterSpec) -> Vec<f32> {
    let values = noise(&spec.name, spec.count(), if spec.shape.len() > 1 { 0.6 } else { 0.4 });
    let norm = spec.name.contains("norm") && spec.name.ends_with(".weight");
    values.into_iter().map(|value| if norm { 1.0 + value } else { value }).collect()
}

fn small() -> ModelConfig {
    ModelConfig {
        image_size: Size { height: 16, width: 24 },
        patch_size: Size::square(8),
        classes: 5,
        width: 24,
        depth: 2,
        heads: 3,
        head_width: 8,
        mlp_width: 32,
        ..ModelConfig::default()
    }
}

/// Configurations that no golden model has.
fn unusual() -> Vec<(&'static str, ModelConfig, Size)> {
    let config = small();
    let size = config.image_size;
    let resample = |pad| OtherSizes::Resample { kernel: PositionResample::Bicubic, pad };
    let layers = |strides: [usize; 2]| strides.map(|stride| StemLayer { channels: 8, stride }).to_vec();
    let convolutional = |strides| Stem::Convolutional(ConvolutionalStem { layers: layers(strides), group_width: 4 });
    let resnet = |root, padding| ResNetV2 {
        layers: vec![1, 2],
        width_factor: 0.125,
        root,
        padding,
        groups: 4,
        standardization_epsilon: 1e-6,
        norm_epsilon: 1e-5,
    };
    let rotary = Some(Rotary::Normalized { theta: 100.0 });
    let axial = Rotary::Axial { theta: 50.0, first: Axis::Columns, offset: 1.0, reference: Some(Size::square(3)) };
    let both = RelativePositions::Both;
    let swish = Head::Mlp { width: 12, activation: Activation::Silu };
    let other = Size { height: 24, width: 16 };
    let stem = |stem| ModelConfig { stem, patch_size: Size::square(2), ..config.clone() };
    let with = |change: fn(&mut ModelConfig)| {
        let mut config = config.clone();
        change(&mut config);
        config
    };
    vec![
        ("convolutional stem", stem(convolutional([2, 2])), size),
        ("convolutional stem, stride 3", stem(convolutional([1, 3])), Size { height: 16, width: 24 }),
        ("small root, padding as in JAX", stem(Stem::Hybrid(resnet(Root::Small, Border::Same))), size),
        ("small root of a ResNet", resnet(Root::Small, Border::Fixed).classifier(5), Size { height: 9, width: 14 }),
        (
            "large root of a ResNet",
            resnet(Root::Large, Border::Symmetric).classifier(5),
            Size { height: 19, width: 34 },
        ),
        (
            "pixels beyond the grid",
            with(|c| c.image_size = Size { height: 21, width: 31 }),
            Size { height: 21, width: 31 },
        ),
        (
            "norms of patches, pixels beyond the grid",
            with(|c| (c.image_size, c.patch_norms) = (Size { height: 21, width: 31 }, true)),
            Size { height: 21, width: 31 },
        ),
        (
            "norms of padded patches",
            ModelConfig { patch_norms: true, other_sizes: resample(true), ..config.clone() },
            Size { height: 21, width: 31 },
        ),
        (
            "both tables of relative positions, resampled, few tokens read",
            ModelConfig { relative_positions: both, other_sizes: resample(false), ..config.clone() },
            other,
        ),
        (
            "shared relative positions by geometric distances, all tokens",
            ModelConfig {
                relative_positions: RelativePositions::Shared,
                relative_resample: RelativeResample::Geometric,
                other_sizes: resample(false),
                pooling: Pooling::MeanAll,
                ..config.clone()
            },
            other,
        ),
        (
            "rotary positions with norms of queries and keys, registers",
            ModelConfig {
                positions: Positions::None,
                rotary,
                qk_norm: true,
                registers: 2,
                norm: NormKind::Rms,
                ..config.clone()
            },
            size,
        ),
        (
            "axial rotary positions beside learned ones, all tokens, a pool with heads and a width of its own",
            ModelConfig {
                rotary: Some(axial),
                pooling: Pooling::Attention,
                pool_prefix: true,
                pool_heads: Some(2),
                pool_mlp_width: Some(20),
                pre_norm: true,
                ..config.clone()
            },
            size,
        ),
        (
            "mixed rotary positions on another grid",
            ModelConfig {
                rotary: Some(Rotary::Mixed { theta: 10.0, first: Axis::Rows }),
                other_sizes: resample(false),
                ..config.clone()
            },
            other,
        ),
        (
            "two heads, an MLP, norms after pooling, pre-logits",
            ModelConfig {
                distillation_token: true,
                distillation_head: true,
                pooled_norm: true,
                pre_logits: Some(10),
                head: swish,
                registers: 1,
                ..config.clone()
            },
            size,
        ),
        ("norms after residuals", with(|c| (c.block, c.layer_scale) = (BlockKind::PostNorm, Some(0.5))), size),
        (
            "no projection, no biases, gated MLP with a norm",
            ModelConfig {
                attention_projection: false,
                attention_norm: true,
                qkv_bias: false,
                mlp_bias: false,
                mlp: MlpKind::Gated,
                activation: Activation::GeluTanh,
                mlp_norm: true,
                qk_scale: Some(QkScale::Rule(ScaleRule::Width)),
                ..config.clone()
            },
            size,
        ),
        (
            "sine-cosine positions of another size",
            with(|c| {
                c.positions = Positions::SinCos2d;
                c.other_sizes = OtherSizes::Resample { kernel: PositionResample::LinearAligned, pad: false };
                c.pooling = Pooling::AverageMax;
                c.pool_prefix = true;
            }),
            other,
        ),
        (
            "no tokens but patches, no positions, no pooling",
            with(|c| {
                (c.class_token, c.positions, c.pooling) = (false, Positions::None, Pooling::None);
                c.head_bias = false;
            }),
            size,
        ),
        ("no blocks", with(|c| c.depth = 0), size),
        (
            "no norms, one block, QuickGELU, attention pool",
            with(|c| {
                (c.depth, c.final_norm, c.pooling, c.activation) =
                    (1, false, Pooling::Attention, Activation::QuickGelu);
                c.pre_norm = true;
            }),
            size,
        ),
        (
            "parallel blocks, few tokens read",
            with(|c| {
                (c.block, c.layer_scale) = (BlockKind::ParallelScaling, Some(0.3));
                c.activation = Activation::Relu;
            }),
            size,
        ),
        (
            "a distillation head that nothing reads",
            with(|c| {
                (c.distillation_token, c.distillation_head, c.pooling) = (true, true, Pooling::Max);
            }),
            size,
        ),
    ]
}

#[test]
fn unusual_models_are_the_same_as_graphs() {
    let device = Device::cpu(1);
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for (name, config, size) in unusual() {
        let vit = Vit::new(config).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let read = |spec: &ParameterSpec| Ok::<_, WeightsError>(drawn(spec).into());
        let parameters = Parameters::prepared(vit.declarations().clone(), device.clone(), DType::F32, read).unwrap();
        let shape = [2, vit.config().channels, size.height, size.width];
        let values = noise("pixels", shape.iter().product(), 3.0);
        for opset in Opset::ALL {
            let pixels = device.upload(shape, &values).unwrap();
            let output = vit.forward(&Context::inference(&parameters), Input { pixels: &pixels, mask: None });
            let path = folder.path().join(format!("{}.onnx", faults.len()));
            let _ = std::fs::remove_file(&path);
            let source = ExportSource {
                name,
                vit: &vit,
                preprocess: None,
                labels: None,
                license: None,
                storage: DType::F32,
                read: Box::new(read),
            };
            export(&source, "vitral", size, &path, &OnnxOptions::default().opset(opset)).unwrap();
            if let Err(fault) = compare(&path, shape, &values, output.unwrap()) {
                faults.push(format!("{name}, opset {opset}: {fault}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
}
