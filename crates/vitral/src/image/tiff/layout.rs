//! What the tags say of the image: its samples, its colors, and how it is cut into strips or tiles.

use super::chunks::Chunks;
use super::codec::Compression;
use super::directory::{Directory, tag};
use super::fault::{corrupt, unsupported};
use super::predictor::Predictor;
use crate::image::{Format, ImageError, Limits};

/// More samples per pixel than any instrument records.
const MOST_SAMPLES: u64 = 65535;

/// The type of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unsigned,
    Signed,
    Float,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Unsigned => "unsigned",
            Kind::Signed => "signed",
            Kind::Float => "floating-point",
        }
    }
}

/// The meaning of a pixel's first samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    Gray { white_is_zero: bool },
    Palette,
    Rgb,
    Cmyk,
    YCbCr,
    Lab,
}

impl Color {
    fn name(self) -> &'static str {
        match self {
            Color::Gray { .. } => "gray",
            Color::Palette => "a palette",
            Color::Rgb => "RGB",
            Color::Cmyk => "CMYK",
            Color::YCbCr => "YCbCr",
            Color::Lab => "Lab",
        }
    }

    /// Number of samples of a pixel, without extra ones.
    pub(super) fn samples(self) -> usize {
        match self {
            Color::Gray { .. } | Color::Palette => 1,
            Color::Rgb | Color::YCbCr | Color::Lab => 3,
            Color::Cmyk => 4,
        }
    }
}

/// How the samples of an image are stored.
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) bits: u32,
    pub(super) kind: Kind,
    /// Samples per pixel, with extra ones.
    pub(super) samples: usize,
    /// Each sample has strips or tiles of its own.
    pub(super) planar: bool,
    pub(super) color: Color,
    /// Which sample is the alpha by which the colors were multiplied.
    pub(super) associated_alpha: Option<usize>,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    pub(super) big_endian: bool,
    /// Bits are stored in the reverse order in each byte.
    pub(super) reversed: bool,
    /// How many pixels across and down share their color differences (YCbCr only).
    pub(super) subsampling: (usize, usize),
    pub(super) chunks: Chunks,
}

impl Layout {
    /// The layout of an image in color.
    pub(super) fn read(directory: &Directory, limits: &Limits) -> Result<Self, ImageError> {
        Self::of(directory, limits, false)
    }

    /// The layout of an image whose samples are bands, whatever their colors.
    pub(super) fn read_bands(directory: &Directory, limits: &Limits) -> Result<Self, ImageError> {
        Self::of(directory, limits, true)
    }

    fn of(directory: &Directory, limits: &Limits, bands: bool) -> Result<Self, ImageError> {
        let side = |tag: u16, name: &str| -> Result<usize, ImageError> {
            let side = directory.number(tag)?.ok_or_else(|| corrupt(format!("no {name}")))?;
            usize::try_from(side).map_err(|_| corrupt(format!("{name} {side}")))
        };
        let (width, height) = (side(tag::IMAGE_WIDTH, "width")?, side(tag::IMAGE_LENGTH, "height")?);
        limits.check(Format::Tiff, width, height, 1)?;
        let options = directory.number(tag::T4_OPTIONS)?.unwrap_or(0);
        let compression = Compression::read(directory.number(tag::COMPRESSION)?.unwrap_or(1), options)?;
        let samples = samples(directory)?;
        let bits = bits(directory, samples)?;
        let kind = kind(directory, samples)?;
        let mut extra = directory.numbers(tag::EXTRA_SAMPLES, samples)?;
        let color = match bands {
            true => plain(directory)?,
            false => color(directory, samples, extra.len())?,
        };
        // More extra samples than there is room for are a mistake of the tag.
        extra.truncate(samples - color.samples());
        match bands {
            true => check_band(kind, bits)?,
            false => check_depth(color, kind, bits)?,
        }
        // Samples of unknown meaning come first only by mistake; the first alpha among the extra ones counts.
        let alpha = extra.iter().position(|&meaning| meaning == 1).map(|index| samples - extra.len() + index);
        let planar = samples > 1 && directory.number(tag::PLANAR_CONFIGURATION)? == Some(2);
        let predictor = match compression.has_predictor() {
            true => Predictor::read(directory.number(tag::PREDICTOR)?.unwrap_or(1), bits, kind == Kind::Float)?,
            false => Predictor::None,
        };
        let mut layout = Layout {
            width,
            height,
            bits,
            kind,
            samples,
            planar,
            color,
            associated_alpha: alpha.filter(|_| !bands && matches!(color, Color::Gray { .. } | Color::Rgb)),
            compression,
            predictor,
            big_endian: directory.big_endian(),
            reversed: directory.number(tag::FILL_ORDER)? == Some(2),
            subsampling: (1, 1),
            chunks: Chunks::read(directory, width, height, if planar { samples } else { 1 })?,
        };
        if color == Color::YCbCr && compression != Compression::Jpeg {
            layout.subsampling = layout.subsampling(directory)?;
        }
        if matches!(compression, Compression::Fax(_)) && (bits, samples) != (1, 1) {
            return Err(unsupported(format!("fax compression with {samples} samples of {bits} bits")));
        }
        if compression == Compression::Jpeg && bits != 8 {
            return Err(unsupported(format!("JPEG compression with samples of {bits} bits")));
        }
        Ok(layout)
    }

    /// Samples side by side in a strip or tile.
    pub(super) fn interleaved(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    fn subsampling(&self, directory: &Directory) -> Result<(usize, usize), ImageError> {
        let factors = directory.numbers(tag::YCBCR_SUBSAMPLING, 2)?;
        let (across, down) = match factors[..] {
            [across @ (1 | 2 | 4), down @ (1 | 2 | 4)] => (across as usize, down as usize),
            [] => (2, 2),
            _ => return Err(corrupt(format!("color subsampling {factors:?}"))),
        };
        if (across, down) == (1, 1) {
            return Ok((1, 1));
        }
        // Some writers repeat the color differences but leave the tag at its default.
        let whole = self.chunks.width.checked_mul(self.chunks.rows_of(0)).and_then(|pixels| pixels.checked_mul(3));
        if self.compression == Compression::None && self.chunks.count_of_bytes(0) == whole {
            return Ok((1, 1));
        }
        if self.planar {
            return Err(unsupported("YCbCr in planes of different sizes"));
        }
        if self.samples != 3 {
            return Err(unsupported(format!("subsampled YCbCr with {} samples per pixel", self.samples)));
        }
        Ok((across, down))
    }
}

fn samples(directory: &Directory) -> Result<usize, ImageError> {
    let samples = match directory.number(tag::SAMPLES_PER_PIXEL)? {
        Some(samples) => samples,
        None => directory.count(tag::BITS_PER_SAMPLE).max(1) as u64,
    };
    match samples {
        1..=MOST_SAMPLES => Ok(samples as usize),
        _ => Err(corrupt(format!("{samples} samples per pixel"))),
    }
}

fn bits(directory: &Directory, samples: usize) -> Result<u32, ImageError> {
    let all = directory.numbers(tag::BITS_PER_SAMPLE, samples)?;
    let bits = all.first().copied().unwrap_or(1);
    if all.iter().any(|&other| other != bits) {
        return Err(unsupported(format!("samples of {all:?} bits")));
    }
    match bits {
        1..=16 | 32 | 64 => Ok(bits as u32),
        _ => Err(unsupported(format!("samples of {bits} bits"))),
    }
}

fn kind(directory: &Directory, samples: usize) -> Result<Kind, ImageError> {
    let all = directory.numbers(tag::SAMPLE_FORMAT, samples)?;
    let format = all.first().copied().unwrap_or(1);
    if all.iter().any(|&other| other != format) {
        return Err(unsupported(format!("samples of several formats ({all:?})")));
    }
    match format {
        // Undefined data is read as unsigned.
        1 | 4 => Ok(Kind::Unsigned),
        2 => Ok(Kind::Signed),
        3 => Ok(Kind::Float),
        5 | 6 => Err(unsupported("complex numbers")),
        _ => Err(corrupt(format!("sample format {format}"))),
    }
}

fn color(directory: &Directory, samples: usize, extra: usize) -> Result<Color, ImageError> {
    let photometric = match directory.number(tag::PHOTOMETRIC)? {
        Some(number) => number,
        // The tag is required; without it, Pillow takes a gray image as white is zero.
        None if samples.saturating_sub(extra) >= 3 => 2,
        None => 0,
    };
    let color = match photometric {
        0 | 1 => Color::Gray { white_is_zero: photometric == 0 },
        // A brightness without color differences.
        6 if samples == 1 => Color::Gray { white_is_zero: false },
        2 => Color::Rgb,
        3 => Color::Palette,
        5 => match directory.number(tag::INK_SET)? {
            None | Some(1) => Color::Cmyk,
            Some(_) => return Err(unsupported("inks other than cyan, magenta, yellow and black")),
        },
        6 => Color::YCbCr,
        8 => Color::Lab,
        4 => return Err(unsupported("a transparency mask in place of an image")),
        9 | 10 => return Err(unsupported("Lab colors in an encoding of their own (ICC or ITU)")),
        32803 | 34892 => return Err(unsupported("a camera's raw photograph")),
        32844 | 32845 => return Err(unsupported("LogLuv colors")),
        _ => return Err(unsupported(format!("photometric interpretation {photometric}"))),
    };
    // Extra samples of gray must be declared: three samples that are not are no gray. Alpha is often not declared.
    let plausible = match color {
        Color::Gray { .. } | Color::Palette => samples <= 1 + extra,
        _ => samples >= color.samples(),
    };
    // Several bands that are called gray, as of satellites: the first alone is not the image.
    if matches!(color, Color::Gray { .. }) && samples > 2 {
        return Err(ImageError::NotColor { bands: samples });
    }
    match plausible {
        true => Ok(color),
        false => Err(corrupt(format!("{} with {samples} samples per pixel, {extra} of them extra", color.name()))),
    }
}

/// Bands have no color; they must not be something else that a number stands for.
fn plain(directory: &Directory) -> Result<Color, ImageError> {
    match directory.number(tag::PHOTOMETRIC)? {
        None | Some(0..=2 | 5) => Ok(Color::Gray { white_is_zero: false }),
        Some(3) => Err(unsupported("numbers of a palette in place of bands")),
        Some(6 | 8..=10) => Err(unsupported("YCbCr or Lab colors in place of bands")),
        Some(other) => Err(unsupported(format!("photometric interpretation {other} in place of bands"))),
    }
}

/// Rejects samples that have no usual range.
fn check_band(kind: Kind, bits: u32) -> Result<(), ImageError> {
    let possible = match kind {
        Kind::Float => matches!(bits, 16 | 32 | 64),
        Kind::Signed => matches!(bits, 8 | 16),
        Kind::Unsigned => bits <= 16,
    };
    match possible {
        true => Ok(()),
        false => Err(ImageError::ArrayValues { found: format!("{} samples of {bits} bits", kind.name()) }),
    }
}

/// Rejects samples that have no meaning as a color.
fn check_depth(color: Color, kind: Kind, bits: u32) -> Result<(), ImageError> {
    let possible = match (color, kind) {
        (_, Kind::Float) => matches!(bits, 16 | 32 | 64),
        (_, Kind::Signed) => matches!(bits, 8 | 16 | 32 | 64),
        (Color::Gray { .. }, Kind::Unsigned) => true,
        (_, Kind::Unsigned) => bits <= 16,
    };
    let possible = possible
        && match color {
            Color::Gray { .. } => true,
            Color::Palette => kind == Kind::Unsigned && bits <= 8,
            Color::Rgb | Color::Cmyk => kind == Kind::Unsigned,
            Color::YCbCr | Color::Lab => kind == Kind::Unsigned && bits == 8,
        };
    match possible {
        true => Ok(()),
        false => Err(unsupported(format!("{} with {} samples of {bits} bits", color.name(), kind.name()))),
    }
}
