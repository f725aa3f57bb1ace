//! TIFF and BigTIFF: the first page, with Pillow's colors.
//!
//! TIFF is a family of formats: any number of samples of any type, in strips or tiles, in one of a dozen compressions.
//! The tags are read by [`directory`], and [`layout`] and [`chunks`] say what they mean together. Each strip or tile is
//! restored by [`codec`] and [`predictor`], its samples are put in their place by [`canvas`], and [`color`] makes them
//! RGB.
//!
//! What Pillow 13 reads is equal to it to the bit, with these deliberate differences: samples of 9 to 16 bits are
//! reduced to their high byte where Pillow clips gray at 255, and inverted where white is zero; where Pillow mixes up
//! bytes or planes (compressed big-endian samples of signed or real numbers; uncompressed planes of 16 bits, with reversed
//! bits, or in tiles with an alpha that is not declared; planes of Lab; tiles that were never written), they are read as
//! the standard says; planes are not divided by an alpha that is not declared, as they are not when interleaved; and an
//! image whose parts are missing is rejected.

mod canvas;
mod chunks;
mod codec;
mod color;
mod directory;
mod fault;
mod fax;
mod lab;
mod layout;
mod predictor;
mod rows;
mod samples;

use super::as_stored::AsStored;
use super::depth;
use super::jpeg;
use super::limits::Limits;
use super::options::DecodeOptions;
use super::orientation::Orientation;
use super::{ImageError, RgbImage};
use canvas::Canvas;
use codec::Compression;
use directory::{Directory, tag};
use fault::corrupt;
use layout::{Color, Layout};
use predictor::Predictor;
use rows::Rows;
use samples::Samples;

/// Decodes the first page; the orientation is yet to be applied.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<AsStored, ImageError> {
    let directory = Directory::read(bytes)?;
    let layout = Layout::read(&directory, &options.limits)?;
    let mut canvas = Canvas::new(&layout, &options.limits)?;
    let tables = directory.bytes(tag::JPEG_TABLES);
    for plane in 0..if layout.planar { layout.samples } else { 1 } {
        if !canvas.needs(plane) {
            continue;
        }
        for within in 0..layout.chunks.per_plane() {
            let index = plane * layout.chunks.per_plane() + within;
            let place = layout.chunks.place(within);
            if layout.compression == Compression::Jpeg {
                if let Some(data) = layout.chunks.bytes(index, bytes, None)? {
                    canvas.put_bytes(plane, place, &jpeg_samples(data, tables, &layout, place, &options.limits)?);
                }
            } else {
                let rows = canvas.rows(place);
                let raw = layout.compression == Compression::None;
                let length = raw.then_some(rows.stride * rows.count);
                if let Some(data) = layout.chunks.bytes(index, bytes, length)? {
                    canvas.put_rows(plane, place, &restored(data, &rows, &layout)?, rows.stride);
                }
            }
        }
    }
    let samples = canvas.finish();
    let (samples, note) = match samples {
        Samples::Bytes(bytes) => (bytes, None),
        Samples::Words(words) => depth::reduce(&words, layout.bits, options.sample_range),
    };
    let pixels = color::to_rgb(samples, &layout, &directory)?;
    let orientation = match directory.number(tag::ORIENTATION) {
        Ok(Some(value)) => Orientation::from_exif(value.try_into().unwrap_or(0)),
        _ => directory.bytes(tag::XMP).and_then(Orientation::from_xmp).unwrap_or_default(),
    };
    Ok(AsStored { image: RgbImage::new(layout.width, layout.height, pixels)?, orientation, note })
}

/// The rows of a strip or tile, with samples in little-endian order and without a predictor.
fn restored(data: &[u8], rows: &Rows, layout: &Layout) -> Result<Vec<u8>, ImageError> {
    let reversed: Vec<u8>;
    let data = match layout.reversed {
        true => {
            reversed = data.iter().map(|byte| byte.reverse_bits()).collect();
            &reversed
        }
        false => data,
    };
    let mut restored = codec::rows(layout.compression, data, rows)?;
    let size = layout.bits as usize / 8;
    let whole = matches!(layout.bits, 16 | 32 | 64);
    if whole && layout.big_endian && layout.predictor != Predictor::FloatingPoint {
        restored.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    if layout.predictor != Predictor::None {
        for row in restored.chunks_exact_mut(rows.stride) {
            layout.predictor.undo(row, layout.interleaved(), size);
        }
    }
    Ok(restored)
}

/// The samples of a strip or tile that is a JPEG file without its tables.
fn jpeg_samples(
    data: &[u8],
    tables: Option<&[u8]>,
    layout: &Layout,
    place: chunks::Place,
    limits: &Limits,
) -> Result<jpeg::Part, ImageError> {
    let colors = match layout.color {
        Color::YCbCr if !layout.planar => jpeg::Colors::Converted,
        _ => jpeg::Colors::AsStored,
    };
    // A last strip may be coded with as many rows as the others.
    let most = (layout.chunks.width, layout.chunks.height);
    let part = jpeg::decode_part(data, tables, colors, most, limits)?;
    if part.width != layout.chunks.width || part.height < place.height || part.components != layout.interleaved() {
        return Err(corrupt(format!(
            "a strip or tile of {} × {} with {} samples that holds a JPEG image of {} × {} with {}",
            layout.chunks.width,
            place.height,
            layout.interleaved(),
            part.width,
            part.height,
            part.components
        )));
    }
    Ok(part)
}
