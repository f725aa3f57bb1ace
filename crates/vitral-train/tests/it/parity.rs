//! Gradients of every parameter and ten losses compared with PyTorch, and timm's optimizers.

use std::path::{Path, PathBuf};

use vitral::model::{Input, Vit};
use vitral::numbers::{apart, largest};
use vitral::weights::{Container, ResolveOptions, load_description, recognize, resolve};
use vitral::{Device, Precision};
use vitral_engine::{Context, Parameters, Shape};
use vitral_train::loss::Loss;
use vitral_train::optimize::{Clip, GroupOptions, MatrixRate, Optimizer, Schedule, Shape as Course, groups};
use vitral_train::step::{Batch, Rules, Trainer};

const CASES: [&str; 5] = ["vit", "deit_distilled", "hybrid", "beit", "bit"];

/// Devices to compare, with how near gradients and losses have to be: the CPU, and a GPU that is emulated where there is a
/// C++ compiler.
fn devices() -> Vec<(Device, [f32; 2])> {
    let mut devices = vec![(Device::cpu(2), [1e-4; 2])];
    match vitral_emulator::driver(false) {
        Ok(folder) => {
            let gpu = Device::cuda(0, Some(&folder)).unwrap();
            devices.push((gpu.clone(), [1e-4; 2]));
            devices.push((gpu.with_precision(Precision::Bf16).unwrap(), [8e-2, 0.1]));
        }
        Err(missing) if missing.skips() => eprintln!("no GPU is compared: {missing}"),
        Err(missing) => panic!("{missing}"),
    }
    devices
}

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/training").join(case)
}

fn numbers(container: &Container, name: &str) -> (Vec<usize>, Vec<f32>) {
    let view = container.tensor(name).unwrap_or_else(|| panic!("no `{name}`"));
    (view.shape.to_vec(), view.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// A golden model with flat parameters, and its gradients in the same layout.
fn load(case: &str, device: &Device) -> (Vit, Parameters, Vec<f32>) {
    let description = load_description(&folder(case), None).unwrap();
    let vit = Vit::new(description.config.clone()).unwrap();
    let flat = |file: &str| {
        let container = Container::open(&folder(case).join(file)).unwrap();
        let options = ResolveOptions::for_model(vit.config());
        let dialect = recognize(vit.declarations().specs(), &container, &options).unwrap();
        let assignment = resolve(vit.declarations().specs(), &dialect, &container, &options).unwrap();
        let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
        for id in vit.declarations().ids() {
            let values = assignment.read(&vit.declarations().spec(id).name).unwrap();
            parameters.write(id, &values);
        }
        parameters
    };
    let gradients = flat("gradients.safetensors").flat().to_vec().unwrap();
    let parameters = flat("model.safetensors");
    (vit, parameters, gradients)
}

fn batch(case: &str, device: &Device) -> Batch {
    let container = Container::open(&folder(case).join("batch.safetensors")).unwrap();
    let (shape, values) = numbers(&container, "pixel_values");
    let labels = container.tensor("labels").unwrap();
    let labels: Vec<usize> =
        labels.bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as usize).collect();
    let pixels = device.upload(Shape::new(&shape), &values).unwrap();
    Batch::whole(pixels, device.one_hot(&labels, 5, 0.0).unwrap(), labels)
}

const ADAMW: Optimizer = Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

fn expected(case: &str, name: &str) -> Vec<f32> {
    let file = if name == "losses.muon" { "muon.safetensors" } else { "expected.safetensors" };
    numbers(&Container::open(&folder(case).join(file)).unwrap(), name).1
}

#[test]
fn gradients_of_every_parameter_equal_pytorch() {
    for (case, (device, [tolerance, _])) in
        CASES.iter().flat_map(|case| devices().into_iter().map(move |it| (*case, it)))
    {
        let case_on = format!("{case} on {device:?} in {}", device.precision());
        let (vit, parameters, reference) = load(case, &device);
        let batch = batch(case, &device);
        // Without splitting the batch, whatever the device would choose.
        let whole = Context::recording(&parameters);
        let output = vit.forward(&whole, Input { pixels: &batch.pixels, mask: None }).unwrap();
        let loss = Loss::CrossEntropy.of_output(&whole, &output, &batch.targets, None, None);
        let mut gradients = device.flat_zeros(parameters.flat().len());
        whole.backward(&loss, &mut gradients);
        let gradients = gradients.to_vec().unwrap();
        if device.precision() == Precision::Bf16 {
            // Rounding sends single gradients other ways through maxima and rectifiers; together they stay near.
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
            let apart = square(&mut gradients.iter().zip(&reference).map(|(found, known)| found - known));
            let share = (apart / square(&mut reference.iter().copied())).sqrt();
            println!("{case_on}: gradients are {share:.1e} apart");
            assert!(share <= f64::from(tolerance), "{case_on}: gradients are {share:.1e} apart");
            continue;
        }
        for id in vit.declarations().ids() {
            let range = parameters.range(id);
            let (found, reference) = (&gradients[range.clone()], &reference[range]);
            let scale = largest(reference.iter().map(|g| g.abs()).chain([1e-3]));
            let worst = apart(found, reference) as f32;
            let name = &vit.declarations().spec(id).name;
            assert!(worst <= tolerance * scale, "{case_on} `{name}`: off by {worst:.1e} of {scale:.1e}");
        }
        let norm = gradients.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32;
        let known = expected(case, "gradient_norm")[0];
        assert!((norm - known).abs() < tolerance * known, "{case_on}: norm {norm} for {known}");
    }
}

#[test]
fn ten_losses_equal_pytorch_and_timm() {
    for (case, (device, [_, tolerance])) in
        CASES.iter().flat_map(|case| devices().into_iter().map(move |it| (*case, it)))
    {
        for (name, optimizer, rate, weight_decay, clip) in [
            (
                "losses.adamw",
                Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
                1e-3,
                0.05,
                Some(Clip::Norm(1.0)),
            ),
            ("losses.sgd", Optimizer::Sgd { momentum: 0.9, nesterov: true }, 0.05, 1e-4, None),
            (
                "losses.sgd_adaptive",
                Optimizer::Sgd { momentum: 0.9, nesterov: true },
                0.05,
                1e-4,
                Some(Clip::Adaptive(0.02)),
            ),
            (
                "losses.lamb",
                Optimizer::Lamb { beta1: 0.9, beta2: 0.999, epsilon: 1e-6 },
                0.01,
                0.05,
                Some(Clip::Norm(1.0)),
            ),
            (
                "losses.muon",
                Optimizer::Muon {
                    momentum: 0.95,
                    nesterov: true,
                    matrix_rate: MatrixRate::MatchRmsAdamw,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                },
                1e-3,
                0.05,
                None,
            ),
            ("losses.lion", Optimizer::Lion { beta1: 0.9, beta2: 0.99 }, 1e-4, 0.05, None),
        ] {
            // What optimizers do is in 32 bits whatever the precision, and the same for every model: on a GPU, which is
            // emulated here and slow, one is enough for all but the first.
            let once = matches!(device, Device::Cuda(_)) && (device.precision() == Precision::Bf16 || case != CASES[0]);
            if once && name != "losses.adamw" {
                continue;
            }
            let (vit, parameters, _) = load(case, &device);
            let groups =
                groups(&vit, &parameters, &GroupOptions { weight_decay, ..GroupOptions::default() }, &optimizer);
            let rules = Rules {
                optimizer,
                schedule: Schedule { learning_rate: rate, shape: Course::Constant, ..Schedule::default() },
                total_steps: 10,
                clip,
                ema_decay: None,
                loss: Loss::CrossEntropy,
                distillation: None,
                recompute: false,
                seed: 0,
                leaves: 2,
                share_moments: false,
            };
            let mut trainer = Trainer::new(vit, parameters, groups, rules).unwrap();
            let reference = expected(case, name);
            for known in reference {
                let report = trainer.step(&[batch(case, &device)], None).unwrap();
                let near = (report.loss - known).abs() <= tolerance * known;
                assert!(
                    near,
                    "{case} on {device:?} in {}, {name} step {}: {} for {known}",
                    device.precision(),
                    report.step,
                    report.loss
                );
            }
        }
    }
}

#[test]
fn threads_do_not_change_training() {
    let train = |threads| {
        let device = Device::cpu(threads);
        let (vit, parameters, _) = load("vit", &device);
        let groups = groups(&vit, &parameters, &GroupOptions::default(), &ADAMW);
        let rules = Rules {
            optimizer: Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            schedule: Schedule::default(),
            total_steps: 3,
            clip: Some(Clip::Norm(1.0)),
            ema_decay: Some(0.9),
            loss: Loss::CrossEntropy,
            distillation: None,
            recompute: false,
            seed: 7,
            leaves: 2,
            share_moments: false,
        };
        let mut trainer = Trainer::new(vit, parameters, groups, rules).unwrap();
        for _ in 0..3 {
            trainer.step(&[batch("vit", &device), batch("vit", &device)], None).unwrap();
        }
        (trainer.parameters().flat().to_vec().unwrap(), trainer.ema().unwrap().to_vec().unwrap())
    };
    assert_eq!(train(1), train(2));
}

/// A batch repeated several times has the mean gradient of the batch, however it is split and on any number of threads.
#[test]
fn splitting_and_threads_do_not_change_gradients() {
    let gradients = |threads: usize| {
        let device = Device::cpu(threads);
        let (vit, parameters, known) = load("vit", &device);
        let once = batch("vit", &device);
        let (grid, times) = (vit.config().grid().area(), 201);
        assert!(once.labels.len() * times * grid > 3 * 4096, "several splits in each half");
        let pixels = once.pixels.to_vec().unwrap().repeat(times);
        let mut shape = once.pixels.shape().to_vec();
        shape[0] *= times;
        let labels = once.labels.repeat(times);
        let targets = device.one_hot(&labels, 5, 0.0).unwrap();
        let repeated = Batch::whole(device.upload(Shape::new(&shape), &pixels).unwrap(), targets, labels);
        let groups = groups(&vit, &parameters, &GroupOptions::default(), &ADAMW);
        let rules = Rules {
            optimizer: Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            schedule: Schedule::default(),
            total_steps: 1,
            clip: None,
            ema_decay: None,
            loss: Loss::CrossEntropy,
            distillation: None,
            recompute: false,
            seed: 7,
            leaves: 2,
            share_moments: false,
        };
        let mut trainer = Trainer::new(vit, parameters, groups, rules).unwrap();
        trainer.step(&[repeated], None).unwrap();
        (trainer.gradients().to_vec().unwrap(), known)
    };
    let (one, known) = gradients(1);
    let largest = largest(known.iter().map(|gradient| gradient.abs()));
    for (found, known) in one.iter().zip(&known) {
        assert!((found - known).abs() <= 1e-4 * largest, "{found} for {known}, the largest being {largest}");
    }
    for threads in [2, 3, 4] {
        assert_eq!(gradients(threads).0, one, "{threads} threads");
    }
}
