//! Every format and kind of sample, compared with Pillow.

use safetensors::SafeTensors;
use vitral::image::{Limits, open};

use super::{digest, furthest, golden, golden_bytes, golden_digests};

#[test]
fn every_kind_of_file_decodes_as_in_pillow() {
    let bytes = golden_bytes("decoded.safetensors");
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in expected.tensors() {
        let image = open(golden(&name), &Limits::default()).unwrap();
        assert_eq!([image.height(), image.width(), 3], tensor.shape(), "`{name}`");
        let found = furthest(image.pixels(), tensor.data());
        assert_eq!(found, 0, "`{name}`: {found} levels from Pillow");
    }
}

#[test]
fn every_jpeg_matches_pillow_exactly() {
    for (name, expected) in golden_digests("jpeg.json") {
        let image = open(golden("jpeg").join(&name), &Limits::default()).unwrap();
        assert_eq!(digest(&image), expected, "`{name}`");
    }
}

#[test]
fn the_content_decides_the_format_and_the_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let png = folder.path().join("really_a.jpg");
    std::fs::copy(golden("rgb.png"), &png).unwrap();
    assert_eq!(
        open(&png, &Limits::default()).unwrap().size(),
        open(golden("rgb.png"), &Limits::default()).unwrap().size()
    );
    let text = folder.path().join("text.png");
    std::fs::write(&text, "not an image").unwrap();
    let error = open(&text, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("text.png") && error.contains("JPEG, PNG, WebP, GIF, BMP, TIFF or PNM"), "{error}");
    let error = open(folder.path().join("absent.png"), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("absent.png"), "{error}");
}
