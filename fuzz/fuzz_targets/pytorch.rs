#![no_main]
//! Any bytes as a PyTorch checkpoint, in the older format (a bare pickle) and as they come.

use libfuzzer_sys::fuzz_target;
use vitral::weights::Container;

fuzz_target!(|data: &[u8]| {
    for bytes in [data.to_vec(), [&b"\x80\x02"[..], data].concat(), [&b"PK\x03\x04"[..], data].concat()] {
        if let Ok(container) = Container::from_bytes("fuzz", bytes) {
            for name in container.names() {
                let _ = container.tensor(name);
            }
        }
    }
});
