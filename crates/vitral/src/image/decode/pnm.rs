//! PBM, PGM and PPM (`P1` to `P6`), with Pillow's rounding.

use crate::image::as_stored::AsStored;
use crate::image::depth::{self, SampleRange};
use crate::image::options::DecodeOptions;
use crate::image::orientation::Orientation;
use crate::image::{Format, ImageError, RgbImage};

/// A sample in 16 bits for each of three channels, and the result.
const BYTES_PER_PIXEL: u64 = 3 * 2 + 3;

/// The longest number that Pillow accepts.
const LONGEST_NUMBER: usize = 10;

fn corrupt(detail: impl ToString) -> ImageError {
    ImageError::Corrupt { format: Format::Pnm.name(), detail: detail.to_string() }
}

fn truncated(detail: impl ToString) -> ImageError {
    ImageError::Truncated { format: Format::Pnm.name(), detail: detail.to_string() }
}

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<AsStored, ImageError> {
    let kind = bytes[1];
    let mut rest = &bytes[3..];
    let width = header_number(&mut rest, "width")?;
    let height = header_number(&mut rest, "height")?;
    options.limits.check(Format::Pnm, width, height, BYTES_PER_PIXEL)?;
    let image = |pixels| RgbImage::new(width, height, pixels);
    let upright = |image, note| AsStored { image, orientation: Orientation::default(), note };
    if matches!(kind, b'1' | b'4') {
        let gray = if kind == b'1' { plain_bits(rest, width * height)? } else { packed_bits(rest, width, height)? };
        return Ok(upright(RgbImage::from_gray(width, height, &gray)?, None));
    }
    let most = match header_number(&mut rest, "largest value")? {
        most @ 1..=0xFFFF => most as u16,
        most => return Err(corrupt(format!("a largest value of {most}"))),
    };
    let channels = if matches!(kind, b'3' | b'6') { 3 } else { 1 };
    let count = width * height * channels;
    let samples = if matches!(kind, b'2' | b'3') { plain(rest, count, most)? } else { packed(rest, count, most)? };
    let scaled = |white: f64| {
        let scaled = move |&sample: &u16| (f64::from(sample) / f64::from(most) * white).round_ties_even().min(white);
        samples.iter().map(scaled)
    };
    // A range smaller than 16 bits is declared, and needs no option.
    let range = if most == u16::MAX { options.sample_range } else { SampleRange::Full };
    let (mut pixels, mut note) = (Vec::new(), None);
    if most > 255 && (channels == 1 || most == u16::MAX) {
        let words: Vec<u16> = scaled(65535.0).map(|sample| sample as u16).collect();
        (pixels, note) = depth::reduce(&words, 16, range);
        if most != u16::MAX {
            note = None;
        }
    }
    // Pillow rounds colors of 16 bits where it cuts those of other formats off.
    if most <= 255 || (channels == 3 && range == SampleRange::Full) {
        pixels = scaled(255.0).map(|sample| sample as u8).collect();
    }
    let image = if channels == 1 { RgbImage::from_gray(width, height, &pixels)? } else { image(pixels)? };
    Ok(upright(image, note))
}

/// A number of the header, and the byte after it. A comment may even be inside of a number.
fn header_number(rest: &mut &[u8], name: &str) -> Result<usize, ImageError> {
    let mut digits = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        *rest = after;
        match byte {
            b'#' => {
                let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
                *rest = end.map_or(&[], |end| &rest[end + 1..]);
            }
            byte if is_space(byte) => {
                if !digits.is_empty() {
                    break;
                }
            }
            byte => digits.push(byte),
        }
        if digits.len() > LONGEST_NUMBER {
            break;
        }
    }
    if digits.is_empty() {
        return Err(truncated(format!("no {name}")));
    }
    number(&digits).ok_or_else(|| corrupt(format!("the {name} `{}`", digits.escape_ascii())))
}

fn number(digits: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() <= LONGEST_NUMBER)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Data as text, without comments. What a comment separates belongs together, as in Pillow.
fn without_comments(data: &[u8]) -> impl Iterator<Item = u8> {
    let mut comment = false;
    data.iter().copied().filter(move |&byte| {
        let before = comment;
        comment = if comment { !matches!(byte, b'\r' | b'\n') } else { byte == b'#' };
        !before && !comment
    })
}

fn missing(found: usize, count: usize) -> ImageError {
    truncated(format!("{found} of {count} samples"))
}

fn plain_bits(data: &[u8], count: usize) -> Result<Vec<u8>, ImageError> {
    let mut gray = Vec::with_capacity(count);
    for byte in without_comments(data).filter(|&byte| !is_space(byte)).take(count) {
        gray.push(match byte {
            b'0' => 255,
            b'1' => 0,
            _ => return Err(corrupt(format!("`{}` among bits", [byte].escape_ascii()))),
        });
    }
    if gray.len() == count { Ok(gray) } else { Err(missing(gray.len(), count)) }
}

fn packed_bits(data: &[u8], width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
    let stride = width.div_ceil(8);
    let data = data.get(..stride * height).ok_or_else(|| missing(data.len() * 8, stride * height * 8))?;
    let bit = |row: &[u8], column: usize| if row[column / 8] & (0x80 >> (column % 8)) == 0 { 255 } else { 0 };
    Ok(data.chunks_exact(stride).flat_map(|row| (0..width).map(move |column| bit(row, column))).collect())
}

fn plain(data: &[u8], count: usize, most: u16) -> Result<Vec<u16>, ImageError> {
    let mut samples = Vec::with_capacity(count);
    let mut digits = Vec::new();
    for byte in without_comments(data).chain([b' ']) {
        if !is_space(byte) {
            digits.push(byte);
            if digits.len() <= LONGEST_NUMBER {
                continue;
            }
        }
        if !digits.is_empty() && samples.len() < count {
            let sample = number(&digits).filter(|&sample| sample <= usize::from(most));
            let fault = || corrupt(format!("the sample `{}`; the largest is {most}", digits.escape_ascii()));
            samples.push(sample.ok_or_else(fault)? as u16);
        }
        digits.clear();
        if samples.len() == count {
            return Ok(samples);
        }
    }
    Err(missing(samples.len(), count))
}

fn packed(data: &[u8], count: usize, most: u16) -> Result<Vec<u16>, ImageError> {
    let size = if most < 256 { 1 } else { 2 };
    let data = data.get(..count * size).ok_or_else(|| missing(data.len() / size, count))?;
    Ok(match size {
        1 => data.iter().copied().map(u16::from).collect(),
        _ => data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
    })
}
