//! A JPEG decoder that matches libjpeg-turbo's pixels (and so Pillow's) exactly.
//!
//! Checkpoints were trained on what Pillow decodes. One level more or less in a pixel is invisible, but it moves a
//! logit by some hundredths, and the standard leaves the rounding of the transform and the interpolation of chroma
//! open. So we implement the standard (ITU-T T.81) with libjpeg's choices wherever there is one: its integer transform
//! ([`transform`]), its triangle filters for subsampled chroma ([`upsample`]), its fixed-point colors ([`color`]), and
//! its tolerance of damaged data ([`entropy`]).
//!
//! Sequential and progressive Huffman files with 8 bits are supported; arithmetic coding, lossless, hierarchical and
//! 12-bit files are rejected with a specific error. A file without an end marker is truncated, and is rejected like in
//! Pillow.

mod color;
mod entropy;
mod fault;
mod frame;
mod huffman;
mod kernels;
mod markers;
mod notes;
mod output;
mod progressive;
mod scan;
mod sequential;
mod standard_tables;
mod stored;
mod tables;
mod transform;
mod upsample;

pub(super) use color::light;

use super::as_stored::AsStored;
use super::limits::Limits;
use super::orientation::Orientation;
use super::{ImageError, RgbImage};
use color::Model;
use fault::{corrupt, unsupported};
use frame::Frame;
use markers::next_segment;
use notes::Notes;
use scan::Scan;
use stored::Stored;
pub(super) use tables::Tables;

/// More scans than any encoder writes; each costs time, however little data it has.
const MOST_SCANS: usize = 256;

/// How much of the image has been decoded.
enum Progress {
    /// No scan yet.
    Nothing,
    /// One scan held every component: its rows were finished while it was read.
    Finished(Vec<u8>),
    /// Scans that each add to the coefficients.
    Gathering(Stored),
}

/// Decodes a file that begins with the JPEG signature; the orientation is yet to be applied.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<AsStored, ImageError> {
    let Decoded { frame, samples, notes } = decode_samples(bytes, Tables::default(), None, limits)?;
    let image = RgbImage::new(frame.width, frame.height, samples)?;
    let from_xmp = || notes.xmp.and_then(Orientation::from_xmp);
    Ok(AsStored { image, orientation: notes.orientation.or_else(from_xmp).unwrap_or_default(), note: None })
}

/// The colors of a part of another file.
#[derive(Clone, Copy)]
pub(super) enum Colors {
    /// YCbCr, converted to RGB.
    Converted,
    /// Components as they are coded.
    AsStored,
}

/// A part of another file: a strip or tile of a TIFF.
pub(super) struct Part {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
    /// Component by component of each pixel.
    pub(super) samples: Vec<u8>,
}

/// The tables that a file keeps in one place for all its parts.
pub(super) fn shared_tables(bytes: Option<&[u8]>) -> Result<Tables, ImageError> {
    let mut tables = Tables::default();
    let mut at = 2;
    while let Some(segment) = bytes.and_then(|bytes| next_segment(bytes, at).ok()) {
        at = segment.end;
        match segment.marker {
            0xC4 => tables.read_codes(segment.payload)?,
            0xDB => tables.read_quantization(segment.payload)?,
            0xDD => tables.read_restart_interval(segment.payload)?,
            0xD9 => break,
            _ => {}
        }
    }
    Ok(tables)
}

/// Decodes a part of another file; it must not be larger than `most`, width before height.
pub(super) fn decode_part(
    bytes: &[u8],
    shared_tables: &Tables,
    colors: Colors,
    most: (usize, usize),
    limits: &Limits,
) -> Result<Part, ImageError> {
    let pixels = most.0.saturating_mul(most.1);
    let limits = limits.max_pixels(limits.max_pixels.min(pixels as u64));
    // libjpeg supplies a missing end marker, which libtiff relies on.
    let ended = [bytes, &[0xFF, 0xD9]].concat();
    let model = match colors {
        Colors::Converted => Model::YCbCr,
        Colors::AsStored => Model::AsStored,
    };
    let larger = |error| match error {
        ImageError::TooManyPixels { width, height, .. } => {
            corrupt(format!("a part of {width} × {height} for a strip or tile of {} × {}", most.0, most.1))
        }
        other => other,
    };
    let Decoded { frame, samples, .. } =
        decode_samples(&ended, shared_tables.clone(), Some(model), &limits).map_err(larger)?;
    Ok(Part { width: frame.width, height: frame.height, components: frame.components.len(), samples })
}

/// A decoded file.
struct Decoded<'a> {
    frame: Frame,
    samples: Vec<u8>,
    notes: Notes<'a>,
}

/// Decodes with the tables known so far; without a color model, the file decides.
fn decode_samples<'a>(
    bytes: &'a [u8],
    mut tables: Tables,
    model: Option<Model>,
    limits: &Limits,
) -> Result<Decoded<'a>, ImageError> {
    let mut notes = Notes::default();
    let mut frame: Option<Frame> = None;
    let mut progress = Progress::Nothing;
    let mut scans = 0;
    let mut at = 2;
    loop {
        let segment = match next_segment(bytes, at) {
            // The image is complete, so what follows it need not be valid.
            Err(_) if matches!(progress, Progress::Finished(_)) => break,
            segment => segment?,
        };
        at = segment.end;
        match segment.marker {
            0xC4 => tables.read_codes(segment.payload)?,
            0xDB => tables.read_quantization(segment.payload)?,
            0xDD => tables.read_restart_interval(segment.payload)?,
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF if frame.is_some() => {
                return Err(corrupt("two frame headers"));
            }
            0xC0..=0xC2 => frame = Some(Frame::read(&segment, limits)?),
            0xC3 | 0xC7 | 0xCB | 0xCF => return Err(unsupported("lossless coding")),
            0xC5 | 0xC6 | 0xCD | 0xCE => return Err(unsupported("hierarchical coding")),
            0xC9 | 0xCA => return Err(unsupported("arithmetic coding")),
            0xDA => {
                let frame = frame.as_mut().ok_or_else(|| corrupt("a scan before any frame header"))?;
                let scan = Scan::read(segment.payload, frame)?;
                scans += 1;
                if scans > MOST_SCANS {
                    return Err(unsupported(format!("more than {MOST_SCANS} scans")));
                }
                if scans == 1 {
                    frame.choose_model(model, &notes)?;
                    if !frame.progressive {
                        // Motion JPEG omits the standard codes.
                        tables.fill_in_standard_codes();
                    }
                }
                scan.latch_quantization(frame, &tables)?;
                at = match &mut progress {
                    Progress::Nothing if scan.holds_all(frame) => {
                        let (pixels, end) = sequential::decode(bytes, at, frame, &scan, &tables)?;
                        progress = Progress::Finished(pixels);
                        end
                    }
                    Progress::Nothing => {
                        let mut stored = Stored::new(frame, limits)?;
                        let end = stored.add(bytes, at, frame, &scan, &tables)?;
                        progress = Progress::Gathering(stored);
                        end
                    }
                    Progress::Gathering(stored) => stored.add(bytes, at, frame, &scan, &tables)?,
                    Progress::Finished(_) => return Err(corrupt("a scan after one that held every component")),
                };
            }
            0xD9 => break,
            _ => notes.read(&segment),
        }
    }
    let Some(frame) = frame else { return Err(corrupt("an end before any frame header")) };
    let samples = match progress {
        Progress::Nothing => return Err(corrupt("an end before any scan")),
        Progress::Finished(samples) => samples,
        Progress::Gathering(stored) => stored.finish(&frame),
    };
    Ok(Decoded { frame, samples, notes })
}
