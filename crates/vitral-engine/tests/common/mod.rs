//! The GPU that tests run on.

use std::path::PathBuf;

use vitral_engine::Device;

/// The folder of the GPU to check: that of `VITRAL_CHECK_CUDA` if it is set (a folder of NVIDIA's libraries, or nothing for
/// those of the system), else of one that is emulated, if this machine has a C++ compiler.
pub(crate) fn libraries() -> Option<Option<PathBuf>> {
    match std::env::var_os("VITRAL_CHECK_CUDA") {
        Some(folder) => Some(Some(PathBuf::from(folder)).filter(|folder| !folder.as_os_str().is_empty())),
        None => match vitral_emulator::driver(false) {
            Ok(folder) => Some(Some(folder)),
            Err(missing) if missing.skips() => {
                eprintln!("GPU kernels are not tested: {missing}");
                None
            }
            Err(missing) => panic!("{missing}"),
        },
    }
}

/// The GPU to check.
pub(crate) fn gpu() -> Option<Device> {
    let folder = libraries()?;
    Some(Device::cuda(0, folder.as_deref()).unwrap_or_else(|error| panic!("{error}")))
}
