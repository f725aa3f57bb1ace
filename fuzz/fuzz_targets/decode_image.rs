//! Any bytes decode to an image or an error, within the limits.
//!
//!     cargo +nightly fuzz run decode_image fuzz/corpus/decode_image goldens/image
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitral::image::{ImageError, Limits, decode};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::DEFAULT.max_pixels(1 << 20).max_bytes(64 << 20);
    match decode(bytes, &limits) {
        Ok(image) => assert_eq!(image.pixels().len(), image.width() * image.height() * 3),
        Err(error) => assert!(!matches!(error, ImageError::Decoder { .. }), "{error}"),
    }
});
