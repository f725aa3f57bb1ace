//! What can go wrong between a file and a tensor.

use std::path::PathBuf;

use crate::config::Size;

/// A fault in an image, or in a description of how images are prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be read.
    #[error("`{}`: the file could not be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A fault, with the file it stands in.
    #[error("`{}`: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: Box<ImageError>,
    },
    /// The bytes are of no known format.
    #[error(
        "expected an image (JPEG, PNG, WebP, GIF, BMP or TIFF), found {length} bytes that begin with [{start}]; \
         convert the file to one of these formats"
    )]
    UnknownFormat {
        /// How many bytes there are.
        length: usize,
        /// The first of them, in hexadecimal.
        start: String,
    },
    /// The bytes end before the image does.
    #[error("expected a whole {format} image, found its data cut off ({detail}); fetch the file again")]
    Truncated {
        /// The format.
        format: &'static str,
        /// Where.
        detail: String,
    },
    /// The bytes contradict their format.
    #[error("expected a valid {format} image, found a fault: {detail}; re-save or replace the file")]
    Corrupt {
        /// The format.
        format: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// The file is of a kind the decoder does not know.
    #[error("expected a {format} image of a common kind, found {detail}; re-save it as an ordinary {format} or PNG")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// What it uses.
        detail: String,
    },
    /// The header announces more pixels than allowed.
    #[error(
        "expected at most {limit} pixels, found a {format} header that announces {width} × {height}; \
         raise `Limits::max_pixels` if the file is trusted"
    )]
    TooManyPixels {
        /// The format.
        format: &'static str,
        /// Columns announced.
        width: usize,
        /// Rows announced.
        height: usize,
        /// The limit that was set.
        limit: u64,
    },
    /// The image would take more memory than allowed.
    #[error(
        "expected to need at most {limit} bytes, found that {what} needs about {needed}; \
         raise `Limits::max_bytes` if the file is trusted"
    )]
    TooManyBytes {
        /// What takes the memory.
        what: String,
        /// How much it takes.
        needed: u64,
        /// The limit that was set.
        limit: u64,
    },
    /// Pixels that do not fill the announced size.
    #[error(
        "expected {width} × {height} × 3 bytes of pixels and at least one pixel, found {found} bytes; \
         pass interleaved RGB of that size"
    )]
    PixelCount {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// How many bytes there were.
        found: usize,
    },
    /// An image so narrow that resizing its short side makes it enormous.
    #[error(
        "expected an image that stays under {limit} pixels, found that {from} becomes {to} after `{step}`; \
         crop the image first"
    )]
    Elongated {
        /// The size before.
        from: Size,
        /// The size after.
        to: String,
        /// The step that does so.
        step: String,
        /// The limit.
        limit: usize,
    },
    /// A buffer of another length than the tensor.
    #[error("expected a buffer of {expected} values for {shape}, found {found}; allocate it by `output_size`")]
    BufferLength {
        /// Values the tensor has.
        expected: usize,
        /// The tensor's shape.
        shape: String,
        /// Values the buffer has.
        found: usize,
    },
    /// A preprocessing file whose class is not known.
    #[error(
        "expected an image processor among {known}, found `{found}` in {place}; \
         preprocessing is never guessed: write the steps out as a Vitral `preprocess` instead"
    )]
    UnknownProcessor {
        /// The class that was named, or a word that it is absent.
        found: String,
        /// The file.
        place: &'static str,
        /// The classes that are known.
        known: String,
    },
    /// A value that is missing, of another type, or out of range.
    #[error("expected `{key}` in {place} to be {expected}, found {found}; correct the file")]
    Value {
        /// The file.
        place: &'static str,
        /// The key.
        key: String,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A step that the file asks for and that does not exist here.
    #[error(
        "expected only steps that are known in {place} ({known}), found `{key}` = {found}; \
         it changes what the model sees, so it is not skipped: remove it, or preprocess elsewhere"
    )]
    UnknownStep {
        /// The file.
        place: &'static str,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The steps that exist.
        known: String,
    },
    /// Our own description of preprocessing does not follow its form.
    #[error("expected `preprocess` as Vitral writes it, with `channels`, `steps`, `rescale` and `normalize`: {fault}")]
    OwnForm {
        /// What does not fit.
        fault: String,
    },
}
