//! What a device may do to those who use it: work that waits, memory that runs out, faults that stick.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::gpu;
use vitral_engine::ops::{Attention, Epilogue, Linear, Norm, NormKind};
use vitral_engine::random::normal;
use vitral_engine::{
    Activation, BatchExtent, Clip, Context, Cpu, DType, Declarations, Device, DeviceError, DrawKey, GradientSum,
    Moments, ParameterId, ParameterKind, Parameters, Precision, Reference, Tensor, Update, UpdateGroup, UpdateRule,
    leaves,
};

const WIDTH: usize = 8;

/// One block of a transformer with a head: attention and MLP around the residual.
struct Block {
    declarations: Declarations,
    norms: [Norm; 2],
    qkv: Linear,
    projection: Linear,
    up: Linear,
    down: Linear,
    scale: ParameterId,
    head: Linear,
}

impl Block {
    fn new() -> Self {
        let mut declarations = Declarations::default();
        let mut linear = |name: &str, inner: usize, outer: usize| Linear {
            weight: declarations.declare(format!("{name}.weight"), &[outer, inner], ParameterKind::Matrix),
            bias: Some(declarations.declare(format!("{name}.bias"), &[outer], ParameterKind::Plain)),
        };
        let (qkv, projection) = (linear("qkv", WIDTH, 3 * WIDTH), linear("projection", WIDTH, WIDTH));
        let (up, down) = (linear("up", WIDTH, 2 * WIDTH), linear("down", 2 * WIDTH, WIDTH));
        let head = linear("head", WIDTH, 3);
        let norms = ["norm1", "norm2"].map(|name| Norm {
            weight: declarations.declare(format!("{name}.weight"), &[WIDTH], ParameterKind::Plain),
            bias: Some(declarations.declare(format!("{name}.bias"), &[WIDTH], ParameterKind::Plain)),
            epsilon: 1e-6,
            kind: NormKind::Layer,
        });
        let scale = declarations.declare("scale", &[WIDTH], ParameterKind::Plain);
        Block { declarations, norms, qkv, projection, up, down, scale, head }
    }

    /// Logits `[batch, 3]` of tokens `[batch, tokens, width]`.
    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        let qkv = cx.qkv(x, Some(&self.norms[0]), self.qkv, None);
        let attention =
            Attention { heads: 2, scale: 0.5, key_mask: None, bias: None, dropout: 0.1, queries: None, capture: false };
        let attended = cx.attention(&qkv, attention).output;
        let after = Epilogue { scale: Some(self.scale), drop_path: 0.2, residual: Some(x), ..Epilogue::default() };
        let x = cx.linear_with(&attended, None, self.projection, after);
        let gelu = Epilogue { activation: Some(Activation::Gelu), dropout: 0.1, ..Epilogue::default() };
        let hidden = cx.linear_with(&x, Some(&self.norms[1]), self.up, gelu);
        let x = cx.linear_with(&hidden, None, self.down, Epilogue { residual: Some(&x), ..Epilogue::default() });
        cx.linear(&cx.mean_tokens(&x, 0), self.head)
    }

    fn parameters(&self, device: &Device) -> Parameters {
        let mut parameters = Parameters::zeros(self.declarations.clone(), device.clone());
        for id in self.declarations.ids() {
            let count = self.declarations.spec(id).count();
            let values: Vec<f32> = (0..count).map(|i| 0.4 * normal(id_seed(id), i as u64)).collect();
            parameters.write(id, &values);
        }
        parameters
    }
}

fn id_seed(id: ParameterId) -> u64 {
    format!("{id:?}").bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// Three steps over batches of six images; losses, and the parameters at the end.
fn train(device: &Device) -> Result<(Vec<f32>, Vec<f32>), DeviceError> {
    let block = Block::new();
    let mut parameters = block.parameters(device);
    let rule = UpdateRule::Adamw { beta1: 0.9, beta2: 0.99, epsilon: 1e-6 };
    let mut moments = Moments::zeros(&parameters, rule);
    let mut gradients = GradientSum::zeros(&parameters, 2);
    let groups = [UpdateGroup {
        range: 0..parameters.flat().len(),
        weight_decay: 0.01,
        learning_rate_scale: 1.0,
        rule: None,
        matrix: None,
    }];
    let mut losses = Vec::new();
    for step in 0..3u64 {
        let pixels: Vec<f32> = (0..6 * 5 * WIDTH).map(|i| normal(100 + step, i as u64)).collect();
        let x = device.upload([6, 5, WIDTH], &pixels)?;
        let targets = device.one_hot(&[0, 1, 2, 0, 1, 2], 3, 0.1)?;
        gradients.clear();
        let before = device.downloads();
        let extent = BatchExtent { tokens: 5, convolutions: false };
        let parts = gradients.accumulate(extent, &leaves(6, 2), &parameters, |device, images, gradients| {
            let draws = DrawKey { seed: 1, step, first_image: images.start };
            let cx = Context::training(&parameters, draws).on(device);
            let logits = block.forward(&cx, &device.slice(&x, images.clone()));
            let loss = cx.cross_entropy(&logits, &device.slice(&targets, images.clone()));
            let share = device.full(loss.shape(), images.len() as f32 / 6.0);
            cx.backward_from(&loss, share, Some(gradients));
            Ok::<_, DeviceError>((loss, images.len() as f32 / 6.0))
        })?;
        gradients.join();
        let norm = gradients.clip(Some(Clip::Norm(1.0)), &parameters);
        let gate = device.all_finite(&[&norm, &parts[0].0]);
        let update = Update { rule, groups: &groups, learning_rate: 1e-2, step: step + 1 };
        update.apply(&mut parameters, &gradients, &mut moments, &gate);
        let numbers: Vec<Tensor> = parts.iter().map(|(loss, _)| loss.clone()).collect();
        let numbers = device.concatenate(&numbers).to_vec()?;
        assert_eq!(device.downloads() - before, 1, "a step waits once");
        losses.push(numbers.iter().zip(&parts).map(|(loss, (_, share))| loss * share).sum());
    }
    Ok((losses, parameters.flat().to_vec()?))
}

#[test]
fn a_training_step_is_the_same_on_every_device_with_the_same_draws() {
    let (losses, parameters) = train(&Device::reference()).expect("no fault");
    for threads in [1, 2, 3, 4] {
        let (found, moved) = train(&Device::cpu(threads)).expect("no fault");
        for (found, expected) in found.iter().zip(&losses) {
            assert!((found - expected).abs() < 1e-5, "{threads} threads: loss {found}, expected {expected}");
        }
        for (found, expected) in moved.iter().zip(&parameters) {
            assert!((found - expected).abs() < 1e-4, "{threads} threads: {found}, expected {expected}");
        }
    }
    let bits = |threads| train(&Device::cpu(threads)).expect("no fault");
    assert_eq!(bits(1), bits(4), "threads change no bit");
}

#[test]
fn a_gpu_trains_as_the_reference_device_in_every_precision() {
    let Some(gpu) = gpu() else { return };
    let (losses, parameters) = train(&Device::reference()).expect("no fault");
    let tolerances = [(Precision::F32, 1e-5, 1e-4), (Precision::Bf16, 3e-2, 4e-2), (Precision::F16, 5e-3, 3e-2)];
    for (precision, of_losses, of_parameters) in tolerances {
        let device = gpu.clone().with_precision(precision).expect("a GPU has it");
        let found = train(&device).expect("no fault");
        for (found, expected) in found.0.iter().zip(&losses) {
            assert!((found - expected).abs() < of_losses, "{precision}: loss {found}, expected {expected}");
        }
        for (found, expected) in found.1.iter().zip(&parameters) {
            assert!((found - expected).abs() < of_parameters, "{precision}: {found}, expected {expected}");
        }
        assert_eq!(train(&device).expect("no fault"), found, "{precision}: the same bits twice");
    }
}

/// What the tests below run once more as a program of its own: the emulator reads its settings from the environment.
#[test]
fn one_run_on_a_gpu() {
    let Some(expected) = std::env::var_os("VITRAL_TEST_RUN") else { return };
    let gpu = gpu().expect("whoever runs this has one");
    let (losses, _) = train(&Device::reference()).expect("no fault");
    for precision in [Precision::F32, Precision::Bf16] {
        let device = gpu.clone().with_precision(precision).expect("a GPU has it");
        match train(&device) {
            Ok((found, _)) => {
                let same = found.iter().zip(&losses).all(|(found, expected)| (found - expected).abs() < 3e-2);
                assert!(same, "{found:?}, expected {losses:?}");
            }
            Err(fault) => {
                let out_of_memory = matches!(fault, DeviceError::OutOfDeviceMemory { .. });
                assert_eq!(out_of_memory, expected == "out of memory", "{fault}");
                assert_eq!(device.zeros([2]).to_vec(), Err(fault.clone()), "the fault sticks");
                assert_eq!(device.wait(), Err(fault.clone()), "the fault sticks");
                return println!("it failed");
            }
        }
    }
    println!("it did not fail");
}

/// Runs [`one_run_on_a_gpu`] with a setting of the emulator. Whether it failed as it should.
fn fails(folder: &Path, setting: &str, value: usize, expected: &str) -> bool {
    let out = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "one_run_on_a_gpu", "--nocapture"])
        .env("VITRAL_TEST_RUN", expected)
        .env("VITRAL_CHECK_CUDA", folder)
        .env(setting, value.to_string())
        .output()
        .expect("this program runs");
    let (said, faults) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{setting}={value}: {said}{faults}");
    let known = ["the device is lost", "an image of another build"];
    let reported = |line: &&str| line.contains("emulated CUDA") && !known.iter().any(|known| line.contains(known));
    let wrong = faults.lines().find(reported);
    assert_eq!(wrong, None, "{setting}={value}");
    said.contains("it failed")
}

fn emulator() -> Option<PathBuf> {
    match vitral_emulator::driver(false) {
        Ok(folder) => Some(folder),
        Err(missing) if missing.skips() => None,
        Err(missing) => panic!("{missing}"),
    }
}

#[test]
fn a_gpu_that_runs_out_of_memory_anywhere_says_so_and_that_sticks() {
    let Some(folder) = emulator() else { return };
    let enough = (1..).find(|&from| !fails(&folder, "VITRAL_EMULATOR_FAIL_FROM", from, "out of memory"));
    assert!(enough.is_some_and(|allocations| allocations > 20), "{enough:?} allocations");
    // Where memory is had after all, once what nobody uses was given back, nothing happens.
    for allocation in [1, 7, 15, 20] {
        assert!(!fails(&folder, "VITRAL_EMULATOR_FAIL", allocation, "nothing"), "allocation {allocation}");
    }
}

#[test]
fn a_gpu_that_is_lost_anywhere_says_so_and_that_sticks() {
    let Some(folder) = emulator() else { return };
    for launch in [1, 2, 30, 100, 211] {
        assert!(fails(&folder, "VITRAL_EMULATOR_LOSE", launch, "lost"), "launch {launch}");
    }
}

#[test]
fn parameters_stay_where_a_loss_is_not_finite() {
    for device in [Device::cpu(2), Device::reference()].into_iter().chain(gpu()) {
        let block = Block::new();
        let before = block.parameters(&device).flat().to_vec().expect("no fault");
        // The first step is poisoned: nothing has moved before it.
        let mut parameters = block.parameters(&device);
        let mut moments = Moments::zeros(&parameters, UpdateRule::Lion { beta1: 0.9, beta2: 0.99 });
        let mut gradients = GradientSum::zeros(&parameters, 2);
        gradients.join();
        let norm = gradients.clip(None, &parameters);
        let gate = device.all_finite(&[&norm, &device.full([1], f32::NAN)]);
        let whole = 0..parameters.flat().len();
        let groups =
            [UpdateGroup { range: whole, weight_decay: 1.0, learning_rate_scale: 1.0, rule: None, matrix: None }];
        let rule = UpdateRule::Lion { beta1: 0.9, beta2: 0.99 };
        let update = Update { rule, groups: &groups, learning_rate: 0.5, step: 1 };
        update.apply(&mut parameters, &gradients, &mut moments, &gate);
        assert_eq!(parameters.flat().to_vec().expect("no fault"), before, "{}", device.name());
        let open = device.all_finite(&[&norm]);
        update.apply(&mut parameters, &gradients, &mut moments, &open);
        assert_ne!(parameters.flat().to_vec().expect("no fault"), before, "{}", device.name());
    }
}

#[test]
fn running_out_of_memory_anywhere_is_reported_and_sticks() {
    let all = {
        let reference = Reference::new();
        train(&reference.clone().into()).expect("no fault");
        reference.allocations()
    };
    assert!(all > 100, "{all} allocations");
    for allocation in 0..all {
        let reference = Reference::new();
        reference.fail_after(allocation);
        let device = Device::from(reference);
        let fault = train(&device).expect_err("memory ran out");
        assert!(matches!(fault, DeviceError::OutOfMemory { .. }), "{fault}");
        let after = device.zeros([2]).to_vec();
        assert_eq!(after, Err(fault), "the fault sticks");
    }
}

#[test]
fn narrow_weights_are_the_same_numbers_on_every_device() {
    let block = Block::new();
    for dtype in [DType::F32, DType::Bf16, DType::F16] {
        let read = |device: &Device| {
            let values = |spec: &vitral_engine::ParameterSpec| {
                let values: Vec<f32> = (0..spec.count()).map(|i| normal(3, i as u64)).collect();
                Ok::<_, DeviceError>(values.into())
            };
            let parameters =
                Parameters::prepared(block.declarations.clone(), device.clone(), dtype, values).expect("no fault");
            block.declarations.ids().map(|id| parameters.read(id).expect("no fault")).collect::<Vec<_>>()
        };
        let expected = read(&Device::reference());
        assert_eq!(read(&Device::cpu(2)), expected, "{dtype:?}");
        if let Some(gpu) = gpu() {
            assert_eq!(read(&gpu), expected, "{dtype:?} on a GPU");
        }
    }
}

#[test]
fn a_device_says_which_precisions_it_has() {
    for device in [Device::cpu(1), Device::reference()] {
        assert_eq!(device.precision(), Precision::F32);
        for &precision in device.precisions() {
            assert_eq!(device.clone().with_precision(precision).expect("it has it").precision(), precision);
        }
        let name = device.name();
        let fault = device.with_precision(Precision::Tf32).expect_err("neither has it").to_string();
        assert!(fault.starts_with(&format!("{name} does not compute in `tf32`, but in `f32`")), "{fault}");
    }
}

#[test]
fn narrow_products_are_those_of_the_reference_device() {
    let block = Block::new();
    let output = |device: Device, precision: Precision| {
        let device = device.with_precision(precision).expect("it has it");
        let values = |spec: &vitral_engine::ParameterSpec| {
            let values: Vec<f32> = (0..spec.count()).map(|i| 0.4 * normal(3, i as u64)).collect();
            Ok::<_, DeviceError>(values.into())
        };
        let parameters = Parameters::prepared(block.declarations.clone(), device.clone(), precision.storage(), values)
            .expect("no fault");
        let x: Vec<f32> = (0..5 * 7 * WIDTH).map(|i| normal(9, i as u64)).collect();
        let x = device.upload([5, 7, WIDTH], &x).expect("no fault");
        block.forward(&Context::inference(&parameters), &x).to_vec().expect("no fault")
    };
    let exact = output(Device::reference(), Precision::F32);
    let apart = |a: &[f32], b: &[f32]| {
        let largest = b.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
    };
    for precision in [Precision::Bf16, Precision::Int8] {
        let expected = output(Device::reference(), precision);
        assert!(apart(&expected, &exact) > 1e-4, "the reference device does not round in {precision}");
        for name in Cpu::instruction_sets() {
            let of = |threads| output(Cpu::with_instruction_set(threads, name).expect("it has it").into(), precision);
            let found = of(1);
            // A value on the border between two numbers may be rounded to either; a processor without bfloat16 rounds weights
            // alone.
            let bound = if precision == Precision::Bf16 { 2e-2 } else { 5e-2 };
            let error = apart(&found, &expected);
            assert!(error < bound, "{name} in {precision}: {error} of the largest");
            assert_eq!(found, of(3), "{name} in {precision}: threads");
        }
    }
}

#[test]
fn training_in_bf16_is_near_that_of_the_reference_device_and_has_the_same_bits_on_any_threads() {
    let bf16 = |device: Device| device.with_precision(Precision::Bf16).expect("it has it");
    let (exact, _) = train(&Device::reference()).expect("no fault");
    let (losses, parameters) = train(&bf16(Device::reference())).expect("no fault");
    assert_ne!(exact, losses, "the reference device does not round");
    let (found, moved) = train(&bf16(Device::cpu(1))).expect("no fault");
    for (found, expected) in found.iter().zip(&losses) {
        assert!((found - expected).abs() < 2e-2 * expected.abs(), "loss {found}, expected {expected}");
    }
    // Steps of Adam are as large whatever the gradient: one that rounds to the other side of zero goes the other way.
    let far = moved.iter().zip(&parameters).filter(|(found, expected)| (*found - *expected).abs() > 1e-2).count();
    assert!(20 * far < moved.len(), "{far} of {} parameters are elsewhere", moved.len());
    for threads in [2, 3, 4] {
        assert_eq!(train(&bf16(Device::cpu(threads))).expect("no fault"), (found.clone(), moved.clone()), "{threads}");
    }
}
