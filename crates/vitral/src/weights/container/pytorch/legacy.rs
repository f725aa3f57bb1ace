//! The format `torch.save` wrote before 1.6: five pickles in a row, then the storages.

use std::collections::HashMap;
use std::ops::Range;

use super::fault::Fault;
use super::pickle::{self, Heap, Id, Object};
use super::tensors::{self, Read};

/// PyTorch's magic number, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether the bytes begin with a binary pickle.
pub(super) fn recognizes(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// Finds every tensor of the checkpoint.
pub(super) fn entries(bytes: &[u8], section: Option<&str>) -> Result<Read, Fault> {
    let mut at = 0;
    let mut next = || -> Result<(Heap, Id), Fault> {
        let (heap, root, taken) = pickle::load(&bytes[at..])?;
        at += taken;
        Ok((heap, root))
    };
    let (heap, magic) = next()?;
    if !matches!(heap.get(magic), Object::Long(number) if *number == MAGIC) {
        return Err("a pickle without PyTorch's magic number; load it in Python and use `torch.save`".into());
    }
    let (heap, version) = next()?;
    if heap.size(version) != Some(1001) {
        return Err("a protocol version other than 1001".into());
    }
    let (system, root) = next()?;
    let big_endian = little_endian(&system, root) == Some(false);
    let (heap, root) = next()?;
    let (keys, list) = next()?;
    let sizes: HashMap<String, usize> = tensors::storage_sizes(&heap).into_iter().collect();

    let mut storages: HashMap<String, Range<usize>> = HashMap::new();
    for key in keys.items(list).ok_or("the list of storages is not a list")? {
        let key = keys.text(*key).ok_or("a storage without a key")?;
        // Without a tensor in the state, a storage's element size is unknown, so nothing after it can be located.
        let size = *sizes.get(key).ok_or_else(|| format!("storage `{key}` does not belong to a tensor"))?;
        let count = bytes.get(at..at.saturating_add(8)).ok_or("a storage is cut short")?;
        let count = u64::from_le_bytes(count.try_into().map_err(|_| "a storage is cut short")?);
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let start = at + 8;
        let end = length.and_then(|length| start.checked_add(length)).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| format!("storage `{key}` claims {count} elements, beyond the end of the file"))?;
        storages.insert(key.to_owned(), start..end);
        at = end;
    }
    let storage = |key: &str| -> Result<Range<usize>, Fault> {
        storages.get(key).cloned().ok_or_else(|| format!("storage `{key}` is missing").into())
    };
    tensors::collect(&heap, root, section, big_endian, &storage)
}

fn little_endian(heap: &Heap, root: Id) -> Option<bool> {
    let Object::Dict(pairs) = heap.get(root) else {
        return None;
    };
    let (_, value) = pairs.iter().find(|(key, _)| heap.text(*key) == Some("little_endian"))?;
    match heap.get(*value) {
        Object::Bool(little) => Some(*little),
        _ => None,
    }
}
