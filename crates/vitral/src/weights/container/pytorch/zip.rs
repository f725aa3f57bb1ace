//! The table of contents of a zip archive. PyTorch stores entries uncompressed, so an entry is a range of the file.

use std::collections::HashMap;
use std::ops::Range;

use super::Fault;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";

/// Whether the bytes begin a zip archive.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(LOCAL)
}

/// The entries of an archive, by name.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    entries: HashMap<String, Member>,
}

struct Member {
    method: u16,
    encrypted: bool,
    compressed: u64,
    size: u64,
    header: u64,
}

impl<'a> Archive<'a> {
    /// Reads the central directory at the file's end.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let cut = "the zip archive's table of contents is missing; the file is cut short";
        // The end record is 22 bytes and a comment of at most 65535.
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
        let mut entries = HashMap::new();
        let mut at = index(start)?;
        for _ in 0..count {
            let (name, member, next) = central_entry(bytes, at)?;
            if entries.insert(name.clone(), member).is_some() {
                return Err(format!("`{name}` stands twice in the zip archive").into());
            }
            at = next;
        }
        Ok(Archive { bytes, entries })
    }

    /// Names of all entries, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where an uncompressed entry's bytes lie in the file.
    pub(super) fn stored(&self, name: &str) -> Result<Range<usize>, Fault> {
        let member = self.entries.get(name).ok_or_else(|| format!("`{name}` is missing from the zip archive"))?;
        if member.encrypted {
            return Err(format!("`{name}` is encrypted").into());
        }
        if member.method != 0 {
            return Err(format!(
                "`{name}` is compressed (method {}), which `torch.save` never does; unpack it and zip it with `-0`",
                member.method
            )
            .into());
        }
        if member.compressed != member.size {
            return Err(format!("`{name}` claims {} bytes stored as {}", member.size, member.compressed).into());
        }
        let header = index(member.header)?;
        if self.bytes.get(header..header.saturating_add(4)) != Some(LOCAL) {
            return Err(format!("`{name}` does not stand where the table of contents says").into());
        }
        let names = usize::from(short(self.bytes, header + 26)?) + usize::from(short(self.bytes, header + 28)?);
        let start = header + 30 + names;
        let range = start..start.checked_add(index(member.size)?).ok_or("an entry's size overflows")?;
        if range.end > self.bytes.len() {
            return Err(format!("`{name}` reaches beyond the end of the file").into());
        }
        Ok(range)
    }
}

/// One line of the table of contents, and where the next one begins.
fn central_entry(bytes: &[u8], at: usize) -> Result<(String, Member, usize), Fault> {
    if bytes.get(at..at.saturating_add(4)) != Some(CENTRAL) {
        return Err("the zip archive's table of contents is damaged".into());
    }
    let name_length = usize::from(short(bytes, at + 28)?);
    let extra_length = usize::from(short(bytes, at + 30)?);
    let comment_length = usize::from(short(bytes, at + 32)?);
    let name = bytes.get(at + 46..at + 46 + name_length).ok_or("the zip archive's table of contents is cut short")?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| "an entry of the zip archive has no readable name")?;
    let mut member = Member {
        method: short(bytes, at + 10)?,
        encrypted: short(bytes, at + 8)? & 1 != 0,
        compressed: u64::from(word(bytes, at + 20)?),
        size: u64::from(word(bytes, at + 24)?),
        header: u64::from(word(bytes, at + 42)?),
    };
    // Zip64: sizes that do not fit 32 bits stand in an extra field, in this order, each only where it is needed.
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
