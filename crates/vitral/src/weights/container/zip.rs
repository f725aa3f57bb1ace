//! The central directory of a zip archive. PyTorch and NumPy usually store entries uncompressed, so an entry is a range
//! of the file; `numpy.savez_compressed` deflates them.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

/// What is wrong with an archive, without its path.
type Fault = String;

/// More tensors than any model has; an archive that claims more is an attack.
const MOST_ENTRIES: u64 = 1 << 20;
/// The largest ratio by which Deflate can compress.
const MOST_DEFLATED: u64 = 1032;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";

/// Whether the bytes are the start of a zip archive.
pub(super) fn recognizes(bytes: &[u8]) -> bool {
    bytes.starts_with(LOCAL)
}

/// Where an entry is, and how it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its bytes in the file.
    pub(crate) range: Range<usize>,
    /// Whether they are deflated.
    pub(crate) deflated: bool,
    /// Its unpacked size in bytes.
    pub(crate) size: usize,
    /// Checksum of the unpacked bytes.
    checksum: u32,
}

/// The entries of an archive, by name.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    entries: HashMap<String, Member>,
}

struct Member {
    method: u16,
    encrypted: bool,
    checksum: u32,
    compressed: u64,
    size: u64,
    header: u64,
}

impl<'a> Archive<'a> {
    /// Reads the central directory at the end of the file.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let cut = "the zip archive's table of contents is missing; the file is cut short";
        // The end record is 22 bytes plus a comment of at most 65535.
        let first = bytes.len().saturating_sub(22 + 65535);
        let end = bytes[first..].windows(4).rposition(|window| window == END).ok_or(cut)? + first;
        if bytes.len() != end + 22 + usize::from(short(bytes, end + 20)?) {
            return Err(cut.into());
        }
        let mut count = u64::from(short(bytes, end + 10)?);
        let mut start = u64::from(word(bytes, end + 16)?);
        if count == 0xFFFF || start == 0xFFFF_FFFF {
            let locator = end.checked_sub(20).ok_or(cut)?;
            if bytes.get(locator..locator + 4) == Some(END_64_LOCATOR) {
                let wide = index(long(bytes, locator + 8)?)?;
                if bytes.get(wide..wide.saturating_add(4)) != Some(END_64) {
                    return Err(cut.into());
                }
                count = long(bytes, wide + 32)?;
                start = long(bytes, wide + 48)?;
            }
        }
        if count > MOST_ENTRIES {
            return Err(format!("the zip archive claims {count} entries, more than {MOST_ENTRIES}"));
        }
        let mut entries = HashMap::new();
        let mut at = index(start)?;
        for _ in 0..count {
            let (name, member, next) = central_entry(bytes, at)?;
            if entries.insert(name.clone(), member).is_some() {
                return Err(format!("`{name}` occurs twice in the zip archive"));
            }
            at = next;
        }
        Ok(Archive { bytes, entries })
    }

    /// Names of all entries, unordered.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where an uncompressed entry's bytes are in the file.
    pub(super) fn stored(&self, name: &str) -> Result<Range<usize>, Fault> {
        let place = self.place(name)?;
        if place.deflated {
            return Err(format!(
                "`{name}` is compressed (method 8), which `torch.save` never does; unpack it and zip it with `-0`"
            ));
        }
        Ok(place.range)
    }

    /// Where an entry's bytes are in the file.
    pub(super) fn place(&self, name: &str) -> Result<Place, Fault> {
        let member = self.entries.get(name).ok_or_else(|| format!("`{name}` is missing from the zip archive"))?;
        if member.encrypted {
            return Err(format!("`{name}` is encrypted"));
        }
        let deflated = match member.method {
            0 if member.compressed != member.size => {
                return Err(format!("`{name}` claims {} bytes stored as {}", member.size, member.compressed));
            }
            0 => false,
            8 if member.size > member.compressed.saturating_mul(MOST_DEFLATED) => {
                return Err(format!("`{name}` claims {} bytes deflated to {}", member.size, member.compressed));
            }
            8 => true,
            method => {
                return Err(format!("`{name}` is compressed (method {method}); unpack it and zip it with `-0`"));
            }
        };
        let header = index(member.header)?;
        if self.bytes.get(header..header.saturating_add(4)) != Some(LOCAL) {
            return Err(format!("`{name}` is not where the table of contents says"));
        }
        let names = usize::from(short(self.bytes, header + 26)?) + usize::from(short(self.bytes, header + 28)?);
        let start = header + 30 + names;
        let range = start..start.checked_add(index(member.compressed)?).ok_or("an entry's size overflows")?;
        if range.end > self.bytes.len() {
            return Err(format!("`{name}` extends beyond the end of the file"));
        }
        Ok(Place { range, deflated, size: index(member.size)?, checksum: member.checksum })
    }

    /// Checks that no two entries share bytes: otherwise a small file could claim any amount of data.
    pub(super) fn check_apart(&self) -> Result<(), Fault> {
        let mut places = Vec::with_capacity(self.entries.len());
        for (name, member) in &self.entries {
            places.push((index(member.header)?, self.place(name)?.range.end, name));
        }
        places.sort_unstable();
        match places.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            Some(pair) => Err(format!("the bytes of `{}` and `{}` overlap", pair[0].2, pair[1].2)),
            None => Ok(()),
        }
    }
}

/// Unpacks a deflated entry and checks its size and checksum. Unpacked bytes are passed to `take` in pieces.
pub(super) fn inflate(bytes: &[u8], place: &Place, mut take: impl FnMut(&[u8])) -> Result<(), Fault> {
    let mut reader = flate2::read::DeflateDecoder::new(&bytes[place.range.clone()]).take(place.size as u64 + 1);
    let (mut checksum, mut size, mut buffer) = (flate2::Crc::new(), 0usize, vec![0; 1 << 16]);
    loop {
        let count = reader.read(&mut buffer).map_err(|error| format!("its deflated bytes are damaged: {error}"))?;
        if count == 0 {
            break;
        }
        checksum.update(&buffer[..count]);
        size += count;
        take(&buffer[..count]);
    }
    if size != place.size {
        return Err(format!("its unpacked size is not the {} bytes it claims", place.size));
    }
    if checksum.sum() != place.checksum {
        return Err("its checksum is wrong".into());
    }
    Ok(())
}

/// One entry of the central directory, and the offset of the next one.
fn central_entry(bytes: &[u8], at: usize) -> Result<(String, Member, usize), Fault> {
    if bytes.get(at..at.saturating_add(4)) != Some(CENTRAL) {
        return Err("the zip archive's table of contents is damaged".into());
    }
    let name_length = usize::from(short(bytes, at + 28)?);
    let extra_length = usize::from(short(bytes, at + 30)?);
    let comment_length = usize::from(short(bytes, at + 32)?);
    let name = bytes.get(at + 46..at + 46 + name_length).ok_or("the zip archive's table of contents is cut short")?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| "an entry of the zip archive has an unreadable name")?;
    let mut member = Member {
        method: short(bytes, at + 10)?,
        encrypted: short(bytes, at + 8)? & 1 != 0,
        checksum: word(bytes, at + 16)?,
        compressed: u64::from(word(bytes, at + 20)?),
        size: u64::from(word(bytes, at + 24)?),
        header: u64::from(word(bytes, at + 42)?),
    };
    // Zip64: sizes that do not fit in 32 bits are in an extra field, in this order, each only if needed.
    let mut extra = at + 46 + name_length;
    let end = extra + extra_length;
    while extra + 4 <= end {
        let (kind, length) = (short(bytes, extra)?, usize::from(short(bytes, extra + 2)?));
        if kind == 1 {
            let mut field = extra + 4;
            for value in [&mut member.size, &mut member.compressed, &mut member.header] {
                if *value == 0xFFFF_FFFF {
                    *value = long(bytes, field)?;
                    field += 8;
                }
            }
        }
        extra += 4 + length;
    }
    Ok((name, member, end + comment_length))
}

fn index(value: u64) -> Result<usize, Fault> {
    usize::try_from(value).map_err(|_| "an offset is larger than any memory".into())
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Fault> {
    at.checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| "the zip archive is cut short".into())
}

fn short(bytes: &[u8], at: usize) -> Result<u16, Fault> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Result<u64, Fault> {
    field(bytes, at).map(u64::from_le_bytes)
}
