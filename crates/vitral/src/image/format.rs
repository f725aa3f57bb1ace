//! Image file formats, recognized by their first bytes.

/// An image file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG: baseline and progressive; gray, YCbCr, RGB, CMYK, YCCK.
    Jpeg,
    /// PNG; for APNG, the default image.
    Png,
    /// WebP, lossy and lossless; for animations, the first frame.
    WebP,
    /// GIF, first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF and BigTIFF, first page.
    Tiff,
    /// PBM, PGM and PPM, as text or not.
    Pnm,
}

impl Format {
    /// The format given by the first bytes of a file.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'B', b'M', ..] => Some(Format::Bmp),
            // The version in the other byte order is a mistake that Pillow tolerates; 43 is BigTIFF.
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Format::Tiff),
            [b'I', b'I', 0, 42, ..] | [b'M', b'M', 42, 0, ..] => Some(Format::Tiff),
            [b'P', b'1'..=b'6', b' ' | b'\t'..=b'\r', ..] => Some(Format::Pnm),
            _ => None,
        }
    }

    /// The common name.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
            Format::Pnm => "PNM",
        }
    }
}
