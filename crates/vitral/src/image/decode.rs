//! From bytes to upright RGB, like Pillow's `open`, `exif_transpose` and `convert("RGB")`.
//!
//! The format is recognized by content, never by name. Palettes are expanded, gray is replicated, alpha is dropped (not
//! blended), 16-bit samples are reduced to their high byte, CMYK and YCCK are converted to RGB with Pillow's formulas,
//! and the orientation of EXIF, or else of XMP, is applied. For animations, the first frame is used, and the first page
//! of a TIFF.
//!
//! One difference is deliberate: Pillow clips 16-bit gray to white above 255, which destroys the image; here it is
//! reduced to its high byte, like 16-bit color. If all samples are so small that the image is nearly black, the result
//! has a [`Note`], and [`SampleRange`](super::SampleRange) makes it visible.
//!
//! For models that take bands, [`decode_for`] gives the samples as they are stored: of TIFF and PNG, alpha among them, and of
//! arrays (`.npy`, `.npz`, `.safetensors`).

mod gif;
mod metadata;
mod pnm;
mod still;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::as_stored::AsStored;
use super::depth::Note;
use super::foreign;
use super::format::Format;
use super::limits::Limits;
use super::options::DecodeOptions;
use super::preprocess::Channels;
use super::{Image, ImageError, RgbImage, arrays, jpeg, tiff};

/// A decoded image, and what a user should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<I = RgbImage> {
    image: I,
    notes: Vec<Note>,
}

impl<I> Decoded<I> {
    /// The image, upright.
    pub fn image(&self) -> &I {
        &self.image
    }

    /// Takes the image.
    pub fn into_image(self) -> I {
        self.image
    }

    /// What a user should know about it; usually nothing.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

/// Decodes the bytes of an image file.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    decode_with(bytes, &DecodeOptions::default().limits(*limits)).map(Decoded::into_image)
}

/// Decodes the bytes of an image file, with options.
pub fn decode_with(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    let format = Format::of(bytes).ok_or_else(|| unknown(bytes))?;
    let stored = guarded(format, || stored(format, bytes, options))?;
    Ok(Decoded { image: stored.orientation.apply(stored.image), notes: stored.note.into_iter().collect() })
}

/// Decodes the bytes of an image file for a model that takes these channels: in color, or its bands as they are stored.
///
/// # Errors
/// If the bytes are not such an image, or have other bands.
pub fn decode_for(bytes: &[u8], channels: Channels, options: &DecodeOptions) -> Result<Decoded<Image>, ImageError> {
    let Channels::Bands(bands) = channels else {
        let Decoded { image, notes } = decode_with(bytes, options)?;
        return Ok(Decoded { image: image.into(), notes });
    };
    let mut notes = Vec::new();
    let image = match Format::of(bytes) {
        Some(format @ (Format::Tiff | Format::Png)) => guarded(format, || {
            let (image, orientation, note) = match format {
                Format::Tiff => tiff::decode_bands(bytes, bands, options)?,
                _ => still::png_bands(bytes, options).map(|(image, orientation)| (image, orientation, None))?,
            };
            notes.extend(note);
            Ok(Image::from(orientation.apply_to_bands(image).ranged(options.sample_range)))
        })?,
        Some(_) => decode_with(bytes, options)?.into_image().into(),
        None => match arrays::read(bytes, bands, &options.limits) {
            Some(image) => image?.ranged(options.sample_range).into(),
            None => return Err(unknown(bytes)),
        },
    };
    Ok(Decoded { image: image.for_channels(channels)?, notes })
}

/// Turns a decoder's panic into an error.
///
/// Decoders should not panic, and ours do not; but one of a thousand images must not end a run. The panic's message still
/// goes to standard error: only a hook for the whole process could keep it back, and that belongs to programs.
pub(super) fn guarded<T>(format: Format, decode: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(ImageError::Decoder { format: format.name(), detail: text.to_string() })
    })
}

fn stored(format: Format, bytes: &[u8], options: &DecodeOptions) -> Result<AsStored, ImageError> {
    match format {
        Format::Jpeg => jpeg::decode(bytes, &options.limits),
        Format::Gif => gif::decode(bytes, &options.limits),
        Format::Tiff => tiff::decode(bytes, options),
        Format::Pnm => pnm::decode(bytes, options),
        Format::Png | Format::WebP | Format::Bmp => still::decode(format, bytes, options),
    }
}

fn unknown(bytes: &[u8]) -> ImageError {
    if bytes.is_empty() {
        return ImageError::Empty;
    }
    if let Some(foreign) = foreign::of(bytes) {
        return ImageError::Foreign { found: foreign.found, advice: foreign.advice };
    }
    match foreign::text(bytes) {
        Some(start) => ImageError::Text { start },
        None => ImageError::UnknownFormat {
            length: bytes.len(),
            start: bytes.iter().take(8).map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" "),
        },
    }
}

/// Reads and decodes an image file. Errors name the file.
pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<RgbImage, ImageError> {
    open_with(path, &DecodeOptions::default().limits(*limits)).map(Decoded::into_image)
}

/// Reads and decodes an image file, with options. Errors name the file.
pub fn open_with(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Decoded, ImageError> {
    opened(path.as_ref(), options, |bytes| decode_with(bytes, options))
}

/// Reads an image file and decodes it for a model that takes these channels ([`decode_for`]). Errors name the file.
///
/// # Errors
/// If it cannot be read, is not an image, or has other bands.
pub fn open_for(
    path: impl AsRef<Path>,
    channels: Channels,
    options: &DecodeOptions,
) -> Result<Decoded<Image>, ImageError> {
    opened(path.as_ref(), options, |bytes| decode_for(bytes, channels, options))
}

pub(super) fn opened<T>(
    path: &Path,
    options: &DecodeOptions,
    decode: impl FnOnce(&[u8]) -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    let limit = options.limits.max_bytes;
    let read = |source| ImageError::Read { path: path.to_path_buf(), source };
    let within = |source| ImageError::InFile { path: path.to_path_buf(), source: Box::new(source) };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if length > limit {
        let what = "reading the file".to_string();
        return Err(within(ImageError::TooManyBytes { what, needed: length, limit }));
    }
    // A device or a pipe does not say how long it is.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > limit {
        let what = "reading the file".to_string();
        return Err(within(ImageError::TooManyBytes { what, needed: bytes.len() as u64, limit }));
    }
    decode(&bytes).map_err(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = guarded::<()>(Format::Bmp, || panic!("index {} is out of bounds", 7)).unwrap_err().to_string();
        assert!(error.contains("expected a BMP image") && error.contains("(index 7 is out of bounds)"), "{error}");
    }
}
