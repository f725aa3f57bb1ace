//! Segments other than tables and frame.

use super::markers::Segment;
use crate::image::orientation::Orientation;

/// The contents of segments other than tables and frame.
#[derive(Default)]
pub(super) struct Notes<'a> {
    pub(super) jfif: bool,
    pub(super) adobe_transform: Option<u8>,
    pub(super) orientation: Option<Orientation>,
    /// Metadata in XML, which may hold the orientation too.
    pub(super) xmp: Option<&'a [u8]>,
}

/// What XMP begins with.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

impl<'a> Notes<'a> {
    pub(super) fn read(&mut self, segment: &Segment<'a>) {
        let payload = segment.payload;
        match segment.marker {
            0xE0 if payload.len() >= 14 && payload.starts_with(b"JFIF\0") => self.jfif = true,
            0xE1 if payload.starts_with(b"Exif\0\0") && self.orientation.is_none() => {
                self.orientation = Orientation::from_tiff(&payload[6..]);
            }
            0xE1 if payload.starts_with(XMP) => self.xmp = Some(&payload[XMP.len()..]),
            0xEE if payload.len() >= 12 && payload.starts_with(b"Adobe") => {
                self.adobe_transform = Some(payload[11]);
            }
            _ => {}
        }
    }
}
