#![no_main]
//! Any bytes as a NumPy archive.

use libfuzzer_sys::fuzz_target;
use vitral::weights::Container;

fuzz_target!(|data: &[u8]| {
    // An array of the fuzzer's bytes in an archive that is right gets past the first checks.
    let name = b"embedding/kernel.npy";
    let mut common = vec![0; 6];
    common.extend([0; 8]);
    common.extend((data.len() as u32).to_le_bytes());
    common.extend((data.len() as u32).to_le_bytes());
    common.extend((name.len() as u16).to_le_bytes());
    common.extend([0, 0]);
    let mut archive = [&b"PK\x03\x04"[..], &common, name, data].concat();
    let start = archive.len() as u32;
    archive.extend([&b"PK\x01\x02\x14\x00"[..], &common, &[0; 14], name].concat());
    let length = archive.len() as u32 - start;
    archive.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    archive.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    archive.extend([0, 0]);
    for bytes in [data.to_vec(), archive] {
        if let Ok(container) = Container::from_bytes("fuzz", bytes) {
            for name in container.names() {
                let _ = container.tensor(name);
            }
        }
    }
});
