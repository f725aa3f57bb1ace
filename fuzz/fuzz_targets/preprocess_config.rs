//! Any JSON is a preprocessing or an error; what is accepted survives being written, and can be applied.
//!
//!     cargo +nightly fuzz run preprocess_config
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitral::config::Size;
use vitral::image::{Preprocess, RgbImage};

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = serde_json::from_slice(bytes) else { return };
    let image = RgbImage::from_gray(5, 7, &[90; 35]).expect("a small image");
    for read in [Preprocess::from_huggingface(&config, Some("vit")), Preprocess::from_timm(&config)] {
        let Ok(preprocess) = read else { continue };
        let text = serde_json::to_string(&preprocess).expect("it can be written");
        assert_eq!(serde_json::from_str::<Preprocess>(&text).expect("it can be read"), preprocess);
        let Size { height, width } = preprocess.output_size_for(image.size());
        if height.saturating_mul(width) < 1 << 16 {
            preprocess.apply(&image).expect("a small tensor");
        }
    }
});
