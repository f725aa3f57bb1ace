//! The samples of the whole image, gathered from its strips or tiles.

use super::chunks::Place;
use super::codec::Compression;
use super::fault::corrupt;
use super::layout::Layout;
use super::rows::Rows;
use super::samples::{Row, Samples, Step};
use crate::image::jpeg::Part;
use crate::image::{Format, ImageError, Limits};

/// The RGB result, in addition to the samples.
const RESULT_BYTES: u64 = 3;

/// The samples that are used, pixel by pixel.
pub(super) struct Canvas<'a> {
    layout: &'a Layout,
    /// Which of a pixel's stored samples are used: its colors, then the alpha that they are to be divided by.
    used: Vec<usize>,
    step: Step,
    samples: Samples,
}

impl<'a> Canvas<'a> {
    /// Allocates the samples, if the limits allow it.
    pub(super) fn new(layout: &'a Layout, limits: &Limits) -> Result<Self, ImageError> {
        let mut used: Vec<usize> = (0..layout.color.samples()).collect();
        used.extend(layout.associated_alpha);
        let step = Step::of(layout);
        let size = if step == Step::Word { 2 } else { 1 };
        let held = (used.len() * size) as u64 + RESULT_BYTES;
        limits.check(Format::Tiff, layout.width, layout.height, held)?;
        check_work(layout, limits)?;
        let count = layout.width * layout.height * used.len();
        let samples = match step {
            Step::Word => Samples::Words(vec![0; count]),
            _ => Samples::Bytes(vec![0; count]),
        };
        Ok(Canvas { layout, used, step, samples })
    }

    /// Whether a plane holds samples that are used.
    pub(super) fn needs(&self, plane: usize) -> bool {
        !self.layout.planar || self.used.contains(&plane)
    }

    /// The rows that a strip or tile stores for its place.
    pub(super) fn rows(&self, place: Place) -> Rows {
        stored_rows(self.layout, place)
    }

    pub(super) fn put_rows(&mut self, plane: usize, place: Place, rows: &[u8], stride: usize) {
        let (across, down) = self.layout.subsampling;
        if (across, down) != (1, 1) {
            return self.put_subsampled(place, rows, stride);
        }
        let Layout { bits, kind, .. } = *self.layout;
        for (index, bytes) in rows.chunks_exact(stride).take(place.height).enumerate() {
            self.put_row(plane, place, index, Row { bytes, bits, kind });
        }
    }

    pub(super) fn put_bytes(&mut self, plane: usize, place: Place, part: &Part) {
        let stride = part.width * part.components;
        for (index, bytes) in part.samples.chunks_exact(stride).take(place.height).enumerate() {
            self.put_row(plane, place, index, Row { bytes, bits: 8, kind: self.layout.kind });
        }
    }

    fn put_row(&mut self, plane: usize, place: Place, index: usize, row: Row) {
        let Canvas { layout, used, step, samples } = self;
        let channels = used.len();
        let start = ((place.top + index) * layout.width + place.left) * channels;
        let end = start + place.width * channels;
        let stored = layout.interleaved();
        if let (Samples::Bytes(bytes), Step::Byte, false) = (&mut *samples, *step, layout.planar) {
            // The colors come first, so as many as are stored are all in order.
            if stored == channels {
                return bytes[start..end].copy_from_slice(&row.bytes[..end - start]);
            }
        }
        // Which channels the row has, and where in a stored pixel.
        let sources = used.iter().enumerate().filter(|(_, sample)| !layout.planar || **sample == plane);
        for (channel, &sample) in sources {
            let first = if layout.planar { 0 } else { sample };
            let at = |column: usize| column * stored + first;
            match samples {
                Samples::Bytes(bytes) => {
                    let channel = bytes[start..end].iter_mut().skip(channel).step_by(channels);
                    // Each kind has a loop of its own: there is one decision for a row, not for a sample.
                    match step {
                        Step::Byte => fill(channel, |column| row.bytes[at(column)]),
                        Step::Index => fill(channel, |column| row.index(at(column))),
                        Step::Scaled => fill(channel, |column| row.scaled(at(column))),
                        Step::Clipped => fill(channel, |column| row.clipped(at(column))),
                        Step::Word => unreachable!("kept in 16 bits"),
                    }
                }
                Samples::Words(words) => {
                    let channel = words[start..end].iter_mut().skip(channel).step_by(channels);
                    match layout.bits {
                        16 => fill(channel, |column| row.word(at(column))),
                        _ => fill(channel, |column| row.packed_word(at(column))),
                    }
                }
            }
        }
    }

    /// Units of several brightnesses and the two color differences that they share.
    fn put_subsampled(&mut self, place: Place, rows: &[u8], stride: usize) {
        let (across, down) = self.layout.subsampling;
        let width = self.layout.width;
        let Samples::Bytes(samples) = &mut self.samples else { unreachable!("YCbCr has 8 bits") };
        for row in 0..place.height {
            let units = &rows[row / down * stride..][..stride];
            let units: Vec<&[u8]> = units.chunks_exact(across * down + 2).collect();
            let start = ((place.top + row) * width + place.left) * 3;
            for (column, pixel) in samples[start..].chunks_exact_mut(3).take(place.width).enumerate() {
                let unit = units[column / across];
                let brightness = unit[row % down * across + column % across];
                pixel.copy_from_slice(&[brightness, unit[across * down], unit[across * down + 1]]);
            }
        }
    }

    pub(super) fn finish(self) -> Samples {
        self.samples
    }
}

/// Sets the samples of a row from the first column on.
fn fill<'a, T: 'a>(samples: impl Iterator<Item = &'a mut T>, sample: impl Fn(usize) -> T) {
    samples.enumerate().for_each(|(column, out)| *out = sample(column));
}

/// The rows that a strip or tile stores for its place, once [`check_work`] has passed.
pub(super) fn stored_rows(layout: &Layout, place: Place) -> Rows {
    let stride = stride(layout).expect("checked with the work");
    Rows { width: layout.chunks.width, stride, count: place.height.div_ceil(layout.subsampling.1) }
}

/// Bytes of a stored row of a strip or tile; with shared color differences, of a row of units.
fn stride(layout: &Layout) -> Option<usize> {
    let (across, down) = layout.subsampling;
    match (across, down) {
        (1, 1) => {
            let samples = layout.chunks.width.checked_mul(layout.interleaved())?;
            Some(samples.checked_mul(layout.bits as usize)?.div_ceil(8))
        }
        _ => layout.chunks.width.div_ceil(across).checked_mul(across * down + 2),
    }
}

/// What has been read of the compressed strips and tiles. Their places may overlap, so a small file can hold any number of
/// large ones.
pub(super) struct Reading {
    bytes: u64,
    limit: u64,
}

impl Reading {
    /// As much as may be decoded, and as much as the file has: without overlaps, more cannot be read.
    pub(super) fn of(file: &[u8], limits: &Limits) -> Self {
        Reading { bytes: 0, limit: limits.max_bytes.saturating_add(file.len() as u64) }
    }

    /// Counts a strip or tile.
    pub(super) fn add(&mut self, data: &[u8]) -> Result<(), ImageError> {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        if self.bytes > self.limit {
            let what = "reading the strips or tiles of a TIFF image, which overlap,".to_owned();
            return Err(ImageError::TooManyBytes { what, needed: self.bytes, limit: self.limit });
        }
        Ok(())
    }
}

/// Rejects strips and tiles that hold far more than the image: each costs time and memory, however little data it has.
pub(super) fn check_work(layout: &Layout, limits: &Limits) -> Result<(), ImageError> {
    let (width, height) = (layout.chunks.width, layout.chunks.height);
    let rows = match layout.compression {
        // A JPEG image is decoded whole.
        Compression::Jpeg => height,
        _ => height.min(layout.height),
    };
    let planes = if layout.planar { layout.samples } else { 1 };
    let bytes = stride(layout).and_then(|stride| stride.checked_mul(rows));
    let all = bytes.and_then(|bytes| bytes.checked_mul(layout.chunks.per_plane())?.checked_mul(planes));
    let Some(all) = all else { return Err(corrupt(format!("strips or tiles of {width} × {height}"))) };
    if all as u64 > limits.max_bytes {
        let what = format!("decoding a TIFF image in strips or tiles of {width} × {height}");
        return Err(ImageError::TooManyBytes { what, needed: all as u64, limit: limits.max_bytes });
    }
    Ok(())
}
