//! Every fault that the checked build must report, and what it must let pass.
#![allow(missing_docs)]

mod common;
mod memory;
mod products;
mod streams;
mod words;

/// Which build the modules of tests run on.
const CHECKED: bool = true;

use common::{Argument, Device};

/// What each kernel's message must contain.
const FAULTS: &[(&str, &str)] = &[
    ("barrier_missed", "no thread can go on"),
    ("barriers_differ", "divergent __syncthreads"),
    ("lane_returned", "have returned"),
    ("lane_not_in_mask", "not in the mask"),
    ("warp_diverges", "divergent warp"),
    ("past_the_end", "0 bytes past the end of"),
    ("before_the_start", "bytes before"),
    ("null_pointer", "null pointer"),
    ("misaligned", "misaligned"),
    ("unwritten_global", "nothing has written"),
    ("shared_race", "race"),
    ("shared_race_in_warp", "race"),
    ("shared_overwritten", "race"),
    ("shared_unwritten", "nothing has written"),
    ("shared_past_the_end", "index outside of an array"),
    ("shared_too_weakly_aligned", "misaligned"),
    ("shared_too_large", "48 KiB"),
    ("dynamic_past_the_end", "out of bounds"),
    ("copy_not_waited", "in flight"),
    ("copy_without_barrier", "nothing has written"),
    ("copy_waited_too_few", "in flight"),
    ("copy_never_waited", "never waited for"),
    ("copy_past_the_end", "past the end of"),
    ("blocks_write_the_same", "of the same launch wrote"),
    ("block_reads_another", "of the same launch wrote"),
    ("block_overwrites_what_another_read", "of the same launch read"),
    ("global_race_in_block", "race"),
    ("index_outside", "index outside of an array"),
    ("overflows", "signed overflow"),
    ("divides_by_zero", "division by zero"),
    ("stack_overflow", "bytes of stack"),
    ("last_block_without_fence", "of the same launch wrote"),
];

const RIGHT: &[&str] = &["shared_warp_right", "copy_right", "global_barrier_right", "last_block_right"];

/// Runs a kernel of `faults.cu` on one block, or three where its name speaks of blocks. The message, if there is a fault.
fn run(device: &Device, module: &common::Module, name: &str) -> Option<String> {
    let blocks = if name.contains("block") && !name.starts_with("global") { 3 } else { 1 };
    let out = if name == "unwritten_global" { device.fresh(512) } else { device.zeros(512) };
    let input = device.upload(&[1f32; 512]);
    let arguments = [Argument::Buffer(&out), Argument::Buffer(&input), Argument::Int(100)];
    let threads = if blocks == 3 { 32 } else { 128 };
    device.launch(module, name, [blocks, 1, 1], [threads, 1, 1], &arguments).result().unwrap();
    let failed = device.synchronize().result().is_err();
    let message = device.message();
    device.reset();
    failed.then_some(message)
}

#[test]
fn every_fault_is_reported() {
    let Some(device) = Device::new(true) else { return };
    let module = device.load("faults.cu", include_str!("kernels/faults.cu"));
    let mut wrong = Vec::new();
    for (name, expected) in FAULTS {
        let message = run(&device, &module, name).unwrap_or_else(|| "no fault was reported".to_owned());
        if !message.contains(expected) {
            wrong.push(format!("{name}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn right_kernels_pass() {
    let Some(device) = Device::new(true) else { return };
    let module = device.load("faults.cu", include_str!("kernels/faults.cu"));
    for name in RIGHT {
        assert_eq!(run(&device, &module, name), None, "{name}");
    }
}
