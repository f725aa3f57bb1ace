//! Errors on the way from a file to a tensor.

use std::path::PathBuf;

use crate::config::Size;

/// An error in an image, or in a preprocessing description.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be read.
    #[error("`{}`: cannot read the file: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// An error, with the file it is in.
    #[error("`{}`: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The error.
        source: Box<ImageError>,
    },
    /// The file has no bytes.
    #[error("expected an image, found an empty file; fetch or save it again")]
    Empty,
    /// A file of another kind, which is recognized.
    #[error("expected an image (JPEG, PNG, WebP, GIF, BMP, TIFF or PNM), found {found}; {advice}")]
    Foreign {
        /// What it is.
        found: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// A text, such as the name of an image in its place.
    #[error(
        "expected an image (JPEG, PNG, WebP, GIF, BMP, TIFF or PNM), found the text `{start}`; give the image itself"
    )]
    Text {
        /// Its first line, or the beginning of that.
        start: String,
    },
    /// The format is not recognized.
    #[error(
        "expected an image (JPEG, PNG, WebP, GIF, BMP, TIFF or PNM), found {length} bytes that begin with [{start}]; \
         convert the file to one of these formats"
    )]
    UnknownFormat {
        /// Number of bytes.
        length: usize,
        /// The first bytes, in hexadecimal.
        start: String,
    },
    /// The file ends before the image does.
    #[error("expected a complete {format} image, found truncated data ({detail}); fetch the file again")]
    Truncated {
        /// The format.
        format: &'static str,
        /// Where it ends.
        detail: String,
    },
    /// The file is invalid.
    #[error("expected a valid {format} image, found an error: {detail}; re-save or replace the file")]
    Corrupt {
        /// The format.
        format: &'static str,
        /// The decoder's message.
        detail: String,
    },
    /// The file uses a feature that the decoder does not support.
    #[error("expected a common kind of {format} image, found {detail}; re-save it as an ordinary {format} or PNG")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// The unsupported feature.
        detail: String,
    },
    /// The decoder failed in a way that it does not report: a mistake of its own.
    #[error(
        "expected a {format} image that the decoder can handle, found one that makes it fail ({detail}); \
         re-save the image, and please report the file"
    )]
    Decoder {
        /// The format.
        format: &'static str,
        /// How it failed.
        detail: String,
    },
    /// The header declares more pixels than allowed.
    #[error(
        "expected at most {limit} pixels, found a {format} header that declares {width} × {height}; \
         raise `Limits::max_pixels` if the file is trusted"
    )]
    TooManyPixels {
        /// The format.
        format: &'static str,
        /// Declared width.
        width: usize,
        /// Declared height.
        height: usize,
        /// The configured limit.
        limit: u64,
    },
    /// The image would need more memory than allowed.
    #[error(
        "expected to need at most {limit} bytes, found that {what} needs about {needed}; \
         raise `Limits::max_bytes` if the file is trusted"
    )]
    TooManyBytes {
        /// What needs the memory.
        what: String,
        /// How much it needs.
        needed: u64,
        /// The configured limit.
        limit: u64,
    },
    /// The pixels do not match the given size.
    #[error(
        "expected {width} × {height} × 3 bytes of pixels and at least one pixel, found {found} bytes; \
         pass interleaved RGB of that size"
    )]
    PixelCount {
        /// Width.
        width: usize,
        /// Height.
        height: usize,
        /// Number of bytes.
        found: usize,
    },
    /// The values do not match the given size and number of bands.
    #[error(
        "expected {bands} bands of {size} values each, and from 1 to {most} bands, found {found} values; pass [bands, height, \
         width]"
    )]
    BandValues {
        /// Number of bands.
        bands: usize,
        /// The most bands that there may be.
        most: usize,
        /// Height and width.
        size: Size,
        /// Number of values.
        found: usize,
    },
    /// A sample that is no number, as some files mark what was not measured.
    #[error(
        "expected numbers in all bands, found {found} in band {band} at row {row}, column {column}; fill in what was not \
         measured (nodata) first"
    )]
    NotFinite {
        /// The band, from 1.
        band: usize,
        /// The row, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
        /// Infinity, or not a number.
        found: f32,
    },
    /// The image has other bands than the model takes.
    #[error(
        "expected an image of {expected} bands, as the model takes or `--bands` says, found {found}; give the image all of \
         them and no others"
    )]
    Bands {
        /// What the model takes.
        expected: usize,
        /// What the image has, in words.
        found: String,
    },
    /// An image of bands for a model that takes color.
    #[error(
        "expected an image in color or gray, found {bands} bands without colors; images of bands are for models of as many \
         bands, and for `--bands {bands}` of `finetune` and `statistics`"
    )]
    NotColor {
        /// The number of bands.
        bands: usize,
    },
    /// An image that is not a mask.
    #[error(
        "expected a mask with the number of a class for each pixel (a gray PNG or one with a palette, or a TIFF or an array \
         of one band), found {found}; turn colors into numbers first, and store them without loss"
    )]
    Mask {
        /// What it is.
        found: String,
    },
    /// A band that the image does not have.
    #[error("expected a band from 1 to {bands} to show, found {band}")]
    NoSuchBand {
        /// The band, from 1.
        band: usize,
        /// The number of bands.
        bands: usize,
    },
    /// An array that is not an image in color.
    #[error(
        "expected pixels [height, width, 3] of type uint8, which the model takes, found {shape:?}{}",
        if *bytes { "" } else { " of another type" }
    )]
    ArrayPixels {
        /// The array's shape.
        shape: Vec<usize>,
        /// Whether its values are bytes.
        bytes: bool,
    },
    /// An array that can be an image in two ways, or in none.
    #[error("expected an array [height, width, {bands}] or [{bands}, height, width], found {shape:?}{why}")]
    ArrayShape {
        /// The bands that the model takes.
        bands: usize,
        /// The shape of the array.
        shape: Vec<usize>,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// An array that is not the samples of one image.
    #[error(
        "expected one array of bytes, of integers of 16 bits or of real numbers, found {found}; save the image alone, as \
         uint16 or float32"
    )]
    ArrayValues {
        /// What it is.
        found: String,
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
        /// The step that caused it.
        step: String,
        /// The limit.
        limit: usize,
    },
    /// The buffer's length differs from the tensor's.
    #[error("expected a buffer of {expected} values for {shape}, found {found}; allocate it by `output_size`")]
    BufferLength {
        /// Number of values in the tensor.
        expected: usize,
        /// The tensor's shape.
        shape: String,
        /// Number of values in the buffer.
        found: usize,
    },
    /// A preprocessing file with an unknown processor class.
    #[error(
        "expected an image processor among {known}, found `{found}` in {place}; \
         preprocessing is never guessed: write the steps out as a Vitral `preprocess` instead"
    )]
    UnknownProcessor {
        /// The class that was found, or a note that there is none.
        found: String,
        /// The file.
        place: &'static str,
        /// The known classes.
        known: String,
    },
    /// A value that is missing, of another type, or out of range.
    #[error("expected `{key}` in {place} to be {expected}, found {found}; correct the file")]
    Value {
        /// The file.
        place: &'static str,
        /// The key.
        key: String,
        /// The expected value.
        expected: String,
        /// The actual value.
        found: String,
    },
    /// The file requests a step that is not supported.
    #[error(
        "expected only known steps in {place} ({known}), found `{key}` = {found}; \
         skipping it would change the model's input: remove it, or preprocess elsewhere"
    )]
    UnknownStep {
        /// The file.
        place: &'static str,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The supported steps.
        known: String,
    },
    /// Preprocessing that Hugging Face's processors on torchvision do not do.
    #[error(
        "expected steps of a Hugging Face processor on torchvision, found {found}; leave out the backend `torchvision`, which \
         is for Hugging Face's models"
    )]
    Backend {
        /// What it has no form of.
        found: String,
    },
    /// Our own preprocessing description is malformed.
    #[error("expected `preprocess` in Vitral's format, with `channels`, `steps`, `rescale` and `normalize`: {fault}")]
    OwnForm {
        /// What is wrong.
        fault: String,
    },
}
