//! NVIDIA's libraries, loaded when a device is opened: the driver, cuBLASLt and NVRTC; and NCCL when cards of several
//! processes work together. The only place of this device with
//! `unsafe`; what it gives to the rest is safe to call, as long as kernels get the arguments that they declare.
//!
//! The declarations follow NVIDIA's documentation of the CUDA driver API, cuBLASLt and NVRTC, versions 12 and 13, and NCCL 2. Nothing
//! is linked: a binary built without CUDA uses a GPU where it finds one.
#![expect(unsafe_code, reason = "functions of libraries that are loaded at run time")]

/// A table of functions of a library.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident { $(fn $name:ident($($argument:ty),* $(,)?);)* }) => {
        $(#[$doc])*
        #[allow(non_snake_case, reason = "the names of the library")]
        struct $table {
            $($name: unsafe extern "C" fn($($argument),*) -> i32,)*
            _library: libloading::Library,
        }

        impl $table {
            /// Finds every function.
            fn of(library: libloading::Library) -> Result<Self, String> {
                // SAFETY: the types are those of NVIDIA's documentation, and the library lives as long as the table.
                unsafe {
                    Ok($table {
                        $($name: *library
                            .get(concat!(stringify!($name), "\0").as_bytes())
                            .map_err(|_| format!("it has no `{}`", stringify!($name)))?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

pub(super) mod blas;
pub(super) mod compiler;
pub(super) mod driver;
mod library;
pub(super) mod nccl;

/// The names of a library of CUDA's toolkit that works with a driver for this version of CUDA.
fn names(library: &str, driver: i32) -> Vec<String> {
    let versions: &[i32] = if driver >= 13_000 { &[13, 12] } else { &[12] };
    let mut names: Vec<String> = versions.iter().map(|version| format!("lib{library}.so.{version}")).collect();
    names.push(format!("lib{library}.so"));
    names.extend(versions.iter().map(|version| match library {
        "nvrtc" => format!("nvrtc64_{version}0_0.dll"),
        _ => format!("{library}64_{version}.dll"),
    }));
    names
}
