//! Files that are no image that we read, but that people have under the name of one.

/// What a file is, in words, and what to do about it.
pub(super) struct Foreign {
    pub(super) found: &'static str,
    pub(super) advice: &'static str,
}

const CONVERT: &str = "convert it to PNG or JPEG";
const DOWNLOAD: &str = "download the image itself";
const UNPACK: &str = "unpack it first";
const OF_BANDS: &str = "the model takes color, and arrays are for models of bands (`--bands N` of `finetune`)";
const WEIGHTS: &str = "give a model's weights with `--model`; arrays are for models of bands";

/// Brands of the container that AVIF and HEIC share.
const AVIF: [&[u8; 4]; 2] = [b"avif", b"avis"];
const HEIC: [&[u8; 4]; 10] = [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"];

/// Names a file by its first bytes.
pub(super) fn of(bytes: &[u8]) -> Option<Foreign> {
    let (found, advice) = match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => (of_boxes(bytes), CONVERT),
        [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => ("a JPEG XL image", CONVERT),
        [0xFF, 0x4F, 0xFF, 0x51, ..] | [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => ("a JPEG 2000 image", CONVERT),
        [b'8', b'B', b'P', b'S', ..] => ("a Photoshop document (PSD)", CONVERT),
        [b'%', b'P', b'D', b'F', b'-', ..] => ("a PDF document", "convert its pages to PNG or JPEG"),
        [b'%', b'!', b'P', b'S', ..] => ("a PostScript document", "convert its pages to PNG or JPEG"),
        // A TGA image begins in the same way, but an icon says how many images it holds.
        [0, 0, 1 | 2, 0, 1..=64, 0, ..] => ("a Windows icon", CONVERT),
        [0, 0, 2 | 10, 0, 0, 0, 0, 0, ..] => ("a TGA image", CONVERT),
        [0x76, 0x2F, 0x31, 0x01, ..] => ("an OpenEXR image", CONVERT),
        [b'#', b'?', b'R', b'A', b'D', b'I', ..] => ("a Radiance HDR image", CONVERT),
        [b'q', b'o', b'i', b'f', ..] => ("a QOI image", CONVERT),
        [b'D', b'D', b'S', b' ', ..] => ("a DirectDraw surface (DDS)", CONVERT),
        [b'P', b'7', b'\n', ..] => ("a PAM image", CONVERT),
        [b'P', b'f' | b'F', b'\n', ..] => ("a PFM image", CONVERT),
        [b'S', b'I', b'M', b'P', b'L', b'E', ..] => ("a FITS image", CONVERT),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => ("a NumPy array", OF_BANDS),
        // The length of a header, and the header.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => ("a safetensors file", WEIGHTS),
        [b'P', b'K', 3, 4, ..] => ("a ZIP archive", UNPACK),
        [0x1F, 0x8B, ..] => ("a gzip archive", UNPACK),
        _ if bytes.get(128..132) == Some(b"DICM") => ("a DICOM image", CONVERT),
        _ => return of_text(bytes),
    };
    Some(Foreign { found, advice })
}

/// The first line of a text, or its beginning; `None` for what is no text.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    /// Characters shown at most.
    const SHOWN: usize = 60;
    let start = &bytes[..bytes.len().min(256)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut.
        Err(fault) if start.len() < bytes.len() && fault.error_len().is_none() => {
            std::str::from_utf8(&start[..fault.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
        return None;
    }
    let line = text.trim().lines().next()?;
    let shown: String = line.chars().take(SHOWN).collect();
    Some(if shown.len() < line.len() { format!("{shown}…") } else { shown })
}

/// The kind of a file whose first box lists what it is compatible with.
fn of_boxes(bytes: &[u8]) -> &'static str {
    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    let brands = bytes.get(8..length.clamp(8, 256).min(bytes.len())).unwrap_or_default();
    let has = |known: &[&[u8; 4]]| brands.chunks_exact(4).any(|brand| known.iter().any(|known| brand == *known));
    // An AVIF file is also compatible with the brands that HEIC uses.
    if has(&AVIF) {
        "an AVIF image"
    } else if has(&HEIC) {
        "a HEIC image"
    } else {
        "a video (MP4 or QuickTime)"
    }
}

fn of_text(bytes: &[u8]) -> Option<Foreign> {
    let start = &bytes[..bytes.len().min(1024)];
    let text = String::from_utf8_lossy(start).to_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let (found, advice) = if text.starts_with("version https://git-lfs") {
        ("a pointer of Git LFS", "run `git lfs pull` for the image itself")
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        ("a web page (HTML)", DOWNLOAD)
    } else if text.starts_with("<svg") || (text.starts_with('<') && text.contains("<svg")) {
        ("an SVG drawing", CONVERT)
    } else if text.starts_with("<?xml") {
        ("an XML document", DOWNLOAD)
    } else {
        return None;
    };
    Some(Foreign { found, advice })
}
