//! What the environment asks of the stand-in. Each case runs in a process of its own.
#![allow(missing_docs)]
#![allow(unsafe_code, reason = "calls of a C interface")]

mod common;

use common::{Argument, Device};
use cudarc::driver::sys::{self, CUresult};
use std::process::Command;

/// The variable that says which case a process is for.
const CASE: &str = "VITRAL_EMULATOR_TEST_CASE";

/// Runs `case` in a process with these variables; what it writes on stderr.
fn with(variables: &[(&str, &str)], test: &str, case: fn(&Device)) -> String {
    with_build(false, variables, test, case)
}

/// The same with the fast or the checked build.
fn with_build(checked: bool, variables: &[(&str, &str)], test: &str, case: fn(&Device)) -> String {
    if std::env::var(CASE).as_deref() == Ok(test) {
        if let Some(device) = Device::new(checked) {
            case(&device);
        }
        return String::new();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(CASE, test)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stdout));
    text
}

/// Whether the assertions about a child's output hold something: not in the child itself, nor where it was skipped.
fn ran(text: &str) -> bool {
    std::env::var_os(CASE).is_none() && !text.contains("skipped:")
}

fn allocate(bytes: usize) -> CUresult {
    let mut address = 0;
    // SAFETY: a pointer to a variable.
    unsafe { sys::cuMemAlloc_v2(&mut address, bytes) }
}

#[test]
fn memory_is_limited() {
    with(&[("VITRAL_EMULATOR_MEMORY", "1000")], "memory_is_limited", |_| {
        allocate(600).result().unwrap();
        assert_eq!(allocate(600), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        allocate(400).result().unwrap();
        let (mut free, mut total) = (0, 0);
        // SAFETY: pointers to variables.
        unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total).result().unwrap() };
        assert_eq!((free, total), (0, 1000));
    });
}

#[test]
fn one_allocation_fails() {
    with(&[("VITRAL_EMULATOR_FAIL", "2")], "one_allocation_fails", |_| {
        let answers = [allocate(4), allocate(4), allocate(4)];
        assert_eq!(answers, [CUresult::CUDA_SUCCESS, CUresult::CUDA_ERROR_OUT_OF_MEMORY, CUresult::CUDA_SUCCESS]);
    });
}

#[test]
fn leaks_are_printed() {
    let text = with(&[("VITRAL_EMULATOR_LEAKS", "1")], "leaks_are_printed", |device| {
        drop(device.zeros(100));
        allocate(123).result().unwrap();
    });
    if ran(&text) {
        assert!(text.contains("1 live allocations, 123 bytes"), "{text}");
    }
}

#[test]
fn an_old_driver() {
    with(&[("VITRAL_EMULATOR_DRIVER", "old")], "an_old_driver", |_| {
        let mut version = 0;
        // SAFETY: a pointer to a variable.
        unsafe { sys::cuDriverGetVersion(&mut version).result().unwrap() };
        assert_eq!(version, 11000);
    });
}

#[test]
fn a_device_is_lost() {
    with(&[("VITRAL_EMULATOR_LOSE", "2")], "a_device_is_lost", |device| {
        let module = device.load("empty.cu", "extern \"C\" __global__ void f() {}");
        let answers = [1, 2, 3].map(|_| device.launch(&module, "f", [1; 3], [32, 1, 1], &[]));
        let lost = CUresult::CUDA_ERROR_ECC_UNCORRECTABLE;
        assert_eq!(answers, [CUresult::CUDA_SUCCESS, lost, lost]);
        assert_eq!(device.synchronize(), lost);
        assert_eq!(allocate(4), lost);
    });
}

/// Each thread writes how many came before it.
const ORDER: &str = r#"
extern "C" __global__ void order(int *out, int *counts) {
    out[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(&counts[blockIdx.x], 1);
}
"#;

fn order(device: &Device) -> Vec<i32> {
    let module = device.load("order.cu", ORDER);
    let out = device.zeros(64 * 64 * 4);
    let counts = device.zeros(64 * 4);
    let arguments = [Argument::Buffer(&out), Argument::Buffer(&counts)];
    device.launch(&module, "order", [64, 1, 1], [64, 1, 1], &arguments).result().unwrap();
    device.download(&out).unwrap()
}

#[test]
fn threads_run_in_order() {
    with(&[], "threads_run_in_order", |device| {
        assert!(order(device).chunks(64).all(|block| block.iter().copied().eq(0..64)));
    });
}

#[test]
fn a_seed_shuffles_them() {
    with(&[("VITRAL_EMULATOR_SEED", "3")], "a_seed_shuffles_them", |device| {
        let mut found = order(device);
        assert!(!found.chunks(64).any(|block| block.iter().copied().eq(0..64)));
        for block in found.chunks_mut(64) {
            block.sort_unstable();
            assert!(block.iter().copied().eq(0..64));
        }
    });
}

#[test]
fn blocks_run_on_several_threads() {
    let text = with(
        &[("VITRAL_EMULATOR_THREADS", "4"), ("VITRAL_EMULATOR_COUNTS", "1")],
        "blocks_run_on_several_threads",
        |device| {
            for _ in 0..20 {
                assert!(order(device).chunks(64).all(|block| block.iter().copied().eq(0..64)));
            }
        },
    );
    if ran(&text) {
        assert!(text.contains("20 launches, 1280 blocks"), "{text}");
    }
}

/// Every lane writes and reads a word, some words from the next lane's.
const BANKS: &str = r#"extern "C" __global__ void f(float *out, int stride) {
    __shared__ float s[1024];
    s[threadIdx.x * stride] = 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x * stride];
}
"#;

#[test]
fn bank_conflicts_are_counted() {
    let text = with_build(true, &[("VITRAL_EMULATOR_COUNTS", "1")], "bank_conflicts_are_counted", |device| {
        let module = device.load("banks.cu", BANKS);
        let out = device.zeros(128);
        // None with odd strides; 8 lanes meet in a bank with a stride of 8.
        for stride in [1, 3, 8] {
            let arguments = [Argument::Buffer(&out), Argument::Int(stride)];
            device.launch(&module, "f", [1; 3], [32, 1, 1], &arguments).result().unwrap();
        }
        device.synchronize().result().unwrap();
    });
    if ran(&text) {
        for line in [3, 5] {
            let expected = format!("bank conflicts at banks.cu:{line}: 3 accesses to shared memory take 7 turns more");
            assert!(text.contains(&expected), "{text}");
        }
    }
}

#[test]
fn blocking_launches() {
    with(&[("CUDA_LAUNCH_BLOCKING", "1")], "blocking_launches", |device| {
        let module = device
            .load("divergent.cu", "extern \"C\" __global__ void f(int n) { if (threadIdx.x < n) __syncthreads(); }");
        let status = device.launch(&module, "f", [1; 3], [64, 1, 1], &[Argument::Int(32)]);
        assert_eq!(status, CUresult::CUDA_ERROR_LAUNCH_FAILED);
    });
}
