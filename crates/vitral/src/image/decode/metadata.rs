//! The orientation in the metadata of PNG and WebP files.

use std::borrow::Cow;
use std::io::Read;

use crate::image::orientation::Orientation;

/// Compressed texts longer than this are ignored; Pillow rejects the file.
const LONGEST_TEXT: u64 = 1 << 20;

/// The key of XMP in the texts of a PNG file, and that of EXIF before PNG had a chunk for it.
const XMP: &[u8] = b"XML:com.adobe.xmp";
const RAW_EXIF: &[u8] = b"Raw profile type exif";

/// Where an orientation may be.
#[derive(Default)]
struct Metadata<'a> {
    exif: Option<Cow<'a, [u8]>>,
    xmp: Option<Cow<'a, [u8]>>,
}

impl Metadata<'_> {
    /// EXIF counts first; XMP counts if EXIF has no orientation, as in Pillow.
    fn orientation(&self) -> Orientation {
        let exif = self.exif.as_deref().and_then(Orientation::from_tiff);
        exif.or_else(|| self.xmp.as_deref().and_then(Orientation::from_xmp)).unwrap_or_default()
    }
}

/// The orientation of a PNG file.
pub(super) fn of_png(bytes: &[u8]) -> Orientation {
    let mut metadata = Metadata::default();
    let mut raw_exif = None;
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(data) = after.get(..length) else { break };
        rest = after.get(length.saturating_add(4)..).unwrap_or_default();
        match &head[4..] {
            b"eXIf" => metadata.exif = Some(Cow::Borrowed(data)),
            kind @ (b"iTXt" | b"tEXt" | b"zTXt") => match text(kind, data) {
                Some((XMP, text)) => metadata.xmp = Some(text),
                Some((RAW_EXIF, text)) => raw_exif = from_hexadecimal(&text),
                _ => {}
            },
            _ => {}
        }
    }
    metadata.exif = metadata.exif.or(raw_exif.map(Cow::Owned));
    metadata.orientation()
}

/// The orientation of a WebP file.
pub(super) fn of_webp(bytes: &[u8]) -> Orientation {
    let mut metadata = Metadata::default();
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(data) = after.get(..length) else { break };
        rest = after.get(length.next_multiple_of(2)..).unwrap_or_default();
        match &head[..4] {
            b"EXIF" => metadata.exif = Some(Cow::Borrowed(data)),
            b"XMP " => metadata.xmp = Some(Cow::Borrowed(data)),
            _ => {}
        }
    }
    metadata.orientation()
}

/// The key and the text of a PNG chunk.
fn text<'a>(kind: &[u8], data: &'a [u8]) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    let (key, rest) = split_at_zero(data)?;
    if key != XMP && key != RAW_EXIF {
        return None;
    }
    let (compressed, text) = match kind {
        b"tEXt" => (false, rest),
        b"zTXt" => (true, rest.get(1..)?),
        _ => {
            let (_language, after) = split_at_zero(rest.get(2..)?)?;
            (rest[0] != 0, split_at_zero(after)?.1)
        }
    };
    if !compressed {
        return Some((key, Cow::Borrowed(text)));
    }
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(text).take(LONGEST_TEXT).read_to_end(&mut out).ok()?;
    Some((key, Cow::Owned(out)))
}

fn split_at_zero(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = data.iter().position(|&byte| byte == 0)?;
    Some((&data[..end], &data[end + 1..]))
}

/// Bytes that are written as hexadecimal digits, after three lines of other things.
fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|&byte| byte == b'\n').skip(3);
    let digits: Option<Vec<u8>> = lines
        .flatten()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
