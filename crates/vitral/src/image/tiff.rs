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
mod planes;
mod predictor;
mod rows;
mod samples;

use super::as_stored::AsStored;
use super::depth::{self, Note};
use super::jpeg;
use super::limits::Limits;
use super::options::DecodeOptions;
use super::orientation::Orientation;
use super::{BandImage, ImageError, RgbImage};
use crate::config::Size;
use canvas::{Canvas, Reading, check_work, stored_rows};
use codec::Compression;
use directory::{Directory, tag};
use fault::corrupt;
use layout::{Color, Layout};
use planes::Planes;
use predictor::Predictor;
use rows::Rows;
use samples::Samples;

/// Decodes the first page; the orientation is yet to be applied.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<AsStored, ImageError> {
    let directory = Directory::read(bytes)?;
    let layout = Layout::read(&directory, &options.limits)?;
    let mut canvas = Canvas::new(&layout, &options.limits)?;
    let tables = shared_tables(&directory, &layout)?;
    let mut reading = Reading::of(bytes, &options.limits);
    for plane in 0..if layout.planar { layout.samples } else { 1 } {
        if !canvas.needs(plane) {
            continue;
        }
        for within in 0..layout.chunks.per_plane() {
            let index = plane * layout.chunks.per_plane() + within;
            let place = layout.chunks.place(within);
            if layout.compression == Compression::Jpeg {
                if let Some(data) = layout.chunks.bytes(index, bytes, None)? {
                    reading.add(data)?;
                    canvas.put_bytes(plane, place, &jpeg_samples(data, &tables, &layout, place, &options.limits)?);
                }
            } else {
                let rows = canvas.rows(place);
                let raw = layout.compression == Compression::None;
                let length = raw.then_some(rows.stride * rows.count);
                if let Some(data) = layout.chunks.bytes(index, bytes, length)? {
                    reading.add(data)?;
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
    let image = RgbImage::new(layout.width, layout.height, pixels)?;
    Ok(AsStored { image, orientation: orientation(&directory), note })
}

/// Decodes the bands of an image as they are stored; the orientation is yet to be applied. Bands are the samples of the first
/// page, interleaved or in planes, or else those of all pages of its size, as microscopes write them; reduced copies of a
/// page do not count.
pub(super) fn decode_bands(
    bytes: &[u8],
    bands: usize,
    options: &DecodeOptions,
) -> Result<(BandImage, Orientation, Option<Note>), ImageError> {
    let first = Directory::read(bytes)?;
    let layout = Layout::read_bands(&first, &options.limits)?;
    let orientation = orientation(&first);
    let mut pages = vec![(first, layout)];
    let mut found = pages[0].1.samples;
    while found < bands {
        let Some(next) = pages.last().and_then(|(directory, _)| directory.next()) else { break };
        let next = next?;
        if next.number(tag::NEW_SUBFILE_TYPE)?.is_some_and(|kind| kind & 1 == 1) {
            break;
        }
        let layout = Layout::read_bands(&next, &options.limits)?;
        if !planes::alike(&layout, &pages[0].1) {
            break;
        }
        found += layout.samples;
        pages.push((next, layout));
    }
    let found = match pages.len() {
        1 if found == bands => None,
        1 => Some(found.to_string()),
        pages if found != bands => Some(format!("{found}, in {pages} pages")),
        _ => continued(&pages)?.then(|| format!("more than {found}, in as many pages")),
    };
    if let Some(found) = found {
        return Err(ImageError::Bands { expected: bands, found });
    }
    // What is wrong with a page that is not used does not matter.
    let note = (pages.len() == 1 && continued(&pages).unwrap_or(false)).then_some(Note::FirstPage);
    let full = planes::full(&pages[0].1);
    let size = Size { height: pages[0].1.height, width: pages[0].1.width };
    let mut planes = Planes::new(&pages[0].1, bands, &options.limits)?;
    let mut reading = Reading::of(bytes, &options.limits);
    for (directory, layout) in &pages {
        check_work(layout, &options.limits)?;
        put_page(&mut planes, &mut reading, bytes, directory, layout, &options.limits)?;
        planes.end_page(layout);
    }
    Ok((BandImage::new(size, bands, planes.finish(), full)?, orientation, note))
}

/// Whether there is another page of the same kind.
fn continued(pages: &[(Directory, Layout)]) -> Result<bool, ImageError> {
    let Some(next) = pages.last().and_then(|(directory, _)| directory.next()) else { return Ok(false) };
    let next = next?;
    if next.number(tag::NEW_SUBFILE_TYPE)?.is_some_and(|kind| kind & 1 == 1) {
        return Ok(false);
    }
    // A page that is no image of bands is none of them.
    Ok(Layout::read_bands(&next, &Limits::DEFAULT).is_ok_and(|layout| planes::alike(&layout, &pages[0].1)))
}

/// Puts every strip and tile of a page in its place.
fn put_page(
    planes: &mut Planes,
    reading: &mut Reading,
    bytes: &[u8],
    directory: &Directory,
    layout: &Layout,
    limits: &Limits,
) -> Result<(), ImageError> {
    let tables = shared_tables(directory, layout)?;
    for plane in 0..if layout.planar { layout.samples } else { 1 } {
        for within in 0..layout.chunks.per_plane() {
            let index = plane * layout.chunks.per_plane() + within;
            let place = layout.chunks.place(within);
            if layout.compression == Compression::Jpeg {
                if let Some(data) = layout.chunks.bytes(index, bytes, None)? {
                    reading.add(data)?;
                    let part = jpeg_samples(data, &tables, layout, place, limits)?;
                    planes.put(layout, plane, place, &part.samples, part.width * part.components);
                }
                continue;
            }
            let rows = stored_rows(layout, place);
            let length = (layout.compression == Compression::None).then_some(rows.stride * rows.count);
            if let Some(data) = layout.chunks.bytes(index, bytes, length)? {
                reading.add(data)?;
                planes.put(layout, plane, place, &restored(data, &rows, layout)?, rows.stride);
            }
        }
    }
    Ok(())
}

/// How the image is to be turned.
fn orientation(directory: &Directory) -> Orientation {
    match directory.number(tag::ORIENTATION) {
        Ok(Some(value)) => Orientation::from_exif(value.try_into().unwrap_or(0)),
        _ => directory.bytes(tag::XMP).and_then(Orientation::from_xmp).unwrap_or_default(),
    }
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

/// The tables of an image whose strips or tiles are JPEG files without them.
fn shared_tables(directory: &Directory, layout: &Layout) -> Result<jpeg::Tables, ImageError> {
    let used = layout.compression == Compression::Jpeg;
    jpeg::shared_tables(directory.bytes(tag::JPEG_TABLES).filter(|_| used))
}

/// The samples of a strip or tile that is a JPEG file without its tables.
fn jpeg_samples(
    data: &[u8],
    tables: &jpeg::Tables,
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
