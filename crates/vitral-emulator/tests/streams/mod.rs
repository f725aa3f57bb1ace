//! Streams, events and graphs: what is ordered and what is not.
#![allow(unsafe_code, reason = "calls of a C interface")]

use crate::common::{Argument, Buffer, Device, Module};
use cudarc::driver::sys::{self, CUresult};
use std::ptr::null_mut;

const SOURCE: &str = r#"
extern "C" __global__ void add(float *x, float value, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += value;
}
extern "C" __global__ void copy(float *to, const float *from, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) to[i] = from[i];
}
"#;
const COUNT: usize = 100;

fn setup() -> Option<(Device, Module)> {
    let device = Device::new(crate::CHECKED)?;
    let module = device.load("streams.cu", SOURCE);
    Some((device, module))
}

fn add(device: &Device, module: &Module, x: &Buffer, value: f32) {
    let arguments = [Argument::Buffer(x), Argument::Float(value), Argument::Int(COUNT as i32)];
    device.launch(module, "add", [4, 1, 1], [32, 1, 1], &arguments).result().unwrap();
}

fn new_stream() -> sys::CUstream {
    let mut stream = null_mut();
    // SAFETY: a pointer to a variable.
    unsafe { sys::cuStreamCreate(&mut stream, 1).result().unwrap() };
    stream
}

/// Page-locked memory, filled with zeros.
fn pinned(count: usize) -> &'static mut [f32] {
    let mut host = null_mut();
    // SAFETY: the memory has this many bytes, and is never freed.
    unsafe {
        sys::cuMemHostAlloc(&mut host, count * 4, 0).result().unwrap();
        let values = std::slice::from_raw_parts_mut(host.cast::<f32>(), count);
        values.fill(0.0);
        values
    }
}

#[test]
fn work_waits_until_somebody_does() {
    let Some((device, module)) = setup() else { return };
    let x = device.upload(&[1f32; COUNT]);
    let host = pinned(COUNT);
    add(&device, &module, &x, 2.0);
    // SAFETY: both ranges have this many bytes.
    unsafe {
        sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), x.address, COUNT * 4, device.stream).result().unwrap();
        assert_eq!(sys::cuStreamQuery(device.stream), CUresult::CUDA_ERROR_NOT_READY);
        assert_eq!(host[0], 0.0, "not copied yet");
        device.synchronize().result().unwrap();
        assert_eq!(host, [3.0; COUNT]);
        assert_eq!(sys::cuStreamQuery(device.stream), CUresult::CUDA_SUCCESS);
        // Page-locked memory is read when the copy's turn comes.
        sys::cuMemcpyHtoDAsync_v2(x.address, host.as_ptr().cast(), COUNT * 4, device.stream).result().unwrap();
        host.fill(7.0);
        assert_eq!(device.download::<f32>(&x).unwrap(), [7.0; COUNT]);
    }
}

#[test]
fn streams_are_ordered_by_events_alone() {
    let Some((device, module)) = setup() else { return };
    let x = device.upload(&[1f32; COUNT]);
    device.synchronize().result().unwrap();
    add(&device, &module, &x, 2.0);
    let other = new_stream();
    let host = pinned(COUNT);
    // SAFETY: the ranges have this many bytes; the handles are the test's own.
    unsafe {
        let mut event = null_mut();
        sys::cuEventCreate(&mut event, 0).result().unwrap();
        sys::cuEventRecord(event, device.stream).result().unwrap();
        sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), x.address, COUNT * 4, other).result().unwrap();
        sys::cuStreamSynchronize(other).result().unwrap();
        assert_eq!(host, [1.0; COUNT], "the first stream's work has not run");
        assert_eq!(sys::cuEventQuery(event), CUresult::CUDA_ERROR_NOT_READY);

        sys::cuStreamWaitEvent(other, event, 0).result().unwrap();
        sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), x.address, COUNT * 4, other).result().unwrap();
        sys::cuStreamSynchronize(other).result().unwrap();
        assert_eq!(host, [3.0; COUNT]);

        let mut later = null_mut();
        sys::cuEventCreate(&mut later, 0).result().unwrap();
        add(&device, &module, &x, 1.0);
        sys::cuEventRecord(later, device.stream).result().unwrap();
        let mut milliseconds = -1.0;
        assert_eq!(sys::cuEventElapsedTime(&mut milliseconds, event, later), CUresult::CUDA_ERROR_NOT_READY);
        sys::cuEventSynchronize(later).result().unwrap();
        sys::cuEventElapsedTime(&mut milliseconds, event, later).result().unwrap();
        assert!(milliseconds >= 0.0);
        sys::cuEventDestroy_v2(event).result().unwrap();
        sys::cuEventDestroy_v2(later).result().unwrap();
        sys::cuStreamDestroy_v2(other).result().unwrap();
    }
    assert_eq!(device.download::<f32>(&x).unwrap(), [4.0; COUNT]);
}

#[test]
fn graphs_replay() {
    let Some((device, module)) = setup() else { return };
    let (x, y) = (device.upload(&[1f32; COUNT]), device.zeros(COUNT * 4));
    let host = pinned(COUNT);
    let capture = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
    let other = new_stream();
    // SAFETY: the ranges have this many bytes; the handles are the test's own.
    unsafe {
        device.synchronize().result().unwrap();
        sys::cuStreamBeginCapture_v2(device.stream, capture).result().unwrap();
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        sys::cuStreamIsCapturing(device.stream, &mut status).result().unwrap();
        assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
        add(&device, &module, &x, 2.0);
        sys::cuMemcpyDtoDAsync_v2(y.address, x.address, COUNT * 4, device.stream).result().unwrap();
        // A second stream joins by an event, and comes back by another.
        let (mut fork, mut join) = (null_mut(), null_mut());
        sys::cuEventCreate(&mut fork, 2).result().unwrap();
        sys::cuEventCreate(&mut join, 2).result().unwrap();
        sys::cuEventRecord(fork, device.stream).result().unwrap();
        sys::cuStreamWaitEvent(other, fork, 0).result().unwrap();
        sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), y.address, COUNT * 4, other).result().unwrap();
        sys::cuEventRecord(join, other).result().unwrap();
        sys::cuStreamWaitEvent(device.stream, join, 0).result().unwrap();
        sys::cuMemsetD32Async(y.address, 0, COUNT, device.stream).result().unwrap();
        let mut graph = null_mut();
        sys::cuStreamEndCapture(device.stream, &mut graph).result().unwrap();
        sys::cuStreamIsCapturing(other, &mut status).result().unwrap();
        assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
        let mut executable = null_mut();
        sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0).result().unwrap();
        sys::cuGraphDestroy(graph).result().unwrap();
        assert_eq!(device.download::<f32>(&x).unwrap(), [1.0; COUNT], "nothing ran while it was captured");

        for run in 1..=3 {
            sys::cuGraphLaunch(executable, device.stream).result().unwrap();
            device.synchronize().result().unwrap();
            assert_eq!(host, [1.0 + 2.0 * run as f32; COUNT]);
        }
        assert_eq!(device.download::<f32>(&x).unwrap(), [7.0; COUNT]);
        assert_eq!(device.download::<f32>(&y).unwrap(), [0.0; COUNT]);
        sys::cuGraphExecDestroy(executable).result().unwrap();
        sys::cuStreamDestroy_v2(other).result().unwrap();
    }
}

#[test]
fn a_graph_has_memory_of_its_own() {
    let Some((device, module)) = setup() else { return };
    let (x, y) = (device.upload(&[1f32; COUNT]), device.zeros(COUNT * 4));
    let count = Argument::Int(COUNT as i32);
    let (mut free_before, mut free, mut total, mut address) = (0, 0, 0, 0);
    // SAFETY: the ranges have this many bytes; the handles are the test's own.
    unsafe {
        device.synchronize().result().unwrap();
        sys::cuMemGetInfo_v2(&mut free_before, &mut total).result().unwrap();
        sys::cuStreamBeginCapture_v2(device.stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL)
            .result()
            .unwrap();
        sys::cuMemAllocAsync(&mut address, COUNT * 4, device.stream).result().unwrap();
        let own = Argument::Value((&raw const address).cast());
        device.launch(&module, "copy", [4, 1, 1], [32, 1, 1], &[own, Argument::Buffer(&x), count]).result().unwrap();
        add(&device, &module, &x, 1.0);
        let own = Argument::Value((&raw const address).cast());
        let arguments = [Argument::Buffer(&y), own, Argument::Int(COUNT as i32)];
        device.launch(&module, "copy", [4, 1, 1], [32, 1, 1], &arguments).result().unwrap();
        sys::cuMemFreeAsync(address, device.stream).result().unwrap();
        let (mut graph, mut executable) = (null_mut(), null_mut());
        sys::cuStreamEndCapture(device.stream, &mut graph).result().unwrap();
        sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0).result().unwrap();
        sys::cuGraphDestroy(graph).result().unwrap();
        for run in 1..=3 {
            sys::cuGraphLaunch(executable, device.stream).result().unwrap();
            assert_eq!(device.download::<f32>(&y).unwrap(), [run as f32; COUNT]);
        }
        // The address lives as long as the graph, and so long as a launch of it is under way.
        sys::cuGraphLaunch(executable, device.stream).result().unwrap();
        sys::cuGraphExecDestroy(executable).result().unwrap();
        assert_eq!(device.download::<f32>(&y).unwrap(), [4.0; COUNT]);
        sys::cuMemGetInfo_v2(&mut free, &mut total).result().unwrap();
        assert_eq!(free, free_before);
    }
}

#[test]
fn a_capture_ends_at_what_it_does_not_allow() {
    let Some((device, module)) = setup() else { return };
    let x = device.upload(&[1f32; COUNT]);
    let capture = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
    let mut address = 0;
    let mut host = [0f32; COUNT];
    // SAFETY: the ranges have this many bytes; the handles are the test's own.
    unsafe {
        let calls: [&mut dyn FnMut() -> CUresult; 6] = [
            &mut || sys::cuMemAlloc_v2(&mut address, 4),
            &mut || sys::cuStreamSynchronize(device.stream),
            &mut || sys::cuCtxSynchronize(),
            &mut || sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), x.address, COUNT * 4, device.stream),
            &mut || sys::cuMemcpyHtoDAsync_v2(x.address, [0f32; COUNT].as_ptr().cast(), COUNT * 4, device.stream),
            &mut || sys::cuMemFreeAsync(x.address, device.stream),
        ];
        for call in calls {
            sys::cuStreamBeginCapture_v2(device.stream, capture).result().unwrap();
            add(&device, &module, &x, 1.0);
            assert_eq!(call(), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
            let mut graph = null_mut();
            let ended = sys::cuStreamEndCapture(device.stream, &mut graph);
            assert_eq!(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        let mut graph = null_mut();
        let ended = sys::cuStreamEndCapture(device.stream, &mut graph);
        assert_eq!(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    }
    assert_eq!(device.download::<f32>(&x).unwrap(), [1.0; COUNT]);
}

#[test]
fn work_is_ordered_within_a_stream() {
    let Some((device, module)) = setup() else { return };
    let (x, y) = (device.upload(&[5f32; COUNT]), device.zeros(COUNT * 4));
    device.synchronize().result().unwrap();
    let arguments = [Argument::Buffer(&y), Argument::Buffer(&x), Argument::Int(COUNT as i32)];
    device.launch(&module, "copy", [4, 1, 1], [32, 1, 1], &arguments).result().unwrap();
    add(&device, &module, &x, 1.0);
    assert_eq!(device.download::<f32>(&y).unwrap(), [5.0; COUNT]);
}
