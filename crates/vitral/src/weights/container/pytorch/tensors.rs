//! From a pickle's objects to a table of tensors.

use std::ops::Range;

use super::fault::Fault;
use super::pickle::{Global, Heap, Id, Object};
use crate::weights::container::entry::{DataType, Entry, Layout};

/// The tensors of a checkpoint, and the key of the section they were found under.
pub(crate) struct Read {
    pub(crate) entries: Vec<(String, Entry)>,
    pub(crate) section: Option<String>,
}

/// Keys that training code saves weights under, in order of preference: averaged weights come first.
const SECTIONS: [&str; 10] = [
    "state_dict_ema",
    "model_ema",
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "teacher",
    "student",
    "net",
    "network",
];

/// Prefixes added by wrappers around a model, which carry no information.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// How deeply sections may be nested, such as `model` in `checkpoint`.
const DEPTH: usize = 4;

/// The most axes a tensor may have.
const RANK: usize = 8;

/// Finds the tensors of the state dictionary and the location of their bytes. `storage` returns a storage's location by
/// its key.
pub(super) fn collect(
    heap: &Heap,
    root: Id,
    asked: Option<&str>,
    big_endian: bool,
    storage: &dyn Fn(&str) -> Result<Range<usize>, Fault>,
) -> Result<Read, Fault> {
    let State { named, section } = state_of(heap, root, asked, 0)?;
    let mut entries = Vec::new();
    for (name, id) in named {
        if let Object::Tensor { .. } = heap.get(id) {
            let mut entry = tensor(heap, id, storage).map_err(|fault| in_tensor(name, fault))?;
            entry.big_endian = big_endian;
            let plain = WRAPPERS.iter().fold(name, |name, wrapper| name.strip_prefix(wrapper).unwrap_or(name));
            entries.push((plain.to_owned(), entry));
        }
    }
    Ok(Read { entries, section })
}

fn in_tensor(name: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Damaged(fault) => Fault::Damaged(format!("`{name}`: {fault}")),
        other => other,
    }
}

/// A dictionary of weights: its values by name, and the key it is under.
struct State<'a> {
    named: Vec<(&'a str, Id)>,
    section: Option<String>,
}

/// The dictionary that holds the weights.
fn state_of<'a>(heap: &'a Heap, id: Id, asked: Option<&str>, depth: usize) -> Result<State<'a>, Fault> {
    let Object::Dict(pairs) = heap.get(id) else {
        return Err("expected a dictionary of tensors, found something else; save `model.state_dict()`".into());
    };
    let named: Vec<(&str, Id)> = pairs.iter().filter_map(|(key, value)| Some((heap.text(*key)?, *value))).collect();
    let holds_tensors = |id: Id| match heap.get(id) {
        Object::Dict(pairs) => pairs.iter().any(|(_, value)| matches!(heap.get(*value), Object::Tensor { .. })),
        _ => false,
    };
    if let Some(asked) = asked {
        return match named.iter().find(|(name, _)| *name == asked) {
            Some((_, value)) => {
                let state = state_of(heap, *value, None, depth + 1)?;
                Ok(State { section: Some(asked.into()), ..state })
            }
            None => {
                let found = named.iter().filter(|(_, value)| holds_tensors(*value)).map(|(name, _)| (*name).into());
                Err(Fault::Section { asked: asked.into(), found: found.collect() })
            }
        };
    }
    if holds_tensors(id) {
        return Ok(State { named, section: None });
    }
    if depth < DEPTH {
        for section in SECTIONS {
            // A later key of the same name wins, as in Python.
            if let Some((_, value)) = named.iter().rev().find(|(name, _)| *name == section)
                && let Ok(state) = state_of(heap, *value, None, depth + 1)
            {
                let path = state.section.map_or(section.to_owned(), |inner| format!("{section}.{inner}"));
                return Ok(State { named: state.named, section: Some(path) });
            }
        }
    }
    let keys: Vec<&str> = named.iter().map(|(name, _)| *name).take(8).collect();
    Err(format!("no tensors under the keys this checkpoint has ({keys:?})").into())
}

fn tensor(heap: &Heap, id: Id, storage: &dyn Fn(&str) -> Result<Range<usize>, Fault>) -> Result<Entry, Fault> {
    let Object::Tensor { storage: reference, offset, shape, strides } = heap.get(id) else {
        return Err("not a tensor".into());
    };
    let (data_type, key) = storage_of(heap, *reference)?;
    let sizes = |id: Id| -> Result<Vec<usize>, Fault> {
        let items = heap.items(id).ok_or("a shape that is not a tuple")?;
        if items.len() > RANK {
            return Err(format!("{} axes, more than any weight has", items.len()).into());
        }
        items.iter().map(|item| heap.size(*item).ok_or_else(|| "a dimension that is not a count".into())).collect()
    };
    let (shape, strides) = (sizes(*shape)?, sizes(*strides)?);
    let offset = heap.size(*offset).ok_or("an offset that is not a count")?;
    if shape.len() != strides.len() {
        return Err(format!("shape {shape:?} with strides {strides:?}").into());
    }
    let size = data_type.bits() / 8;
    let bytes = storage(key)?;
    let held = bytes.len() / size;
    let huge = || Fault::from(format!("shape {shape:?} extends beyond its storage of {held} elements"));
    let count = shape.iter().try_fold(1usize, |count, extent| count.checked_mul(*extent)).ok_or_else(huge)?;
    // A view that repeats elements could require far more memory than the file has bytes.
    if count > held {
        return Err(huge());
    }
    if count == 0 {
        let layout = Layout::Contiguous { bytes: bytes.start..bytes.start };
        return Ok(Entry { file: 0, data_type, shape, layout, big_endian: false });
    }
    let last = shape.iter().zip(&strides).try_fold(offset, |last, (extent, stride)| {
        (extent - 1).checked_mul(*stride).and_then(|reach| last.checked_add(reach))
    });
    if last.is_none_or(|last| last >= held) {
        return Err(huge());
    }
    let layout = if is_contiguous(&shape, &strides) {
        Layout::Contiguous { bytes: bytes.start + offset * size..bytes.start + (offset + count) * size }
    } else {
        Layout::Strided { storage: bytes, offset, strides }
    };
    Ok(Entry { file: 0, data_type, shape, layout, big_endian: false })
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(extent, stride)| {
        let fits = *extent == 1 || *stride == expected;
        expected *= extent;
        fits
    })
}

/// The element type and the key of a storage: `('storage', torch.FloatStorage, '0', 'cpu', 576)`.
fn storage_of(heap: &Heap, id: Id) -> Result<(DataType, &str), Fault> {
    let Object::Storage(reference) = heap.get(id) else {
        return Err("a tensor without a storage".into());
    };
    let [_, kind, key, _, _, rest @ ..] = heap.items(*reference).unwrap_or_default() else {
        return Err("a storage with too few parts".into());
    };
    if rest.first().is_some_and(|view| !matches!(heap.get(*view), Object::None)) {
        return Err("a view of another storage, as in very old versions of PyTorch; save the weights again".into());
    }
    let Object::Global(Global::StorageType(kind)) = heap.get(*kind) else {
        return Err("a storage without a type".into());
    };
    let key = heap.text(*key).ok_or("a storage without a key")?;
    Ok((data_type(kind)?, key))
}

fn data_type(storage: &str) -> Result<DataType, Fault> {
    Ok(match storage.trim_end_matches("Storage") {
        "Float" => DataType::Float32,
        "Half" => DataType::Float16,
        "BFloat16" => DataType::BFloat16,
        "Double" => DataType::Float64,
        "Long" => DataType::Int64,
        "Int" => DataType::Int32,
        "Short" => DataType::Int16,
        "Char" => DataType::Int8,
        "Byte" | "Untyped" => DataType::UInt8,
        "Bool" => DataType::Bool,
        "ComplexFloat" => DataType::Other { bits: 64 },
        "ComplexDouble" => DataType::Other { bits: 128 },
        _ => return Err(format!("storage type `{storage}` is not known").into()),
    })
}

/// The keys of all storages a heap refers to, with their element sizes: the legacy format needs them to locate
/// storages.
pub(super) fn storage_sizes(heap: &Heap, root: Id) -> Vec<(String, usize)> {
    let (mut found, mut seen, mut open) = (Vec::new(), std::collections::HashSet::new(), vec![root]);
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        match heap.get(id) {
            Object::Tuple(items) | Object::List(items) => open.extend(items),
            Object::Dict(pairs) => open.extend(pairs.iter().map(|(_, value)| *value)),
            Object::Tensor { storage, .. } => {
                if let Ok((data_type, key)) = storage_of(heap, *storage) {
                    found.push((key.to_owned(), data_type.bits() / 8));
                }
            }
            _ => {}
        }
    }
    found
}
