//! Runs Vitral's CUDA kernels without a GPU, for tests.
//!
//! [`driver`] builds stand-ins for `libcuda`, `libcublasLt`, `libnvrtc` and `libnccl` over host memory with the machine's C++ compiler. A
//! program that loads CUDA at run time finds them in the folder that it returns.
#![forbid(unsafe_code)]

mod compiler;
mod library;
mod sources;

use std::fmt;
use std::path::PathBuf;

/// The names of the libraries in the folder of [`driver`].
pub const LIBRARIES: [&str; 8] = [
    "libcuda.so.1",
    "libcublasLt.so.13",
    "libnvrtc.so.13",
    "libnccl.so.2",
    "libcuda.so",
    "libcublasLt.so",
    "libnvrtc.so",
    "libnccl.so",
];

/// The folder with the stand-in libraries, built if they are not there yet.
///
/// With `checked`, kernels are compiled with a check of every load and store: bounds, alignment, races, divergent barriers, missing
/// waits, reads of memory that nothing has written. Without, they run many times faster.
///
/// # Errors
/// If the machine has no C++ compiler or is none that the emulator knows, or if the build fails. Tests skip where
/// [`Missing::skips`] says so.
pub fn driver(checked: bool) -> Result<PathBuf, Missing> {
    library::folder(checked)
}

/// Why there is no stand-in.
#[derive(Debug)]
#[non_exhaustive]
pub enum Missing {
    /// The emulator switches between stacks, which it can only on Linux on x86-64 and aarch64.
    Platform,
    /// No C++ compiler was found under any of these names.
    Compiler(Vec<String>),
    /// The compiler did not take the sources, or a file could not be written.
    Build(String),
}

impl Missing {
    /// Whether a test has nothing to test on this machine. A failed build is a failure.
    pub fn skips(&self) -> bool {
        !matches!(self, Self::Build(_))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => write!(f, "the emulator of CUDA needs Linux on x86-64 or aarch64"),
            Self::Compiler(tried) => {
                write!(
                    f,
                    "the emulator of CUDA needs a C++ compiler, found none of {}: install one or set `CXX`",
                    tried.join(", ")
                )
            }
            Self::Build(log) => write!(f, "the emulator of CUDA could not be built: {log}"),
        }
    }
}

impl std::error::Error for Missing {}
