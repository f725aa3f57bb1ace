//! The header and the first directory: tags and their values, in either byte order, classic or BigTIFF.

use std::collections::BTreeMap;

use super::fault::{corrupt, truncated};
use crate::image::ImageError;

/// The tags that are read.
pub(super) mod tag {
    pub(in super::super) const NEW_SUBFILE_TYPE: u16 = 254;
    pub(in super::super) const IMAGE_WIDTH: u16 = 256;
    pub(in super::super) const IMAGE_LENGTH: u16 = 257;
    pub(in super::super) const BITS_PER_SAMPLE: u16 = 258;
    pub(in super::super) const COMPRESSION: u16 = 259;
    pub(in super::super) const PHOTOMETRIC: u16 = 262;
    pub(in super::super) const FILL_ORDER: u16 = 266;
    pub(in super::super) const STRIP_OFFSETS: u16 = 273;
    pub(in super::super) const ORIENTATION: u16 = 274;
    pub(in super::super) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(in super::super) const ROWS_PER_STRIP: u16 = 278;
    pub(in super::super) const STRIP_BYTE_COUNTS: u16 = 279;
    pub(in super::super) const PLANAR_CONFIGURATION: u16 = 284;
    pub(in super::super) const T4_OPTIONS: u16 = 292;
    pub(in super::super) const PREDICTOR: u16 = 317;
    pub(in super::super) const COLOR_MAP: u16 = 320;
    pub(in super::super) const TILE_WIDTH: u16 = 322;
    pub(in super::super) const TILE_LENGTH: u16 = 323;
    pub(in super::super) const TILE_OFFSETS: u16 = 324;
    pub(in super::super) const TILE_BYTE_COUNTS: u16 = 325;
    pub(in super::super) const INK_SET: u16 = 332;
    pub(in super::super) const EXTRA_SAMPLES: u16 = 338;
    pub(in super::super) const SAMPLE_FORMAT: u16 = 339;
    pub(in super::super) const JPEG_TABLES: u16 = 347;
    pub(in super::super) const YCBCR_COEFFICIENTS: u16 = 529;
    pub(in super::super) const YCBCR_SUBSAMPLING: u16 = 530;
    pub(in super::super) const REFERENCE_BLACK_WHITE: u16 = 532;
    pub(in super::super) const XMP: u16 = 700;
}

/// Numbers of a file, in its byte order.
#[derive(Clone, Copy)]
struct Source<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Source<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = *self.bytes.get(at..)?.first_chunk()?;
        if self.big_endian {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn short(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn long(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn long8(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// A tag's values: where they are, and of which type.
#[derive(Clone, Copy)]
struct Entry {
    kind: u16,
    count: usize,
    /// `None` if the values are outside the file.
    start: Option<usize>,
}

/// The directory of a page.
pub(super) struct Directory<'a> {
    source: Source<'a>,
    entries: BTreeMap<u16, Entry>,
    big_file: bool,
    /// Where the next page's directory is.
    next: Option<usize>,
}

/// The size of a value of each type.
fn size_of_kind(kind: u16) -> Option<usize> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}

impl<'a> Directory<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let source = Source { bytes, big_endian: bytes.starts_with(b"MM") };
        // A version in the other byte order is tolerated, as by Pillow.
        let big_file = bytes.get(2..4).is_some_and(|version| version.contains(&43));
        let first = match big_file {
            true => source.long8(8),
            false => source.long(4).map(u64::from),
        };
        let start = first.and_then(|at| usize::try_from(at).ok()).ok_or_else(|| truncated("no header"))?;
        Self::read_at(source, big_file, start)
    }

    /// The directory of the next page; `None` after the last.
    pub(super) fn next(&self) -> Option<Result<Self, ImageError>> {
        self.next.map(|start| Self::read_at(self.source, self.big_file, start))
    }

    fn read_at(source: Source<'a>, big_file: bool, start: usize) -> Result<Self, ImageError> {
        let bytes = source.bytes;
        let cut = |what: &str| truncated(format!("no {what}"));
        let (count, first, step) = match big_file {
            true => (source.long8(start), start.checked_add(8), 20),
            false => (source.short(start).map(u64::from), start.checked_add(2), 12),
        };
        let (Some(count), Some(first)) = (count, first) else { return Err(cut("first directory")) };
        let mut entries = BTreeMap::new();
        for index in 0..count {
            // What is missing may be a predictor or a palette, without which the image is another.
            let at = usize::try_from(index).ok().and_then(|index| index.checked_mul(step));
            let at = at.and_then(|at| at.checked_add(first)).filter(|at| bytes.len().saturating_sub(*at) >= step);
            let at = at.ok_or_else(|| cut("complete directory"))?;
            let (Some(tag), Some(kind)) = (source.short(at), source.short(at + 2)) else { break };
            let (value, room) = if big_file { (at + 12, 8) } else { (at + 8, 4) };
            let count = if big_file { source.long8(at + 4) } else { source.long(at + 4).map(u64::from) };
            let (Some(count), Some(size)) = (count, size_of_kind(kind)) else { continue };
            let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
            let start = length.and_then(|length| {
                let start = match (length <= room, big_file) {
                    (true, _) => value,
                    (false, true) => usize::try_from(source.long8(value)?).ok()?,
                    (false, false) => source.long(value)? as usize,
                };
                bytes.get(start..start.checked_add(length)?).map(|_| start)
            });
            let count = count.try_into().unwrap_or(usize::MAX);
            if count > 0 {
                entries.entry(tag).or_insert(Entry { kind, count, start });
            }
        }
        let after = usize::try_from(count).ok().and_then(|count| count.checked_mul(step)?.checked_add(first));
        let next = after.and_then(|at| match big_file {
            true => source.long8(at),
            false => source.long(at).map(u64::from),
        });
        let next = next.and_then(|at| usize::try_from(at).ok()).filter(|&at| at != 0);
        Ok(Directory { source, entries, big_file, next })
    }

    /// Whether numbers are stored with their most significant byte first.
    pub(super) fn big_endian(&self) -> bool {
        self.source.big_endian
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    /// Number of values of a tag.
    pub(super) fn count(&self, tag: u16) -> usize {
        self.entries.get(&tag).map_or(0, |entry| entry.count)
    }

    /// The first values of a tag, `most` at most; none if there is no such tag.
    pub(super) fn numbers(&self, tag: u16, most: usize) -> Result<Vec<u64>, ImageError> {
        let Some(entry) = self.entries.get(&tag) else { return Ok(Vec::new()) };
        let start = entry.start.ok_or_else(|| truncated(format!("the values of tag {tag} are outside the file")))?;
        let size = size_of_kind(entry.kind).expect("entries of other types are skipped");
        let whole = |value: f64| (value.fract() == 0.0 && (0.0..1e15).contains(&value)).then_some(value as u64);
        let at = (start..).step_by(size).take(entry.count.min(most));
        let values = at.map(|at| match entry.kind {
            1 | 7 => self.source.bytes.get(at).copied().map(u64::from),
            3 => self.source.short(at).map(u64::from),
            4 | 13 => self.source.long(at).map(u64::from),
            16 | 18 => self.source.long8(at),
            6 => self.source.bytes.get(at).and_then(|&value| u64::try_from(value as i8).ok()),
            8 => self.source.short(at).and_then(|value| u64::try_from(value as i16).ok()),
            9 => self.source.long(at).and_then(|value| u64::try_from(value as i32).ok()),
            17 => self.source.long8(at).and_then(|value| u64::try_from(value as i64).ok()),
            _ => self.real(entry.kind, at).and_then(whole),
        });
        let values: Option<Vec<u64>> = values.collect();
        values.ok_or_else(|| corrupt(format!("tag {tag} with values that are not counts")))
    }

    /// The first value of a tag.
    pub(super) fn number(&self, tag: u16) -> Result<Option<u64>, ImageError> {
        Ok(self.numbers(tag, 1)?.first().copied())
    }

    fn real(&self, kind: u16, at: usize) -> Option<f64> {
        Some(match kind {
            5 => f64::from(self.source.long(at)?) / f64::from(self.source.long(at + 4)?),
            10 => f64::from(self.source.long(at)? as i32) / f64::from(self.source.long(at + 4)? as i32),
            11 => f64::from(f32::from_bits(self.source.long(at)?)),
            12 => f64::from_bits(self.source.long8(at)?),
            _ => return None,
        })
    }

    /// Exactly `N` real values; `None` if there is no such tag, or another number of values.
    pub(super) fn reals<const N: usize>(&self, tag: u16) -> Option<[f32; N]> {
        let entry = self.entries.get(&tag).filter(|entry| entry.count == N)?;
        let (start, size) = (entry.start?, size_of_kind(entry.kind)?);
        let mut values = [0.0; N];
        for (index, value) in values.iter_mut().enumerate() {
            let at = start + index * size;
            *value = match entry.kind {
                3 => f32::from(self.source.short(at)?),
                4 => self.source.long(at)? as f32,
                kind => self.real(kind, at)? as f32,
            };
        }
        Some(values)
    }

    /// The bytes of a tag.
    pub(super) fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        let entry = self.entries.get(&tag)?;
        let length = entry.count.checked_mul(size_of_kind(entry.kind)?)?;
        let start = entry.start?;
        self.source.bytes.get(start..start + length)
    }
}
