//! The C++ sources, which the crate carries with it.

/// A file: its path below `cpp/` and its text.
pub(crate) type Source = (&'static str, &'static str);

macro_rules! sources {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../cpp/", $path)))),*]
    };
}

/// What is compiled in front of every kernel file.
pub(crate) const HEADERS: &[Source] = sources![
    "include/atomics.hpp",
    "include/emulator.hpp",
    "include/entry.hpp",
    "include/floats.hpp",
    "include/mathematics.hpp",
    "include/runtime.hpp",
    "include/tensor.hpp",
    "include/threads.hpp",
    "include/words.hpp",
];

/// The headers of the library itself.
pub(crate) const INTERNAL_HEADERS: &[Source] = sources![
    "driver/compile.hpp",
    "driver/product.hpp",
    "driver/source.hpp",
    "driver/state.hpp",
    "runtime/banks.hpp",
    "runtime/block.hpp",
    "runtime/fiber.hpp",
    "runtime/launch.hpp",
    "runtime/memory.hpp",
    "runtime/signals.hpp",
    "runtime/symbols.hpp",
];

/// The library, the slowest to compile first.
pub(crate) const UNITS: &[Source] = sources![
    "driver/compile.cpp",
    "driver/product.cpp",
    "driver/modules.cpp",
    "driver/allocations.cpp",
    "driver/streams.cpp",
    "driver/source.cpp",
    "driver/cublaslt.cpp",
    "driver/nvrtc.cpp",
    "driver/nccl.cpp",
    "driver/device.cpp",
    "driver/errors.cpp",
    "runtime/launch.cpp",
    "runtime/memory.cpp",
    "runtime/access.cpp",
    "runtime/tensor.cpp",
    "runtime/schedule.cpp",
    "runtime/collectives.cpp",
    "runtime/hooks.cpp",
    "runtime/fiber.cpp",
    "runtime/signals.cpp",
    "runtime/banks.cpp",
    "runtime/symbols.cpp",
];

/// The one unit that the fast and the checked library do not share.
pub(crate) const SETTINGS: Source = ("driver/settings.cpp", include_str!("../cpp/driver/settings.cpp"));

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cpp");
        let mut there = Vec::new();
        for folder in ["include", "runtime", "driver"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                there.push(format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()));
            }
        }
        let mut listed: Vec<_> =
            [HEADERS, INTERNAL_HEADERS, UNITS, &[SETTINGS]].concat().iter().map(|(path, _)| path.to_string()).collect();
        there.sort();
        listed.sort();
        assert_eq!(listed, there);
    }
}
