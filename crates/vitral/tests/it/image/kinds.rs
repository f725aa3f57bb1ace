//! TIFF in its many kinds, PNM, orientations in XMP, and files as people have them.

use std::collections::BTreeMap;
use std::io::Read;

use safetensors::SafeTensors;
use vitral::image::{DecodeOptions, ImageError, Limits, Note, SampleRange, decode, decode_with, open, open_with};

use super::{digest, golden, golden_bytes, golden_json};

/// The files of `kinds.safetensors.gz` by name.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&golden_bytes("kinds.safetensors.gz")[..]).read_to_end(&mut bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensors().into_iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect()
}

#[test]
fn every_kind_is_decoded_as_in_pillow_or_rejected_in_words() {
    let files = files();
    let expected = golden_json("kinds.json");
    assert_eq!(files.len(), expected.as_object().unwrap().len());
    let mut faults = Vec::new();
    for (name, bytes) in &files {
        match (decode(bytes, &Limits::default()), expected[name].as_str()) {
            (Ok(image), Some(expected)) if digest(&image) == expected => {}
            (Err(error), None) => {
                let line = error.to_string();
                assert!(
                    line.starts_with("expected ") && line.contains("found") && line.contains(';'),
                    "{name}: {line}"
                );
                assert!(!matches!(error, ImageError::Decoder { .. }), "{name}: {line}");
            }
            (found, _) => faults.push(format!("{name}: {:?}", found.map(|image| digest(&image)))),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_from_the_field_are_decoded_as_in_pillow() {
    for (name, expected) in super::golden_digests("field.json") {
        let image = open(golden("field").join(&name), &Limits::default()).unwrap();
        assert_eq!(digest(&image), expected, "`{name}`");
    }
}

#[test]
fn dark_images_have_a_note_and_a_range_that_makes_them_visible() {
    let path = golden("field").join("grey12in16.png");
    let brightest = |range: SampleRange| {
        let decoded = open_with(&path, &DecodeOptions::default().sample_range(range)).unwrap();
        (*decoded.image().pixels().iter().max().unwrap(), decoded.notes().to_vec())
    };
    assert_eq!(brightest(SampleRange::Full), (15, vec![Note::Dark { bits: 12 }]));
    assert_eq!(Note::Dark { bits: 12 }.to_string(), "16-bit samples stay below 4096, so the image is nearly black");
    let (stretched, notes) = brightest(SampleRange::Bits(12));
    assert!(stretched > 240 && notes.is_empty(), "{stretched}, {notes:?}");
    assert_eq!(brightest(SampleRange::Auto).0, stretched);
    let bright = open_with(golden("gray16.png"), &DecodeOptions::default()).unwrap();
    assert!(bright.notes().is_empty());
    // TIFF and PNM too.
    let files = files();
    for name in ["miniswhite_16.tif", "p5_65535.pgm", "p6_65535.ppm", "rgb16_lzw_separate_tiles_be.tif"] {
        let options = DecodeOptions::default().sample_range(SampleRange::Bits(10));
        let decoded = decode_with(&files[name], &options).unwrap();
        assert!(decoded.notes().is_empty(), "`{name}`");
        assert_ne!(decoded.into_image(), decode(&files[name], &Limits::default()).unwrap(), "`{name}`");
    }
}

#[test]
fn other_formats_are_named_with_advice() {
    let boxes = |brands: &[u8]| [&[0, 0, 0, 8 + brands.len() as u8][..], b"ftyp", brands, &[0; 40]].concat();
    let mut dicom = vec![0x20; 128];
    dicom.extend(b"DICM");
    for (bytes, name) in [
        (boxes(b"avif\0\0\0\0mif1avif"), "an AVIF image; convert it to PNG or JPEG"),
        (boxes(b"mif1\0\0\0\0heicavif"), "an AVIF image"),
        (boxes(b"heic\0\0\0\0mif1heic"), "a HEIC image; convert it to PNG or JPEG"),
        (boxes(b"isom\0\0\x02\0isom"), "a video (MP4 or QuickTime)"),
        (b"\xFF\x0A\xFA\x7F".to_vec(), "a JPEG XL image"),
        (b"\0\0\0\x0CJXL \r\n\x87\n".to_vec(), "a JPEG XL image"),
        (b"\0\0\0\x0CjP  \r\n\x87\n".to_vec(), "a JPEG 2000 image"),
        (b"\xFF\x4F\xFF\x51\0".to_vec(), "a JPEG 2000 image"),
        (b"8BPS\0\x01".to_vec(), "a Photoshop document (PSD)"),
        (b"%PDF-1.7".to_vec(), "a PDF document"),
        (b"<svg xmlns=\"\">".to_vec(), "an SVG drawing"),
        (b"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<!-- a --><SVG>".to_vec(), "an SVG drawing"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "a web page (HTML); download the image itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "a pointer of Git LFS; run `git lfs pull`"),
        (b"PK\x03\x04".to_vec(), "a ZIP archive"),
        (b"\x93NUMPY\x01\0".to_vec(), "a NumPy array; the model takes color, and arrays are for models of bands"),
        (b"\x10\x5C\0\0\0\0\0\0{\"a\":".to_vec(), "a safetensors file; give a model's weights with `--model`"),
        (b"c.jpg".to_vec(), "the text `c.jpg`; give the image itself"),
        ("é".repeat(200).into_bytes(), &format!("the text `{}…`", "é".repeat(60))),
        (b"c\x01.jpg".to_vec(), "6 bytes that begin with [63 01"),
        (dicom, "a DICOM image"),
        (Vec::new(), "an empty file"),
    ] {
        let error = decode(&bytes, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("found {name}")), "{error}");
    }
}

/// Small, so that nothing large is tried.
const LIMITS: Limits = Limits::DEFAULT.max_pixels(1 << 16).max_bytes(4 << 20);

#[test]
fn no_truncation_is_a_panic() {
    let files = files();
    for name in [
        "rgb8_lzw_contig_tiles_be.tif",
        "rgb8_zstd_separate_strips_le.tif",
        "assocalpha_deflate_contig_tiles_8.tif",
        "jpeg_ycbcr_22_tiles_False.tif",
        "fax_g3_2d_fill.tif",
        "fax_g4.tif",
        "fax_rle.tif",
        "ycbcr_42_deflate.tif",
        "bits_4_photometric_3.tif",
        "big_tiff.tif",
        "lab_raw.tif",
        "tiles_of_10_by_6.tif",
        "p3_7.ppm",
        "p1_dense.pbm",
    ] {
        let bytes = &files[name];
        for length in 0..bytes.len() {
            if let Err(error) = decode(&bytes[..length], &LIMITS) {
                assert!(!matches!(error, ImageError::Decoder { .. }), "`{name}` cut to {length}: {error}");
            }
        }
    }
}

/// Every file, with a few bytes changed: the tags and the data of all kinds.
#[test]
fn no_changed_byte_is_a_panic() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    for (name, bytes) in files() {
        for _ in 0..60 {
            let mut changed = bytes.clone();
            for _ in 0..1 + draw(4) {
                // Half of the changes are in the tags, where they do most.
                let reach = if draw(2) == 0 { bytes.len().min(300) } else { bytes.len() };
                let at = draw(reach);
                changed[at] = match draw(4) {
                    0 => 0,
                    1 => 0xFF,
                    2 => changed[at] ^ (1 << draw(8)),
                    _ => draw(256) as u8,
                };
            }
            match decode(&changed, &LIMITS) {
                Ok(image) => assert_eq!(image.pixels().len(), image.width() * image.height() * 3),
                Err(error) => assert!(!matches!(error, ImageError::Decoder { .. }), "`{name}`: {error}"),
            }
        }
    }
}
