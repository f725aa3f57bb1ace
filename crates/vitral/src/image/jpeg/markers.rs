//! Splits a file at its markers.

use super::super::ImageError;
use super::fault::{corrupt, truncated};

/// A marker and its payload.
pub(super) struct Segment<'a> {
    /// The marker's second byte.
    pub(super) marker: u8,
    /// The bytes after its length.
    pub(super) payload: &'a [u8],
    /// Where the next one may begin.
    pub(super) end: usize,
}

/// The next segment from `at` on. Bytes outside segments and restart markers are skipped, as in libjpeg.
pub(super) fn next_segment(bytes: &[u8], mut at: usize) -> Result<Segment<'_>, ImageError> {
    let cut = || truncated("no end marker");
    loop {
        // Skips any byte but 0xFF; a marker may be preceded by any number of 0xFF.
        at += bytes.get(at..).ok_or_else(cut)?.iter().position(|&byte| byte == 0xFF).ok_or_else(cut)?;
        at += bytes[at..].iter().position(|&byte| byte != 0xFF).ok_or_else(cut)?;
        let marker = bytes[at];
        at += 1;
        match marker {
            // A byte of coded data, or a marker without a payload that can be ignored.
            0x00 | 0x01 | 0xD0..=0xD7 => {}
            0xD9 => return Ok(Segment { marker, payload: &[], end: at }),
            0xC0..=0xCF | 0xDA..=0xDD | 0xE0..=0xEF | 0xFE => {
                let length = bytes.get(at..at + 2).ok_or_else(cut)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if length < 2 {
                    return Err(corrupt(format!("segment FF{marker:02X} with a length of {length}")));
                }
                let end = at + length;
                let payload = bytes.get(at + 2..end).ok_or_else(cut)?;
                return Ok(Segment { marker, payload, end });
            }
            _ => return Err(corrupt(format!("the marker FF{marker:02X}"))),
        }
    }
}
