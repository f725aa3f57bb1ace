//! Malicious files: false sizes, truncation, flipped bits.

use proptest::prelude::*;
use vitral::image::{ImageError, Limits, decode};

use super::golden_bytes;

const PICTURES: [&str; 14] = [
    "rgb.png",
    "palette.png",
    "gray16.png",
    "alpha.png",
    "baseline.jpg",
    "progressive_420.jpg",
    "orientation6.jpg",
    "cmyk.jpg",
    "lossless.webp",
    "lossy.webp",
    "frame.gif",
    "rgb.bmp",
    "palette.bmp",
    "lzw.tiff",
];

/// Small, so that a mutated header is rejected early.
const LIMITS: Limits = Limits::DEFAULT.max_pixels(1 << 20).max_bytes(64 << 20);

/// Writes a size into a file's header.
fn announce(name: &str, side: u32) -> Vec<u8> {
    let mut bytes = golden_bytes(name);
    let narrow = side.min(0xFFFF) as u16;
    match &bytes[..2] {
        b"\x89P" => {
            bytes[16..20].copy_from_slice(&side.to_be_bytes());
            bytes[20..24].copy_from_slice(&side.to_be_bytes());
            let checksum = crc32(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        }
        b"\xFF\xD8" => {
            let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
            bytes[frame + 5..frame + 7].copy_from_slice(&narrow.to_be_bytes());
            bytes[frame + 7..frame + 9].copy_from_slice(&narrow.to_be_bytes());
        }
        b"GI" => {
            bytes[6..8].copy_from_slice(&narrow.to_le_bytes());
            bytes[8..10].copy_from_slice(&narrow.to_le_bytes());
        }
        _ => {
            bytes[18..22].copy_from_slice(&side.to_le_bytes());
            bytes[22..26].copy_from_slice(&side.to_le_bytes());
        }
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn large_sizes_are_rejected_before_anything_is_allocated() {
    for (name, side) in [("rgb.png", 1 << 30), ("baseline.jpg", 65535), ("frame.gif", 65535), ("rgb.bmp", 60000)] {
        let error = decode(&announce(name, side), &Limits::default()).unwrap_err();
        assert!(
            matches!(error, ImageError::TooManyPixels { .. } | ImageError::Unsupported { .. }),
            "`{name}`: {error}"
        );
    }
    let tight = Limits::default().max_bytes(1000);
    for name in PICTURES {
        let error = decode(&golden_bytes(name), &tight).unwrap_err();
        assert!(matches!(error, ImageError::TooManyBytes { .. }), "`{name}`: {error}");
    }
}

/// Strips may lie on top of each other, so that a small file holds any number of large ones.
#[test]
fn overlapping_strips_are_not_read_again_and_again() {
    const ROWS: u32 = 100_000;
    let data = vec![0u8; 200_000];
    let entries: [(u16, u16, u32, u32); 9] = [
        (256, 4, 1, 8),
        (257, 4, 1, ROWS),
        (258, 3, 1, 8),
        (259, 3, 1, 32773),
        (262, 3, 1, 1),
        (266, 3, 1, 2),
        (273, 4, ROWS, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
    ];
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 4]);
    let start = bytes.len() as u32 + 4 * ROWS;
    bytes.extend((0..ROWS).flat_map(|_| start.to_le_bytes()));
    bytes.extend(data);
    let error = decode(&bytes, &LIMITS).unwrap_err();
    assert!(matches!(error, ImageError::TooManyBytes { .. }), "{error}");
}

#[test]
fn every_truncated_jpeg_is_reported_as_such() {
    for name in ["baseline.jpg", "progressive_420.jpg", "cmyk.jpg"] {
        let bytes = golden_bytes(name);
        for length in (3..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let error = decode(&bytes[..length], &Limits::default()).unwrap_err();
            assert!(matches!(error, ImageError::Truncated { .. }), "`{name}` cut to {length}: {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_images_never_panic(
        name in proptest::sample::select(PICTURES.to_vec()),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        length in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = golden_bytes(name);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(length) = length {
            bytes.truncate(length.index(bytes.len()));
        }
        match decode(&bytes, &LIMITS) {
            Ok(image) => prop_assert_eq!(image.pixels().len(), image.width() * image.height() * 3),
            Err(error) => prop_assert!(!matches!(error, ImageError::Decoder { .. }), "{}", error),
        }
    }
}
