//! Where the strips or tiles of an image are, in the file and in the image.

use super::directory::{Directory, tag};
use super::fault::{corrupt, truncated};
use crate::image::ImageError;

/// A strip or tile: its part of the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) left: usize,
    pub(super) top: usize,
    /// Columns and rows that belong to the image.
    pub(super) width: usize,
    pub(super) height: usize,
}

/// The strips or tiles of an image; a strip is as wide as the image.
pub(super) struct Chunks {
    /// The size of a strip or tile. Below the last row of the image, a tile goes on but a strip does not.
    pub(super) width: usize,
    pub(super) height: usize,
    image: (usize, usize),
    across: usize,
    down: usize,
    offsets: Vec<u64>,
    /// Empty if the file does not say.
    counts: Vec<u64>,
    /// The offsets in order, if the file does not say how long all strips and tiles are: one ends where the next begins.
    starts: Vec<u64>,
}

impl Chunks {
    pub(super) fn read(directory: &Directory, width: usize, height: usize, planes: usize) -> Result<Self, ImageError> {
        let tiled = directory.has(tag::TILE_WIDTH);
        let size = |tag: u16| -> Result<Option<usize>, ImageError> {
            let number = directory.number(tag)?;
            Ok(number.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
        };
        let (chunk_width, chunk_height) = match tiled {
            true => match (size(tag::TILE_WIDTH)?, size(tag::TILE_LENGTH)?) {
                (Some(width @ 1..), Some(height @ 1..)) => (width, height),
                (width, height) => {
                    let (width, height) = (width.unwrap_or(0), height.unwrap_or(0));
                    return Err(corrupt(format!("tiles of {width} × {height}")));
                }
            },
            // Without that tag, or with 0 or an enormous number, the image is one strip.
            false => match size(tag::ROWS_PER_STRIP)? {
                Some(rows @ 1..) => (width, rows.min(height)),
                _ => (width, height),
            },
        };
        let across = width.div_ceil(chunk_width);
        let down = height.div_ceil(chunk_height);
        let count = across.checked_mul(down).and_then(|count| count.checked_mul(planes));
        let count = count.ok_or_else(|| corrupt("too many strips or tiles"))?;
        let own = if tiled { (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS) } else { (0, 0) };
        // Some writers store the places of tiles in the tags of strips.
        let (places, counts) = match directory.has(own.0) {
            true => own,
            false => (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS),
        };
        let offsets = directory.numbers(places, count)?;
        if offsets.is_empty() {
            return Err(corrupt("no places of strips or tiles"));
        }
        if offsets.len() < count {
            return Err(truncated(format!("the places of {} strips or tiles instead of {count}", offsets.len())));
        }
        let mut counts = directory.numbers(counts, count)?;
        if counts.len() < count {
            counts.clear();
        }
        let mut starts = Vec::new();
        if counts.is_empty() || counts.contains(&0) {
            starts.clone_from(&offsets);
            starts.sort_unstable();
        }
        let image = (width, height);
        Ok(Chunks { width: chunk_width, height: chunk_height, image, across, down, offsets, counts, starts })
    }

    /// Number of strips or tiles in a plane.
    pub(super) fn per_plane(&self) -> usize {
        self.across * self.down
    }

    pub(super) fn place(&self, index: usize) -> Place {
        let (left, top) = (index % self.across * self.width, index / self.across * self.height);
        let (width, height) = (self.width.min(self.image.0 - left), self.height.min(self.image.1 - top));
        Place { left, top, width, height }
    }

    /// Rows of a strip or tile that belong to the image.
    pub(super) fn rows_of(&self, index: usize) -> usize {
        self.place(index % self.per_plane()).height
    }

    /// The stored size of a strip or tile, if the file says it.
    pub(super) fn count_of_bytes(&self, index: usize) -> Option<usize> {
        self.counts.get(index).and_then(|&count| usize::try_from(count).ok())
    }

    /// The stored bytes of a strip or tile; `None` if it was never written. Uncompressed data may be `length` bytes
    /// long, whatever the file says.
    pub(super) fn bytes<'a>(
        &self,
        index: usize,
        file: &'a [u8],
        length: Option<usize>,
    ) -> Result<Option<&'a [u8]>, ImageError> {
        let (start, count) = (self.offsets[index], self.count_of_bytes(index));
        if start == 0 && count == Some(0) {
            return Ok(None);
        }
        let beyond = || truncated(format!("strip or tile {index} is outside the file"));
        let start = usize::try_from(start).map_err(|_| beyond())?;
        let rest = file.get(start..).filter(|rest| !rest.is_empty()).ok_or_else(beyond)?;
        match (length, count) {
            (Some(length), _) => Ok(Some(&rest[..length.min(rest.len())])),
            (None, Some(count @ 1..)) => Ok(Some(&rest[..count.min(rest.len())])),
            // A decoder stops by itself when all rows are there.
            (None, _) => {
                let next = self.starts.partition_point(|&next| next <= start as u64);
                let next = self.starts.get(next).and_then(|&next| usize::try_from(next).ok());
                Ok(Some(next.and_then(|next| rest.get(..next - start)).unwrap_or(rest)))
            }
        }
    }
}
