#![no_main]
//! Any bytes as a safetensors file.

use libfuzzer_sys::fuzz_target;
use vitral::weights::Container;

fuzz_target!(|data: &[u8]| {
    // A header of plausible length lets the fuzzer get past the first check.
    let mut bytes = (data.len() as u64 / 2).to_le_bytes().to_vec();
    bytes.extend_from_slice(data);
    for bytes in [data.to_vec(), bytes] {
        if let Ok(container) = Container::from_bytes("fuzz", bytes) {
            for name in container.names() {
                let _ = container.tensor(name);
            }
        }
    }
});
