//! Optimizers, clipping and averages on a GPU (an emulated one, unless `VITRAL_CHECK_CUDA` names a folder of NVIDIA's
//! libraries) and on the CPU, against the reference device.

mod common;

use common::gpu;
use vitral_engine::ops::Linear;
use vitral_engine::random::normal;
use vitral_engine::{
    BatchExtent, Clip, Context, Declarations, Device, DeviceError, GradientSum, Moments, ParameterId, ParameterKind,
    Parameters, Precision, Update, UpdateGroup, UpdateRule, leaves,
};

/// A high and a wide matrix, a vector of no round length, and one of several runs.
fn declarations() -> Declarations {
    let mut declarations = Declarations::default();
    declarations.declare("high.weight", &[24, 20], ParameterKind::Matrix);
    declarations.declare("high.bias", &[37], ParameterKind::Plain);
    declarations.declare("wide.weight", &[7, 33], ParameterKind::Matrix);
    declarations.declare("long", &[9001], ParameterKind::Plain);
    declarations
}

fn noise(seed: u64, count: usize, size: f32) -> Vec<f32> {
    (0..count).map(|i| size * normal(seed, i as u64)).collect()
}

fn parameters(device: &Device) -> Parameters {
    let mut parameters = Parameters::zeros(declarations(), device.clone());
    for (seed, id) in declarations().ids().enumerate() {
        parameters.write(id, &noise(seed as u64, declarations().spec(id).count(), 0.5));
    }
    parameters
}

/// Gradients with these values, laid out like the parameters.
fn gradients(parameters: &Parameters, values: &[f32]) -> GradientSum {
    let mut sum = GradientSum::zeros(parameters, 1);
    let extent = BatchExtent { tokens: 1, convolutions: false };
    let written = sum.accumulate(extent, &leaves(1, 1), parameters, |_, _, flat| {
        flat.write(0, values);
        Ok::<_, DeviceError>(())
    });
    written.expect("no fault");
    sum.join();
    sum
}

fn near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found == expected || (found.is_nan() && expected.is_nan());
        assert!(same || (found - expected).abs() <= tolerance, "{what}[{i}] is {found}, expected {expected}");
    }
}

/// The CPU, and the GPU in every precision.
fn others() -> Vec<Device> {
    let of_gpu = gpu().into_iter().flat_map(|device| {
        [Precision::F32, Precision::Bf16, Precision::F16]
            .map(|precision| device.clone().with_precision(precision).expect("a GPU has it"))
    });
    std::iter::once(Device::cpu(2)).chain(of_gpu).collect()
}

const ADAMW: UpdateRule = UpdateRule::Adamw { beta1: 0.9, beta2: 0.99, epsilon: 1e-6 };

/// Groups of every parameter; matrices are named, and everything else has a rule of its own where the rule is Muon's.
fn groups(parameters: &Parameters, rule: UpdateRule) -> Vec<UpdateGroup> {
    let declarations = parameters.declarations();
    let group = |(i, id): (usize, ParameterId)| {
        let matrix = <[usize; 2]>::try_from(&declarations.spec(id).shape[..]).ok();
        UpdateGroup {
            range: parameters.range(id),
            weight_decay: [0.1, 0.0, 0.02, 0.3][i],
            learning_rate_scale: [1.0, 0.5, 2.0, 0.7][i],
            rule: (matrix.is_none() && matches!(rule, UpdateRule::Muon { .. })).then_some(ADAMW),
            matrix,
        }
    };
    let mut groups: Vec<_> = declarations.ids().enumerate().map(group).collect();
    if !matches!(rule, UpdateRule::Lamb { .. }) {
        // The last one in two, the second of which begins at no round place.
        let mut rest = groups[3].clone();
        rest.range.start += 4098;
        rest.weight_decay = 0.05;
        groups[3].range.end = rest.range.start;
        groups.push(rest);
    }
    groups
}

/// Logits of ones by both matrices.
fn outputs(parameters: &Parameters, device: &Device) -> Vec<f32> {
    let cx = Context::inference(parameters);
    let ids: Vec<_> = parameters.declarations().ids().collect();
    let through = |weight: ParameterId, depth: usize| {
        let x = device.upload([1, 2, depth], &noise(77, 2 * depth, 1.0)).expect("no fault");
        cx.linear(&x, Linear { weight, bias: None }).to_vec().expect("no fault")
    };
    let mut all = through(ids[0], 20);
    all.extend(through(ids[2], 33));
    all
}

/// Four steps, one of them with a closed gate; parameters and moments after each.
fn stepped(device: &Device, rule: UpdateRule) -> Vec<[Vec<f32>; 3]> {
    let mut parameters = parameters(device);
    let mut moments = Moments::zeros(&parameters, rule);
    let groups = groups(&parameters, rule);
    // From here on a GPU with 16 bits keeps a copy of the matrices.
    outputs(&parameters, device);
    let count = parameters.flat().len();
    let step = |step: u64| {
        let gradients = gradients(&parameters, &noise(100 + step, count, 0.3));
        let gate = device.full([1], f32::from(u8::from(step != 2)));
        Update { rule, groups: &groups, learning_rate: 0.05, step }.apply(
            &mut parameters,
            &gradients,
            &mut moments,
            &gate,
        );
        // What products see is what was stepped.
        let mut fresh = Parameters::zeros(declarations(), device.clone());
        for id in declarations().ids() {
            fresh.write(id, &parameters.read(id).expect("no fault"));
        }
        let (kept, anew) = (outputs(&parameters, device), outputs(&fresh, device));
        // What is written to the reference device is rounded to 32 bits first.
        let same = kept == anew || matches!(device, Device::Reference(_));
        assert!(same, "{rule:?} on {device:?} in {}: the copy in 16 bits", device.precision());
        [parameters.flat(), &moments.first, &moments.second].map(|flat| flat.to_vec().expect("no fault"))
    };
    (1..=4).map(step).collect()
}

#[test]
fn every_rule_steps_as_on_the_reference_device() {
    let rules = [
        (ADAMW, 2e-5),
        (UpdateRule::Sgd { momentum: 0.9, nesterov: false }, 2e-5),
        (UpdateRule::Sgd { momentum: 0.9, nesterov: true }, 2e-5),
        (UpdateRule::Lion { beta1: 0.9, beta2: 0.99 }, 2e-5),
        (UpdateRule::Lamb { beta1: 0.9, beta2: 0.99, epsilon: 1e-6 }, 2e-5),
        (UpdateRule::Muon { momentum: 0.9, nesterov: true, match_adamw: true }, 1e-4),
        (UpdateRule::Muon { momentum: 0.9, nesterov: false, match_adamw: false }, 1e-4),
    ];
    for (rule, tolerance) in rules {
        let expected = stepped(&Device::reference(), rule);
        assert_eq!(expected[0], expected[1], "a closed gate");
        assert_ne!(expected[1], expected[2], "an open one");
        for device in others() {
            let found = stepped(&device, rule);
            assert_eq!(found[0], found[1], "{rule:?}: a closed gate on {device:?}");
            for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                for (which, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let precision = device.precision();
                    let what = format!("{rule:?} on {device:?} in {precision}, step {step}, buffer {which}");
                    near(found, expected, tolerance, &what);
                }
            }
            assert_eq!(stepped(&device, rule), found, "{rule:?} on {device:?}: the same bits twice");
        }
    }
}

#[test]
fn gradients_are_clipped_as_on_the_reference_device() {
    let clips = [None, Some(Clip::Norm(2.0)), Some(Clip::Norm(1e4)), Some(Clip::Value(0.4)), Some(Clip::Adaptive(0.2))];
    for clip in clips {
        for poison in [None, Some(f32::INFINITY), Some(f32::NEG_INFINITY), Some(f32::NAN)] {
            let clipped = |device: &Device| {
                let parameters = parameters(device);
                let mut values = noise(5, parameters.flat().len(), 0.3);
                if let Some(poison) = poison {
                    values[1234] = poison;
                }
                let mut sum = gradients(&parameters, &values);
                let norm = sum.clip(clip, &parameters).to_vec().expect("no fault");
                (norm[0], sum.sum().to_vec().expect("no fault"))
            };
            let (norm, expected) = clipped(&Device::reference());
            for device in others() {
                let (found, values) = clipped(&device);
                let what = format!("{clip:?} of {poison:?} on {device:?}");
                near(&[found], &[norm], 1e-5 * norm.abs(), &what);
                near(&values, &expected, 1e-6, &what);
            }
        }
    }
}

#[test]
fn sums_and_averages_are_those_of_the_reference_device() {
    let made = |device: &Device| {
        let parameters = parameters(device);
        let count = parameters.flat().len();
        let mut sum = gradients(&parameters, &noise(8, count, 1.0));
        sum.join();
        sum.scale(0.25);
        let mut average = device.flat_zeros(count);
        average.write(0, &noise(9, count, 1.0));
        let before = average.to_vec().expect("no fault");
        device.ema_update(&mut average, &parameters, 0.9, &device.zeros([1]));
        assert_eq!(average.to_vec().expect("no fault"), before, "a closed gate");
        device.ema_update(&mut average, &parameters, 0.9, &device.full([1], 1.0));
        let mut all = sum.sum().to_vec().expect("no fault");
        all.extend(average.to_vec().expect("no fault"));
        sum.clear();
        assert!(sum.sum().to_vec().expect("no fault").iter().all(|&x| x == 0.0));
        all
    };
    let expected = made(&Device::reference());
    for device in others() {
        near(&made(&device), &expected, 1e-6, &format!("{device:?}"));
    }
}

#[test]
fn a_number_that_is_not_finite_is_found_wherever_it_is() {
    for device in std::iter::once(Device::reference()).chain(others()) {
        for count in [1, 255, 256, 257, 3000] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, count / 2, count - 1] {
                    let mut values = vec![f32::MAX; count];
                    let fine = device.upload([count], &values).expect("no fault");
                    values[at] = bad;
                    let poisoned = device.upload([count], &values).expect("no fault");
                    let flag = |all: &[&vitral_engine::Tensor]| device.all_finite(all).to_vec().expect("no fault");
                    assert_eq!(flag(&[&fine, &fine]), [1.0]);
                    assert_eq!(flag(&[&fine, &poisoned]), [0.0], "{bad} at {at} of {count} on {device:?}");
                }
            }
        }
    }
}
