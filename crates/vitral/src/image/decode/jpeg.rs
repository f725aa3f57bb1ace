//! JPEG, with the colour decisions of libjpeg and Pillow.
//!
//! The entropy decoding and the transforms are `zune-jpeg`'s. The header is read here as well: sizes are held against
//! the limits before the decoder starts, the colour model is chosen as libjpeg chooses it, inks are converted as
//! Pillow converts them, and a file that ends too soon is an error instead of a grey area.
//!
//! Against libjpeg, luma is at most one level away, in 0.5 % of the pixels. Chroma that is halved both ways (4:2:0) is
//! interpolated with two roundings instead of one: up to two levels of Cb and Cr, four of RGB, 0.1 to 0.3 on average.

mod colour;

use std::io::Cursor;

use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use colour::Model;

use super::orientation::Orientation;
use super::{Format, ImageError, Limits, RgbImage};

/// Progressive files keep every coefficient (2 bytes, rounded up to blocks) besides the samples and the pixels.
const BYTES_PER_PIXEL: u64 = 3 + 4 * 4;

/// What the segments before the first scan say.
#[derive(Default)]
struct Header {
    width: usize,
    height: usize,
    /// The components' names.
    components: Vec<u8>,
    /// Baseline or extended, not progressive.
    sequential: bool,
    /// Some component has more rows than another.
    subsampled_rows: bool,
    jfif: bool,
    adobe_transform: Option<u8>,
    /// Where the Adobe segment's transform byte stands.
    adobe_transform_at: usize,
    orientation: Option<Orientation>,
}

impl Header {
    /// The model, by the rules of libjpeg's `default_decompress_parms`.
    fn model(&self) -> Result<Model, ImageError> {
        match (self.components.as_slice(), self.adobe_transform) {
            ([_], _) => Ok(Model::Grey),
            ([_, _, _], _) if self.jfif => Ok(Model::YCbCr),
            ([_, _, _], Some(0)) => Ok(Model::Rgb),
            ([_, _, _], Some(_)) => Ok(Model::YCbCr),
            ([b'R', b'G', b'B'], None) => Ok(Model::Rgb),
            ([_, _, _], None) => Ok(Model::YCbCr),
            ([_, _, _, _], Some(2)) => Ok(Model::Ycck),
            ([_, _, _, _], _) => Ok(Model::Cmyk),
            (other, _) => Err(unsupported(format!("{} colour components", other.len()))),
        }
    }

    /// Whether the components come in separate baseline scans with vertical subsampling: `zune-jpeg` 0.5 leaves
    /// stripes there.
    fn needs_patient_decoder(&self, bytes: &[u8], scan: usize) -> bool {
        let in_first_scan = bytes.get(scan + 4).copied().unwrap_or(0);
        self.sequential && self.subsampled_rows && usize::from(in_first_scan) < self.components.len()
    }
}

fn corrupt(detail: impl ToString) -> ImageError {
    ImageError::Corrupt { format: Format::Jpeg.name(), detail: detail.to_string() }
}

fn truncated(detail: impl ToString) -> ImageError {
    ImageError::Truncated { format: Format::Jpeg.name(), detail: detail.to_string() }
}

fn unsupported(detail: impl ToString) -> ImageError {
    ImageError::Unsupported { format: Format::Jpeg.name(), detail: detail.to_string() }
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<(RgbImage, Orientation), ImageError> {
    let (header, scan) = read_header(bytes)?;
    limits.check(Format::Jpeg, header.width, header.height, BYTES_PER_PIXEL)?;
    check_end(bytes, scan)?;
    let model = header.model()?;
    let pixels = if header.needs_patient_decoder(bytes, scan) {
        patient_pixels(bytes, model)?
    } else {
        let samples = match model {
            Model::Grey => samples(bytes, ColorSpace::Luma, &header)?,
            // Converted by the decoder, block by block while they are in the cache.
            Model::YCbCr => samples(bytes, ColorSpace::RGB, &header)?,
            Model::Cmyk => samples(bytes, ColorSpace::CMYK, &header)?,
            Model::Ycck => samples(bytes, ColorSpace::YCCK, &header)?,
            Model::Rgb if header.components == *b"RGB" => samples(bytes, ColorSpace::RGB, &header)?,
            // The decoder takes three components with an Adobe transform of 0 for ink; told that they are YCbCr and
            // asked for YCbCr, it hands them over as they are.
            Model::Rgb => {
                let mut patched = bytes.to_vec();
                patched[header.adobe_transform_at] = 1;
                samples(&patched, ColorSpace::YCbCr, &header)?
            }
        };
        colour::to_rgb(model, samples)
    };
    let image = RgbImage::new(header.width, header.height, pixels)
        .map_err(|_| corrupt(format!("pixels that do not fill {} × {}", header.width, header.height)))?;
    Ok((image, header.orientation.unwrap_or_default()))
}

/// The decoder for the one kind of file that `zune-jpeg` gets wrong.
fn patient_pixels(bytes: &[u8], model: Model) -> Result<Vec<u8>, ImageError> {
    if model != Model::YCbCr {
        return Err(unsupported(format!("separate scans of subsampled {model:?} components")));
    }
    jpeg_decoder::Decoder::new(Cursor::new(bytes)).decode().map_err(|error| match error {
        jpeg_decoder::Error::Unsupported(what) => unsupported(format!("{what:?}")),
        other => corrupt(other),
    })
}

/// Runs the decoder.
fn samples(bytes: &[u8], out: ColorSpace, header: &Header) -> Result<Vec<u8>, ImageError> {
    let options = DecoderOptions::default()
        .set_max_width(header.width)
        .set_max_height(header.height)
        .jpeg_set_out_colorspace(out)
        .set_strict_mode(false);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    let fault = |error: zune_jpeg::errors::DecodeErrors| match error {
        zune_jpeg::errors::DecodeErrors::Unsupported(what) => unsupported(format!("{what:?}")),
        other => corrupt(other),
    };
    decoder.decode_headers().map_err(fault)?;
    if decoder.dimensions() != Some((header.width, header.height)) {
        return Err(corrupt("two frame headers that disagree"));
    }
    decoder.decode().map_err(fault)
}

/// Reads the segments up to the first scan; returns them with the place of that scan's segment.
fn read_header(bytes: &[u8]) -> Result<(Header, usize), ImageError> {
    let mut header = Header::default();
    let mut at = 2;
    loop {
        let (marker, start, payload) = segment(bytes, at)?;
        match marker {
            0xDA if header.components.is_empty() => return Err(corrupt("a scan before any frame header")),
            0xDA => return Ok((header, start)),
            0xD9 => return Err(corrupt("an end before any scan")),
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF if payload.len() >= 6 => {
                header.height = usize::from(u16::from_be_bytes([payload[1], payload[2]]));
                header.width = usize::from(u16::from_be_bytes([payload[3], payload[4]]));
                header.sequential = marker <= 0xC1;
                let rows = |component: &[u8]| component[1] & 15;
                header.subsampled_rows = payload[6..].chunks_exact(3).any(|component| rows(component) > 1);
                header.components = payload[6..].chunks_exact(3).map(|component| component[0]).collect();
            }
            0xE0 if payload.starts_with(b"JFIF\0") => header.jfif = true,
            0xE1 if payload.starts_with(b"Exif\0\0") && header.orientation.is_none() => {
                header.orientation = Orientation::from_tiff(&payload[6..]);
            }
            0xEE if payload.len() >= 12 && payload.starts_with(b"Adobe") => {
                header.adobe_transform = Some(payload[11]);
                header.adobe_transform_at = start + 4 + 11;
            }
            _ => {}
        }
        at = start + 4 + payload.len();
    }
}

/// The next marker from `at` on, where it stands, and its payload. Bytes between segments are skipped, as libjpeg does.
fn segment(bytes: &[u8], mut at: usize) -> Result<(u8, usize, &[u8]), ImageError> {
    let cut = || truncated("within the headers");
    loop {
        let (first, second) = (*bytes.get(at).ok_or_else(cut)?, *bytes.get(at + 1).ok_or_else(cut)?);
        match (first, second) {
            (0xFF, 0xFF | 0x00) => at += 1,
            (0xFF, 0xD9) => return Ok((0xD9, at, &[])),
            (0xFF, 0xD0..=0xD8 | 0x01) => at += 2,
            (0xFF, marker) => {
                let length = bytes.get(at + 2..at + 4).ok_or_else(cut)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if length < 2 {
                    return Err(corrupt(format!("segment FF{marker:02X} with a length of {length}")));
                }
                let payload = bytes.get(at + 4..at + 2 + length).ok_or_else(cut)?;
                return Ok((marker, at, payload));
            }
            _ => at += 1,
        }
    }
}

/// Walks the scans to the end marker: a picture without one is cut off, and Pillow refuses it too.
fn check_end(bytes: &[u8], scan: usize) -> Result<(), ImageError> {
    let mut at = scan;
    loop {
        let (marker, start, payload) = segment(bytes, at).map_err(|error| match error {
            ImageError::Truncated { .. } => truncated("no end marker"),
            other => other,
        })?;
        if marker == 0xD9 {
            return Ok(());
        }
        at = start + 4 + payload.len();
    }
}
