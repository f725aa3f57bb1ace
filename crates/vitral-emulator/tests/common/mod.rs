//! The stand-in as a program sees it: through cudarc, which loads the libraries by their names.
#![allow(
    unsafe_code,
    dead_code,
    missing_debug_implementations,
    reason = "calls of a C interface; each test binary uses a part"
)]

use cudarc::driver::sys::{self, CUresult};
use cudarc::nvrtc;
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The device, for one test at a time.
pub(crate) struct Device {
    /// None on a GPU.
    emulator: Option<Emulator>,
    pub(crate) stream: sys::CUstream,
    _turn: MutexGuard<'static, ()>,
}

/// What the stand-in has and a driver has not.
#[derive(Clone, Copy)]
struct Emulator {
    message: unsafe extern "C" fn() -> *const c_char,
    reset: unsafe extern "C" fn(),
}

/// With `gpu` in this variable the tests of words run on a GPU, where the emulator's own expectations are tried: it must be named,
/// and the real libraries be where the system's loader finds them.
const WHERE: &str = "VITRAL_EMULATOR_TESTS_ON";

/// A kernel file that was compiled and loaded.
pub(crate) struct Module(pub(crate) sys::CUmodule);

/// Memory of the device, freed when dropped.
pub(crate) struct Buffer {
    pub(crate) address: u64,
    bytes: usize,
}

/// An argument of a kernel.
pub(crate) enum Argument<'a> {
    Buffer(&'a Buffer),
    /// The memory from this byte on.
    At(&'a Buffer, usize),
    Int(i32),
    Float(f32),
    /// A value of another type, which lives through the launch.
    Value(*const c_void),
}

impl Device {
    /// `None` on a machine without a C++ compiler, which has nothing to test.
    pub(crate) fn new(checked: bool) -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let on_gpu = std::env::var(WHERE).is_ok_and(|value| value == "gpu");
        let emulator = if on_gpu { None } else { Some((*EMULATOR.get_or_init(|| load_emulator(checked)))?) };
        let mut device = Self { emulator, stream: std::ptr::null_mut(), _turn: turn };
        device.reset();
        // SAFETY: every pointer is to a variable that lives through the call.
        unsafe {
            sys::cuInit(0).result().unwrap();
            let mut context = std::ptr::null_mut();
            sys::cuDevicePrimaryCtxRetain(&mut context, 0).result().unwrap();
            sys::cuCtxSetCurrent(context).result().unwrap();
            sys::cuStreamCreate(&mut device.stream, 1).result().unwrap();
        }
        Some(device)
    }

    pub(crate) fn is_gpu(&self) -> bool {
        self.emulator.is_none()
    }

    /// What the stand-in last complained about.
    pub(crate) fn message(&self) -> String {
        let Some(emulator) = self.emulator else { return String::new() };
        // SAFETY: the function returns a text that ends with a zero.
        unsafe { CStr::from_ptr((emulator.message)()) }.to_string_lossy().into_owned()
    }

    /// Forgets a fault.
    pub(crate) fn reset(&self) {
        if let Some(emulator) = self.emulator {
            // SAFETY: no other thread uses the device.
            unsafe { (emulator.reset)() }
        }
    }

    pub(crate) fn compile(&self, name: &str, source: &str, options: &[&str]) -> Result<Vec<c_char>, String> {
        self.compile_with(name, source, &[], options)
    }

    /// The same with files that the source may include: name and text of each.
    pub(crate) fn compile_with(
        &self,
        name: &str,
        source: &str,
        headers: &[(&str, &str)],
        options: &[&str],
    ) -> Result<Vec<c_char>, String> {
        let text = |text: &str| CString::new(text).unwrap();
        let (source, name) = (text(source), text(name));
        let texts: Vec<[CString; 2]> = headers.iter().map(|(name, content)| [text(name), text(content)]).collect();
        let names: Vec<_> = texts.iter().map(|[name, _]| name.as_ptr()).collect();
        let contents: Vec<_> = texts.iter().map(|[_, content]| content.as_ptr()).collect();
        // SAFETY: the texts end with zeros and live through the calls.
        unsafe {
            let mut program = std::ptr::null_mut();
            nvrtc::sys::nvrtcCreateProgram(
                &mut program,
                source.as_ptr(),
                name.as_ptr(),
                headers.len() as i32,
                contents.as_ptr(),
                names.as_ptr(),
            )
            .result()
            .unwrap();
            let options: Vec<CString> = options.iter().map(|option| CString::new(*option).unwrap()).collect();
            let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
            let status = nvrtc::sys::nvrtcCompileProgram(program, pointers.len() as i32, pointers.as_ptr());
            let mut size = 0;
            if status != nvrtc::sys::nvrtcResult::NVRTC_SUCCESS {
                nvrtc::sys::nvrtcGetProgramLogSize(program, &mut size).result().unwrap();
                let mut log = vec![0; size];
                nvrtc::sys::nvrtcGetProgramLog(program, log.as_mut_ptr()).result().unwrap();
                return Err(format!("{status:?}: {}", CStr::from_ptr(log.as_ptr()).to_string_lossy()));
            }
            nvrtc::sys::nvrtcGetPTXSize(program, &mut size).result().unwrap();
            let mut image = vec![0; size];
            nvrtc::sys::nvrtcGetPTX(program, image.as_mut_ptr()).result().unwrap();
            nvrtc::sys::nvrtcDestroyProgram(&mut program).result().unwrap();
            Ok(image)
        }
    }

    pub(crate) fn load(&self, name: &str, source: &str) -> Module {
        let image = self
            .compile(name, source, &["--gpu-architecture=sm_90", "--std=c++17"])
            .unwrap_or_else(|log| panic!("{log}"));
        let mut module = std::ptr::null_mut();
        // SAFETY: the image ends with a zero.
        unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()).result().unwrap() };
        Module(module)
    }

    pub(crate) fn zeros(&self, bytes: usize) -> Buffer {
        self.upload(&vec![0u8; bytes])
    }

    /// Memory that nothing has written.
    pub(crate) fn fresh(&self, bytes: usize) -> Buffer {
        let mut address = 0;
        // SAFETY: a pointer to a variable.
        unsafe { sys::cuMemAlloc_v2(&mut address, bytes).result().unwrap() };
        Buffer { address, bytes }
    }

    pub(crate) fn upload<T: Copy>(&self, values: &[T]) -> Buffer {
        let buffer = self.fresh(size_of_val(values));
        // SAFETY: both ranges have this many bytes.
        unsafe {
            sys::cuMemcpyHtoDAsync_v2(buffer.address, values.as_ptr().cast(), buffer.bytes, self.stream)
                .result()
                .unwrap()
        };
        buffer
    }

    pub(crate) fn download<T: Copy + Default>(&self, buffer: &Buffer) -> Result<Vec<T>, CUresult> {
        let mut values = vec![T::default(); buffer.bytes / size_of::<T>()];
        // SAFETY: both ranges have this many bytes.
        let status =
            unsafe { sys::cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), buffer.address, buffer.bytes, self.stream) };
        if status == CUresult::CUDA_SUCCESS { Ok(values) } else { Err(status) }
    }

    pub(crate) fn launch(
        &self,
        module: &Module,
        name: &str,
        grid: [u32; 3],
        block: [u32; 3],
        arguments: &[Argument<'_>],
    ) -> CUresult {
        self.launch_with(module, name, grid, block, 0, arguments)
    }

    pub(crate) fn launch_with(
        &self,
        module: &Module,
        name: &str,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic: u32,
        arguments: &[Argument<'_>],
    ) -> CUresult {
        let name = CString::new(name).unwrap();
        let mut values: Vec<u64> = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Buffer(buffer) => buffer.address,
                Argument::At(buffer, offset) => buffer.address + *offset as u64,
                Argument::Int(value) => *value as u32 as u64,
                Argument::Float(value) => value.to_bits() as u64,
                Argument::Value(_) => 0,
            })
            .collect();
        let mut pointers: Vec<*mut c_void> = values
            .iter_mut()
            .zip(arguments)
            .map(|(value, argument)| match argument {
                Argument::Value(pointer) => pointer.cast_mut(),
                _ => std::ptr::from_mut(value).cast(),
            })
            .collect();
        // SAFETY: each pointer is to a value at least as large as the parameter.
        unsafe {
            let mut function = std::ptr::null_mut();
            let found = sys::cuModuleGetFunction(&mut function, module.0, name.as_ptr());
            if found != CUresult::CUDA_SUCCESS {
                return found;
            }
            let [gx, gy, gz] = grid;
            let [bx, by, bz] = block;
            let extra = std::ptr::null_mut();
            sys::cuLaunchKernel(function, gx, gy, gz, bx, by, bz, dynamic, self.stream, pointers.as_mut_ptr(), extra)
        }
    }

    pub(crate) fn has_kernel(&self, module: &Module, name: &str) -> bool {
        let name = CString::new(name).unwrap();
        let mut function = std::ptr::null_mut();
        // SAFETY: the name ends with a zero.
        unsafe { sys::cuModuleGetFunction(&mut function, module.0, name.as_ptr()) == CUresult::CUDA_SUCCESS }
    }

    pub(crate) fn synchronize(&self) -> CUresult {
        // SAFETY: the stream is this device's own.
        unsafe { sys::cuStreamSynchronize(self.stream) }
    }
}

/// Loads the stand-in; None where it cannot be built.
fn load_emulator(checked: bool) -> Option<Emulator> {
    let folder = match vitral_emulator::driver(checked) {
        Ok(folder) => folder,
        Err(missing) if missing.skips() => {
            eprintln!("skipped: {missing}");
            return None;
        }
        Err(missing) => panic!("{missing}"),
    };
    // SAFETY: the libraries have no initializers that ask anything of the program, and the types are those of their functions.
    // Never unloaded, they are found by their names from now on.
    unsafe {
        for library in vitral_emulator::LIBRARIES {
            std::mem::forget(libloading::Library::new(folder.join(library)).unwrap());
        }
        let core = libloading::Library::new(folder.join("libvitral_emulator.so")).unwrap();
        let message = *core.get(b"vitral_emulator_message\0").unwrap();
        let reset = *core.get(b"vitral_emulator_reset\0").unwrap();
        std::mem::forget(core);
        Some(Emulator { message, reset })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.reset();
        // SAFETY: the stream is this device's own.
        unsafe { sys::cuStreamDestroy_v2(self.stream) }.result().ok();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the address is this buffer's own. After a fault nothing can be freed.
        unsafe { sys::cuMemFree_v2(self.address) }.result().ok();
    }
}
