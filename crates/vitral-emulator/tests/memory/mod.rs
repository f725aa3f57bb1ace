//! Device memory and errors.
#![allow(unsafe_code, reason = "calls of a C interface")]

use crate::common::{Argument, Device};
use cudarc::driver::sys::{self, CUresult};
use std::ffi::CStr;
use std::ptr::null_mut;

#[test]
fn fresh_memory_is_poisoned() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let x = device.fresh(40);
    assert_eq!(x.address % 512, 256, "aligned as promised and no better");
    assert!(device.download::<f32>(&x).unwrap().iter().all(|value| value.is_nan()));
}

#[test]
fn copies_stay_inside() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let x = device.zeros(40);
    let mut host = [0u8; 44];
    // SAFETY: the host's range has this many bytes; the device's does not, which is what is tested.
    let status = unsafe { sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), x.address, 44, device.stream) };
    assert_eq!(status, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(device.message().contains("44 bytes"), "{}", device.message());
    assert_eq!(device.synchronize(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "it sticks");
    device.reset();
    device.synchronize().result().unwrap();
}

#[test]
fn writes_around_an_allocation_are_seen() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let source = "extern \"C\" __global__ void past(float *x, int i) { x[i] = 1; }";
    let module = device.load("past.cu", source);
    for index in [10, -1] {
        let x = device.zeros(40);
        device
            .launch(&module, "past", [1; 3], [1, 1, 1], &[Argument::Buffer(&x), Argument::Int(index)])
            .result()
            .unwrap();
        // SAFETY: no arguments.
        let status = unsafe { sys::cuCtxSynchronize() };
        assert_eq!(status, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        device.reset();
        drop(x);
        device.reset();
    }
}

#[test]
fn wild_pointers_are_a_fault() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let source = "\
        extern \"C\" __global__ void wild(float *x, int n) {\n\
            x[(size_t)n << 40] = 1;\n\
        }\n\
        extern \"C\" __global__ void null(float *x, int n) {\n\
            float *nothing = (float *)(size_t)n;\n\
            x[0] = *nothing;\n\
        }";
    let module = device.load("wild.cu", source);
    for (kernel, n, line) in [("wild", 1, "wild.cu:2"), ("null", 0, "wild.cu:6")] {
        let x = device.zeros(40);
        device.launch(&module, kernel, [1; 3], [1, 1, 1], &[Argument::Buffer(&x), Argument::Int(n)]).result().unwrap();
        assert_eq!(device.synchronize(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert!(device.message().contains(line), "{}", device.message());
        device.reset();
    }
}

#[test]
fn memory_is_freed_in_the_order_of_its_stream() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let (mut free_before, mut free, mut total, mut address) = (0, 0, 0, 0);
    // SAFETY: pointers to variables; the address is the test's own.
    unsafe {
        sys::cuMemGetInfo_v2(&mut free_before, &mut total).result().unwrap();
        assert_eq!(total, 8 << 30);
        sys::cuMemAllocAsync(&mut address, 1000, device.stream).result().unwrap();
        sys::cuMemsetD8Async(address, 1, 1000, device.stream).result().unwrap();
        sys::cuMemFreeAsync(address, device.stream).result().unwrap();
        assert_eq!(sys::cuMemFreeAsync(address, device.stream), CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuMemGetInfo_v2(&mut free, &mut total).result().unwrap();
        assert_eq!(free, free_before - 1000);
        device.synchronize().result().unwrap();
        sys::cuMemGetInfo_v2(&mut free, &mut total).result().unwrap();
        assert_eq!(free, free_before);
        assert_eq!(sys::cuMemFree_v2(address), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 0), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 9 << 30), CUresult::CUDA_ERROR_OUT_OF_MEMORY);

        let (mut pool, mut value) = (null_mut(), 1u64 << 40);
        sys::cuDeviceGetDefaultMemPool(&mut pool, 0).result().unwrap();
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut value).cast()).result().unwrap();
        value = 0;
        sys::cuMemPoolGetAttribute(pool, threshold, (&raw mut value).cast()).result().unwrap();
        assert_eq!(value, 1 << 40);
        sys::cuMemPoolTrimTo(pool, 0).result().unwrap();
    }
}

#[test]
fn freed_memory_cannot_be_used() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let x = device.zeros(40);
    let address = x.address;
    drop(x);
    // SAFETY: the address is no longer an allocation, which is what is tested.
    let status = unsafe { sys::cuMemsetD8Async(address, 0, 40, device.stream) };
    assert_eq!(status, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn a_thread_needs_a_context() {
    let Some(_device) = Device::new(crate::CHECKED) else { return };
    let status = std::thread::spawn(|| {
        let mut address = 0;
        // SAFETY: a pointer to a variable.
        unsafe { sys::cuMemAlloc_v2(&mut address, 4) }
    });
    assert_eq!(status.join().unwrap(), CUresult::CUDA_ERROR_INVALID_CONTEXT);
}

#[test]
fn the_device_describes_itself() {
    let Some(_device) = Device::new(crate::CHECKED) else { return };
    let mut name = [0; 64];
    let mut value = 0;
    // SAFETY: pointers to variables; the name has 64 bytes.
    unsafe {
        sys::cuDeviceGetName(name.as_mut_ptr(), 64, 0).result().unwrap();
        let expected = if crate::CHECKED { c"Vitral emulator (checked)" } else { c"Vitral emulator" };
        assert_eq!(CStr::from_ptr(name.as_ptr()), expected);
        use sys::CUdevice_attribute as A;
        for (attribute, expected) in [
            (A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9),
            (A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0),
            (A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132),
            (A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 227 << 10),
            (A::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
            (A::CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
        ] {
            sys::cuDeviceGetAttribute(&mut value, attribute, 0).result().unwrap();
            assert_eq!(value, expected, "{attribute:?}");
        }
        let mut text = std::ptr::null();
        sys::cuGetErrorName(CUresult::CUDA_ERROR_OUT_OF_MEMORY, &mut text).result().unwrap();
        assert_eq!(CStr::from_ptr(text), c"CUDA_ERROR_OUT_OF_MEMORY");
        let mut function = null_mut();
        let mut found = sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS;
        sys::cuGetProcAddress_v2(c"cuMemAlloc".as_ptr(), &mut function, 12000, 0, &mut found).result().unwrap();
        assert!(!function.is_null());
        let missing = sys::cuGetProcAddress_v2(c"cuNothing".as_ptr(), &mut function, 12000, 0, &mut found);
        assert_eq!(missing, CUresult::CUDA_ERROR_NOT_FOUND);
    }
}

#[test]
fn errors_of_a_kernel_file_come_back() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let log =
        device.compile("wrong.cu", "extern \"C\" __global__ void f(float *x) {\n    x[0] = y;\n}", &[]).unwrap_err();
    assert!(log.starts_with("NVRTC_ERROR_COMPILATION"), "{log}");
    assert!(log.contains("wrong.cu:2:") && log.contains('y'), "{log}");
    let log = device.compile("wrong.cu", "", &["--gpu-architecture=none"]).unwrap_err();
    assert!(log.starts_with("NVRTC_ERROR_INVALID_OPTION"), "{log}");
}

#[test]
fn a_source_may_include_what_is_given() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let source = "#include \"parts/three.cuh\"\nextern \"C\" __global__ void f(int *x) { x[0] = three(); }";
    let right = "__device__ __forceinline__ int three() { return 3; }";
    device.compile_with("includes.cu", source, &[("parts/three.cuh", right)], &[]).unwrap();
    let log = device.compile_with("includes.cu", source, &[("parts/three.cuh", "\nint three( {}")], &[]).unwrap_err();
    assert!(log.contains(" parts/three.cuh:2:") || log.contains("\nparts/three.cuh:2:"), "{log}");
}

#[test]
fn options_of_the_compiler() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let source = "extern \"C\" __global__ void f(int *x) { x[0] = VALUE; x[1] = OTHER; x[2] = __CUDA_ARCH__; }";
    let image = device.compile(
        "options.cu",
        source,
        &["-DVALUE=3", "--define-macro=OTHER=4", "-arch", "sm_80", "--use_fast_math"],
    );
    let image = image.unwrap();
    let mut module = null_mut();
    // SAFETY: the image ends with a zero.
    unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()).result().unwrap() };
    let module = crate::common::Module(module);
    let x = device.zeros(12);
    device.launch(&module, "f", [1; 3], [1, 1, 1], &[Argument::Buffer(&x)]).result().unwrap();
    assert_eq!(device.download::<i32>(&x).unwrap(), [3, 4, 800]);
    // SAFETY: the module is the test's own, and an image of no kind of the emulator.
    unsafe {
        sys::cuModuleUnload(module.0).result().unwrap();
        let mut other = null_mut();
        let status = sys::cuModuleLoadData(&mut other, c".version 8.0".as_ptr().cast());
        assert_eq!(status, CUresult::CUDA_ERROR_INVALID_IMAGE);
        let foreign = c"// Vitral emulator\n// object: /elsewhere/kernels/x.so\n";
        let status = sys::cuModuleLoadData(&mut other, foreign.as_ptr().cast());
        assert_eq!(status, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    }
}

#[test]
fn two_files_may_have_kernels_of_one_name() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let first = "template <int n> struct Static { static int value; }; template <int n> int Static<n>::value = 5;\n\
        extern \"C\" __global__ void same() { Static<0>::value++; }";
    let second = "template <int n> struct Static { static int value; }; template <int n> int Static<n>::value = 7;\n\
        extern \"C\" __global__ void same(int *x) { x[0] = Static<0>::value; }";
    let (first, second) = (device.load("first.cu", first), device.load("second.cu", second));
    let x = device.zeros(4);
    device.launch(&first, "same", [1; 3], [1, 1, 1], &[]).result().unwrap();
    device.launch(&second, "same", [1; 3], [1, 1, 1], &[Argument::Buffer(&x)]).result().unwrap();
    assert_eq!(device.download::<i32>(&x).unwrap(), [7]);
}

#[test]
fn sizes_of_a_launch_are_checked() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let module = device.load("empty.cu", "extern \"C\" __global__ void f() {}");
    for (grid, block, dynamic) in [
        ([0, 1, 1], [32, 1, 1], 0),
        ([1, 70000, 1], [32, 1, 1], 0),
        ([1; 3], [1025, 1, 1], 0),
        ([1; 3], [32, 1, 65], 0),
        ([1; 3], [1; 3], 50000),
    ] {
        let status = device.launch_with(&module, "f", grid, block, dynamic, &[]);
        assert_eq!(status, CUresult::CUDA_ERROR_INVALID_VALUE, "{grid:?} {block:?} {dynamic}");
    }
    device.synchronize().result().unwrap();
    let mut function = null_mut();
    // SAFETY: the function is the module's own.
    unsafe {
        sys::cuModuleGetFunction(&mut function, module.0, c"f".as_ptr()).result().unwrap();
        let dynamic = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        assert_eq!(sys::cuFuncSetAttribute(function, dynamic, 300_000), CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuFuncSetAttribute(function, dynamic, 50_000).result().unwrap();
    }
    device.launch_with(&module, "f", [1; 3], [1; 3], 50_000, &[]).result().unwrap();
    device.synchronize().result().unwrap();
}
