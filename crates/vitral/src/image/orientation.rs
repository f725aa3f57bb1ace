//! The EXIF orientation: how the camera was held.

use super::{BandImage, RgbImage};
use crate::config::Size;

/// The transformation from stored pixels to an upright image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::image) struct Orientation {
    /// Swap rows and columns, before any mirroring.
    transpose: bool,
    /// Mirror left and right.
    mirror_columns: bool,
    /// Mirror top and bottom.
    mirror_rows: bool,
}

impl Orientation {
    /// The orientation of an EXIF value; values outside 1 to 8 mean no transformation.
    pub(super) fn from_exif(value: u16) -> Self {
        let (transpose, mirror_columns, mirror_rows) = match value {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Orientation { transpose, mirror_columns, mirror_rows }
    }

    /// The orientation stored in the first directory of a TIFF structure (the payload of an EXIF block).
    pub(in crate::image) fn from_tiff(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
        let big = match bytes.get(..4)? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        let short = |at: usize| -> Option<u16> {
            let pair = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
        };
        let long = |at: usize| -> Option<usize> {
            let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
            Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) } as usize)
        };
        let directory = long(4)?;
        let entries = short(directory)? as usize;
        for entry in 0..entries {
            let at = directory.checked_add(2 + entry * 12)?;
            if short(at)? == 0x0112 {
                return Some(Self::from_exif(short(at + 8)?));
            }
        }
        None
    }

    /// The orientation in XMP, by the same pattern as in Pillow: the first `tiff:Orientation="` or `tiff:Orientation>`
    /// that is followed by a digit.
    pub(in crate::image) fn from_xmp(xmp: &[u8]) -> Option<Self> {
        const NAME: &[u8] = b"tiff:Orientation";
        xmp.windows(NAME.len() + 3).filter(|window| window.starts_with(NAME)).find_map(|window| {
            match window[NAME.len()..] {
                [b'=', b'"', digit @ b'0'..=b'9'] => Some(Self::from_exif(u16::from(digit - b'0'))),
                [b'>', digit @ b'0'..=b'9', _] => Some(Self::from_exif(u16::from(digit - b'0'))),
                _ => None,
            }
        })
    }

    /// Turns an image of bands upright.
    pub(super) fn apply_to_bands(self, image: BandImage) -> BandImage {
        let Size { height, width } = image.size();
        let turned = |length: usize, mirror: bool| move |at: usize| if mirror { length - 1 - at } else { at };
        let to = if self.transpose { Size { height: width, width: height } } else { image.size() };
        match self {
            Orientation { transpose: false, mirror_columns: false, mirror_rows: false } => image,
            _ => image.changed(to, |plane| {
                let (row_of, column_of) = (turned(to.height, self.mirror_rows), turned(to.width, self.mirror_columns));
                let value = |row: usize, column: usize| match self.transpose {
                    true => plane[column * width + row],
                    false => plane[row * width + column],
                };
                debug_assert_eq!(plane.len(), height * width);
                (0..to.area()).map(|at| value(row_of(at / to.width), column_of(at % to.width))).collect()
            }),
        }
    }

    /// Turns an image upright.
    pub(super) fn apply(self, image: RgbImage) -> RgbImage {
        if self == Orientation::default() {
            return image;
        }
        let (width, height) = (image.width(), image.height());
        let (out_width, out_height) = if self.transpose { (height, width) } else { (width, height) };
        let mut pixels = Vec::with_capacity(image.pixels().len());
        for row in 0..out_height {
            let row = if self.mirror_rows { out_height - 1 - row } else { row };
            for column in 0..out_width {
                let column = if self.mirror_columns { out_width - 1 - column } else { column };
                let (row, column) = if self.transpose { (column, row) } else { (row, column) };
                pixels.extend_from_slice(&image.pixel(row, column));
            }
        }
        RgbImage::new(out_width, out_height, pixels).expect("as many pixels as before")
    }
}
