//! Every word of CUDA that the emulator knows, against what it must give.

use crate::common::{Argument, Device, Module};
use half::{bf16, f16};

fn words() -> Option<(Device, Module)> {
    let device = Device::new(crate::CHECKED)?;
    let module = device.load("words.cu", include_str!("../kernels/words.cu"));
    Some((device, module))
}

/// Runs one block of a kernel that takes its output alone.
fn run<T: Copy + Default>(kernel: &str, threads: u32, count: usize) -> Option<Vec<T>> {
    let (device, module) = words()?;
    let out = device.zeros(count * size_of::<T>());
    device.launch(&module, kernel, [1; 3], [threads, 1, 1], &[Argument::Buffer(&out)]).result().unwrap();
    Some(device.download(&out).unwrap())
}

#[test]
fn indices() {
    let Some((device, module)) = words() else { return };
    let (grid, block) = ([3, 2, 2], [5, 3, 4]);
    let count = (grid.iter().product::<u32>() * block.iter().product::<u32>()) as usize;
    let out = device.zeros(count * 4);
    device.launch(&module, "indices", grid, block, &[Argument::Buffer(&out)]).result().unwrap();
    let mut expected = Vec::new();
    for b in 0..grid.iter().product::<u32>() {
        for t in 0..block.iter().product::<u32>() {
            let [bx, by, bz] = [b % 3, b / 3 % 2, b / 6];
            let [tx, ty, tz] = [t % 5, t / 5 % 3, t / 15];
            expected.push(tx | ty << 4 | tz << 8 | bx << 12 | by << 16 | bz << 20);
        }
    }
    assert_eq!(device.download::<u32>(&out).unwrap(), expected);
}

#[test]
fn shuffles() {
    let Some(out) = run::<u32>("shuffles", 64, 640) else { return };
    for (thread, row) in out.chunks(10).enumerate() {
        let lane = thread as u32 % 32;
        let inside = |from: u32, end: u32| if from < end { from } else { lane };
        let segment = lane / 8 * 8;
        let expected = [
            5,
            segment + (lane + 1) % 8,
            lane ^ 3,
            // A butterfly across segments reads an earlier one, never a later one.
            if lane ^ 4 < lane { lane ^ 4 } else { lane },
            inside(lane + 7, 32),
            inside(lane + 3, segment + 8),
            if lane >= 7 { lane - 7 } else { lane },
            if lane - segment >= 3 { lane - 3 } else { lane },
            lane ^ 1,
            inside(lane + 1, 32),
        ];
        assert_eq!(row, expected, "lane {lane}");
    }
}

#[test]
fn half_warps() {
    let Some(out) = run::<u32>("half_warps", 32, 32) else { return };
    let expected: Vec<u32> = (0..32).map(|lane| if lane < 16 { (lane ^ 1) + 100 } else { (lane ^ 2) + 200 }).collect();
    assert_eq!(out, expected);
}

#[test]
fn votes() {
    let Some(out) = run::<u32>("votes", 32, 224) else { return };
    let ballot: u32 = (0..32).filter(|lane| lane % 3 == 0).map(|lane| 1 << lane).sum();
    let expected = [ballot, 1, 1, u32::MAX, 496, (-5i32) as u32, 93];
    for (values, expected) in out.chunks(32).zip(expected) {
        assert_eq!(values, [expected; 32]);
    }
}

#[test]
fn partial_warp() {
    let Some(out) = run::<u32>("partial_warp", 40, 40) else { return };
    let expected: Vec<u32> = (0..40).map(|thread| if thread < 32 { 496 } else { (32..40).sum() }).collect();
    assert_eq!(out, expected);
}

#[test]
fn barriers() {
    let Some(out) = run::<u32>("barriers", 96, 384) else { return };
    for i in 0..96 {
        assert_eq!(out[i], (95 - i as u32).pow(2));
        assert_eq!([out[i + 96], out[i + 192], out[i + 288]], [20, 1, 1]);
    }
}

#[test]
fn atomics() {
    let Some((device, module)) = words() else { return };
    let mut start = [0i32; 19];
    start[5] = -1;
    start[18] = 5;
    let out = device.upload(&start);
    device.launch(&module, "atomics", [1; 3], [64, 1, 1], &[Argument::Buffer(&out)]).result().unwrap();
    let out = device.download::<i32>(&out).unwrap();
    assert_eq!(out[..7], [128, -64, 63, -63, -1, !255, 0]);
    assert_eq!(f32::from_bits(out[7] as u32), 16.0);
    let wide = |i: usize| (out[i] as u32 as u64) | (out[i + 1] as u64) << 32;
    assert_eq!(wide(8), 64 << 33);
    assert_eq!(f64::from_bits(wide(10)), 8.0);
    // Threads come in order within a warp, so that each finds the value before its own; in another order fewer do.
    assert!(out[12] >= 1 && out[12] <= 64);
    assert_eq!(out[13], 64 % 10);
    assert_eq!(out[14..], [2016, 0, 32, 5, 77]);
}

#[test]
fn functions() {
    let Some((device, module)) = words() else { return };
    let input: Vec<f32> = (-40..41).map(|i| i as f32 * 0.11).collect();
    let out = device.zeros(input.len() * 24 * 4);
    let uploaded = device.upload(&input);
    let arguments = [Argument::Buffer(&out), Argument::Buffer(&uploaded), Argument::Int(input.len() as i32)];
    device.launch(&module, "functions", [3, 1, 1], [32, 1, 1], &arguments).result().unwrap();
    for (i, row) in device.download::<f32>(&out).unwrap().chunks(24).enumerate() {
        let x = f64::from(input[i]);
        let m = f64::from(input[i].abs() + 0.001);
        let rounded = x.floor() + x.ceil() + x.round_ties_even() + x.trunc();
        let choices = x.min(1.0) + x.max(-1.0) + (i.min(3) + i.max(7) + i) as f64;
        let mixed = m.sqrt() * (-x * x).exp() + 1.0 / m.sqrt();
        let logarithms = m.ln_1p() + x.exp_m1() + 2.0 * m.log2();
        let expected = [
            x.exp(),
            x.exp(),
            m.ln(),
            m.ln(),
            x.exp2(),
            libm::erf(x),
            libm::erfc(x),
            libm::erf(x),
            x.tanh(),
            1.0 / m.sqrt(),
            m.sqrt(),
            x * x + 1.0,
            x / m,
            x.min(0.5) + x.max(0.25),
            1.0 / m,
            x.clamp(0.0, 1.0),
            choices,
            0.5 * libm::erfc(-x / 2f64.sqrt()),
            rounded,
            2.0 * m.powf(1.5),
            mixed,
            2.0 * x.sin() + x.cos(),
            logarithms,
            0.0,
        ];
        for (column, (&value, expected)) in row.iter().zip(expected).enumerate() {
            // A GPU's own approximations, for the words that begin with underscores.
            let relative = if device.is_gpu() { 2e-5 } else { 2e-6 };
            let tolerance = relative * expected.abs().max(1.0) + if column == 6 || column == 17 { 1e-6 } else { 0.0 };
            assert!(
                (f64::from(value) - expected).abs() <= tolerance,
                "column {column} of {x}: {value}, not {expected}"
            );
        }
    }
}

#[test]
fn bits() {
    let Some((device, module)) = words() else { return };
    let (a, b) = (0xdead_beefu32, 0x0123_4567u32);
    let out = device.zeros(13 * 4);
    let arguments = [Argument::Buffer(&out), Argument::Int(a as i32), Argument::Int(b as i32)];
    device.launch(&module, "bits", [1; 3], [1, 1, 1], &arguments).result().unwrap();
    let both = u64::from(b) << 32 | u64::from(a);
    let product = (u128::from(u64::from(a) << 32 | u64::from(b)) * u128::from(both)) >> 64;
    let high = ((u64::from(a) * u64::from(b)) >> 32) as u32;
    let signed = ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32;
    let expected = [
        high,
        signed,
        (product as u64 >> 7) as u32,
        a.count_ones() | b.leading_zeros() << 8 | (a.trailing_zeros() + 1) << 16,
        a.reverse_bits(),
        // Bytes 0, 4, 1, 5 of the two words.
        (a & 255) | (b & 255) << 8 | (a >> 8 & 255) << 16 | (b >> 8 & 255) << 24,
        (both << 9 >> 32) as u32,
        (both >> 9) as u32,
        a ^ b,
        a,
        (a.count_ones() + b.count_ones()) | u64::from(b).leading_zeros() << 8,
        high.wrapping_add(signed),
        a.wrapping_add(b),
    ];
    assert_eq!(device.download::<u32>(&out).unwrap(), expected);
}

#[test]
fn conversions() {
    let Some((device, module)) = words() else { return };
    let input = [0.0f32, 0.5, 1.5, -0.5, -2.5, 3.7, -3.7, 3e9, -3e9, 5e9, f32::NAN, f32::INFINITY, 1e-30];
    let out = device.zeros(input.len() * 32);
    let uploaded = device.upload(&input);
    let arguments = [Argument::Buffer(&out), Argument::Buffer(&uploaded), Argument::Int(input.len() as i32)];
    device.launch(&module, "conversions", [1; 3], [32, 1, 1], &arguments).result().unwrap();
    for (i, row) in device.download::<i32>(&out).unwrap().chunks(8).enumerate() {
        let x = input[i];
        let expected = [
            x.round_ties_even() as i32,
            x as i32,
            x.floor() as i32,
            x.ceil() as i32,
            x.round_ties_even() as u32 as i32,
            (x as i32 as f32).to_bits() as i32,
            (i as f32).to_bits() as i32,
        ];
        assert_eq!(row[..7], expected, "{x}");
        let tripled = (f64::from(x) * 3.0) as f32;
        assert!(row[7] == tripled.to_bits() as i32 || tripled.is_nan(), "{x}");
    }
}

/// Floats of every exponent, with mantissas at and around the halves that are rounded.
fn awkward_floats() -> Vec<f32> {
    let mut values = Vec::new();
    for exponent in (0..256u32).step_by(3).chain(110..145) {
        for mantissa in [
            0u32, 1, 0xfff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8001, 0x18000, 0x7fefff, 0x7ff000,
            0x7fffff,
        ] {
            for sign in [0, 1 << 31] {
                values.push(f32::from_bits(sign | exponent << 23 | mantissa));
            }
        }
    }
    values
}

#[test]
fn narrow_floats() {
    let Some((device, module)) = words() else { return };
    let input = awkward_floats();
    let out = device.zeros(input.len() * 20);
    let uploaded = device.upload(&input);
    let arguments = [Argument::Buffer(&out), Argument::Buffer(&uploaded), Argument::Int(input.len() as i32)];
    let blocks = input.len().div_ceil(128) as u32;
    device.launch(&module, "narrow", [blocks, 1, 1], [128, 1, 1], &arguments).result().unwrap();
    for (row, &x) in device.download::<u32>(&out).unwrap().chunks(5).zip(&input) {
        let bits = x.to_bits();
        if x.is_nan() {
            assert_eq!(row[..3], [0x7fff, 0x7fff, 0x7fff_ffff], "{bits:08x}");
            continue;
        }
        let half = u32::from(f16::from_f32(x).to_bits());
        let brain = u32::from(bf16::from_f32(x).to_bits());
        let negated = u32::from(bf16::from_f32(-x).to_bits());
        // To the nearest of 10 bits, halves away from zero.
        let tf32 = if x.is_infinite() { bits } else { (bits + 0x1000) & !0x1fff };
        assert_eq!(row, [brain, half, tf32, brain | negated << 16, half | 0x3c00 << 16], "{bits:08x}");
    }
}

#[test]
fn wide_floats() {
    let Some((device, module)) = words() else { return };
    let out = device.zeros(2 * 65536 * 4);
    device.launch(&module, "widen", [256, 1, 1], [256, 1, 1], &[Argument::Buffer(&out)]).result().unwrap();
    let out = device.download::<f32>(&out).unwrap();
    for i in 0..=u16::MAX {
        let expected = [f16::from_bits(i).to_f32(), bf16::from_bits(i).to_f32()];
        for (value, expected) in [out[usize::from(i)], out[usize::from(i) + 65536]].into_iter().zip(expected) {
            assert!(value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()), "{i:04x}");
        }
    }
}

#[test]
fn approximations() {
    let Some((device, module)) = words() else { return };
    let input = [0.5f32, -3.25, 10.0, -140.0, 1e-40, 7.0];
    let out = device.zeros(input.len() * 16);
    let uploaded = device.upload(&input);
    let arguments = [Argument::Buffer(&out), Argument::Buffer(&uploaded), Argument::Int(input.len() as i32)];
    device.launch(&module, "approximations", [1; 3], [32, 1, 1], &arguments).result().unwrap();
    for (row, &x) in device.download::<f32>(&out).unwrap().chunks(4).zip(&input) {
        // Subnormal arguments and results are zero.
        let flushed = if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x };
        let power = if x < -126.0 { 0.0 } else { flushed.exp2() };
        for (value, expected) in row.iter().zip([power, flushed.abs().log2(), 1.0 / flushed, x.tanh()]) {
            assert!(
                *value == expected || (value - expected).abs() < 1e-6 * expected.abs(),
                "{x}: {value}, not {expected}"
            );
        }
    }
}

#[test]
fn shared_memory() {
    let Some(out) = run::<f32>("shared_forms", 32, 32) else { return };
    for (i, &value) in out.iter().enumerate() {
        let table = 10.0 * (i % 2 * 4 + i % 4) as f32;
        let expected = 3.0
            + (31 - i) as f32
            + 1.0
            + (i / 4) as f32
            + 1.0
            + table
            + 4.0
            + (i ^ 1) as f32
            + 3.0 * 496.0 * 2.0
            + 96.0;
        assert_eq!(value, expected, "thread {i}");
    }
}

#[test]
fn dynamic_shared_memory() {
    let Some((device, module)) = words() else { return };
    let n = 1000;
    let out = device.zeros(n * 4);
    let arguments = [Argument::Buffer(&out), Argument::Int(n as i32)];
    device.launch_with(&module, "shared_dynamic", [1; 3], [64, 1, 1], 8 * n as u32, &arguments).result().unwrap();
    let expected: Vec<f32> = (0..n).map(|i| (n - 1 - i + 2 * i) as f32).collect();
    assert_eq!(device.download::<f32>(&out).unwrap(), expected);
    device
        .launch_with(&module, "shared_dynamic_outside", [1; 3], [64, 1, 1], 4 * n as u32, &arguments)
        .result()
        .unwrap();
    let expected: Vec<f32> = (0..n).map(|i| ((i + 1) % n) as f32).collect();
    assert_eq!(device.download::<f32>(&out).unwrap(), expected);
}

#[test]
fn shared_memory_is_poisoned() {
    let Some((device, module)) = words() else { return };
    let out = device.zeros(128);
    device.launch(&module, "shared_poison", [1; 3], [32, 1, 1], &[Argument::Buffer(&out)]).result().unwrap();
    let result = device.download::<u32>(&out);
    if device.is_gpu() {
        return; // what it finds there is undefined
    }
    if crate::CHECKED {
        assert!(device.message().contains("nothing has written: shared `s`"), "{}", device.message());
        assert!(result.is_err());
    } else {
        assert_eq!(result.unwrap(), [u32::MAX; 32]);
    }
}

#[test]
fn forms_of_a_kernel() {
    let Some((device, module)) = words() else { return };
    let x = device.upload(&[1f32, 2.0]);
    let arguments = [Argument::Buffer(&x)];
    for name in ["times_two", "times_three", "in_a_group"] {
        device.launch(&module, name, [1; 3], [2, 1, 1], &arguments).result().unwrap();
    }
    // 2x + 100, then 3x + 1, then x + 1.
    assert_eq!(device.download::<f32>(&x).unwrap(), [308.0, 314.0]);
    device.launch(&module, "in_a_group", [1; 3], [129, 1, 1], &arguments).result().unwrap_err();
    assert!(device.is_gpu() || device.message().contains("`__launch_bounds__` says 128"), "{}", device.message());
    assert!(!device.has_kernel(&module, "not_a_kernel"));
}

#[test]
fn arguments_by_value() {
    let Some((device, module)) = words() else { return };
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Sizes {
        count: i32,
        scale: f32,
        more: [f32; 5],
    }
    let out = device.zeros(60);
    let sizes = Sizes { count: 2, scale: 3.0, more: [1.0, 2.0, 3.0, 4.0, 5.0] };
    let bytes = |pointer: *const Sizes| Argument::Value(pointer.cast());
    let (small, large) = (7u8, 100f64);
    let arguments = [
        Argument::Buffer(&out),
        bytes(&sizes),
        Argument::Value((&raw const small).cast()),
        Argument::Value((&raw const large).cast()),
    ];
    device.launch(&module, "by_value", [1; 3], [3, 1, 1], &arguments).result().unwrap();
    let row = [110f32, 113.0, 116.0, 119.0, 122.0];
    assert_eq!(device.download::<f32>(&out).unwrap(), [row, row, [0.0; 5]].concat());
}

#[test]
fn asynchronous_copies() {
    let Some((device, module)) = words() else { return };
    let input: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let uploaded = device.upload(&input);
    let out = device.zeros(192 * 4);
    device
        .launch(&module, "copies", [1; 3], [32, 1, 1], &[Argument::Buffer(&out), Argument::Buffer(&uploaded)])
        .result()
        .unwrap();
    let out = device.download::<f32>(&out).unwrap();
    for i in 0..32 {
        assert_eq!(out[i], (i ^ 5) as f32);
        let last = if 31 - i < 30 { (31 - i) as f32 } else { 0.0 };
        assert_eq!(out[160 + i], (i + 32) as f32 + last);
    }
    for (i, value) in out[32..160].iter().enumerate() {
        assert_eq!(*value, if i / 4 % 2 == 0 { (128 + i) as f32 } else { 0.0 });
    }
}

#[test]
fn matrix_loads() {
    let Some(out) = run::<u32>("matrices", 32, 32 * 14) else { return };
    // Matrix `m` holds the numbers 64 m to 64 m + 63, row by row.
    let plain = |lane: u32, m: u32| {
        let first = m * 64 + lane / 4 * 8 + lane % 4 * 2;
        first | (first + 1) << 16
    };
    let transposed = |lane: u32, m: u32| {
        let first = m * 64 + lane % 4 * 16 + lane / 4;
        first | (first + 8) << 16
    };
    for (lane, row) in out.chunks(14).enumerate() {
        let lane = lane as u32;
        let matrices = [0, 0, 1, 0, 1, 2, 3];
        let expected: Vec<u32> =
            matrices.iter().map(|&m| plain(lane, m)).chain(matrices.iter().map(|&m| transposed(lane, m))).collect();
        assert_eq!(row, expected, "lane {lane}");
    }
}

#[test]
fn tensor_products() {
    let Some((device, module)) = words() else { return };
    // Small integers: exact in every type.
    let value = |i: usize, seed: usize| ((i * 37 + seed * 11) % 17) as f32 - 8.0;
    for (kernel, depth) in [("product_bf16", 16), ("product_f16", 16), ("product_tf32", 8)] {
        let a: Vec<f32> = (0..16 * depth).map(|i| value(i, 1)).collect();
        let b: Vec<f32> = (0..8 * depth).map(|i| value(i, 2)).collect();
        let c: Vec<f32> = (0..128).map(|i| value(i, 3)).collect();
        let (a_device, b_device, c_device) = (device.upload(&a), device.upload(&b), device.upload(&c));
        let arguments = [Argument::Buffer(&c_device), Argument::Buffer(&a_device), Argument::Buffer(&b_device)];
        device.launch(&module, kernel, [1; 3], [32, 1, 1], &arguments).result().unwrap();
        let expected: Vec<f32> = (0..128)
            .map(|i| c[i] + (0..depth).map(|k| a[i / 8 * depth + k] * b[i % 8 * depth + k]).sum::<f32>())
            .collect();
        assert_eq!(device.download::<f32>(&c_device).unwrap(), expected, "{kernel}");
    }
}
