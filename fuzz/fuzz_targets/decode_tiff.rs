//! Any directory and any data make a TIFF image or an error, within the limits and in bounded time.
//!
//!     python tools/golden/tiff.py --files fuzz/corpus/decode_tiff
//!     cargo +nightly fuzz run decode_tiff
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitral::image::{DecodeOptions, ImageError, Limits, SampleRange, decode_with};

const HEADS: [&[u8; 4]; 4] = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];

fuzz_target!(|bytes: &[u8]| {
    // The first bytes only choose a header, so that no time is spent on other formats.
    let mut bytes = bytes.to_vec();
    if bytes.len() < 4 {
        return;
    }
    if !HEADS.contains(&bytes.first_chunk().expect("as long")) {
        let head = HEADS[usize::from(bytes[0]) % HEADS.len()];
        bytes[..4].copy_from_slice(head);
    }
    let limits = Limits::DEFAULT.max_pixels(1 << 18).max_bytes(16 << 20);
    let options = DecodeOptions::default().limits(limits).sample_range(SampleRange::Auto);
    match decode_with(&bytes, &options).map(|decoded| decoded.into_image()) {
        Ok(image) => assert_eq!(image.pixels().len(), image.width() * image.height() * 3),
        Err(error) => assert!(!matches!(error, ImageError::Decoder { .. }), "{error}"),
    }
});
