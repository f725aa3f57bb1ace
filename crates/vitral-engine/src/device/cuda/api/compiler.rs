//! NVRTC: compiles kernels for the card at hand.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::null_mut;

use super::library::open;

type Program = *mut c_void;

functions! {
    /// The functions of NVRTC that are used.
    Table {
        fn nvrtcVersion(*mut i32, *mut i32);
        fn nvrtcCreateProgram(*mut Program, *const c_char, *const c_char, i32, *const *const c_char, *const *const c_char);
        fn nvrtcCompileProgram(Program, i32, *const *const c_char);
        fn nvrtcGetCUBINSize(Program, *mut usize);
        fn nvrtcGetCUBIN(Program, *mut c_char);
        fn nvrtcGetProgramLogSize(Program, *mut usize);
        fn nvrtcGetProgramLog(Program, *mut c_char);
        fn nvrtcDestroyProgram(*mut Program);
    }
}

/// The compiler.
pub(in crate::device::cuda) struct Compiler {
    table: Table,
    /// Its version, as in 13.0.
    pub(in crate::device::cuda) version: String,
}

impl Compiler {
    /// Finds a compiler that a driver of this version can load the code of.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(in crate::device::cuda) fn open(driver: i32, folder: Option<&Path>) -> Result<Self, String> {
        let found = open(&super::names("nvrtc", driver), folder).map_err(|why| {
            format!(
                "NVRTC, which compiles the kernels for this card, was not found ({why}); it comes with the CUDA toolkit and \
                 with the Python package `nvidia-cuda-nvrtc`; name its folder with `--cuda-path`"
            )
        })?;
        let table = Table::of(found.library).map_err(|why| format!("`{}` is not NVRTC: {why}", found.name))?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both live through the call.
        unsafe { (table.nvrtcVersion)(&mut major, &mut minor) };
        Ok(Compiler { table, version: format!("{major}.{minor}") })
    }

    /// Machine code of a source.
    ///
    /// # Errors
    /// What the compiler says.
    pub(in crate::device::cuda) fn compile(
        &self,
        name: &str,
        source: &str,
        options: &[String],
    ) -> Result<Vec<u8>, String> {
        let text = |text: &str| CString::new(text).expect("sources and options have no zeros");
        let (source, file) = (text(source), text(name));
        let options: Vec<CString> = options.iter().map(|option| text(option)).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = null_mut();
        // SAFETY: every pointer is to a value that lives through the calls, and buffers have the sizes that the compiler
        // asks for.
        unsafe {
            let table = &self.table;
            let made = (table.nvrtcCreateProgram)(
                &mut program,
                source.as_ptr(),
                file.as_ptr(),
                0,
                std::ptr::null(),
                std::ptr::null(),
            );
            if made != 0 {
                return Err(format!("NVRTC does not take `{name}` (code {made})"));
            }
            let compiled = (table.nvrtcCompileProgram)(program, pointers.len() as i32, pointers.as_ptr());
            let result = if compiled == 0 {
                let mut size = 0;
                (table.nvrtcGetCUBINSize)(program, &mut size);
                let mut code = vec![0u8; size];
                match (table.nvrtcGetCUBIN)(program, code.as_mut_ptr().cast()) {
                    0 => Ok(code),
                    code => Err(format!("NVRTC has no code for `{name}` (code {code})")),
                }
            } else {
                let mut size = 0;
                (table.nvrtcGetProgramLogSize)(program, &mut size);
                let mut log = vec![0u8; size.max(1)];
                (table.nvrtcGetProgramLog)(program, log.as_mut_ptr().cast());
                let log = CStr::from_bytes_until_nul(&log).unwrap_or(c"").to_string_lossy().into_owned();
                Err(format!("NVRTC {} does not compile `{name}` (code {compiled}): {}", self.version, log.trim()))
            };
            (table.nvrtcDestroyProgram)(&mut program);
            result
        }
    }
}
