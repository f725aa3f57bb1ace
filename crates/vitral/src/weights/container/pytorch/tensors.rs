//! From a pickle's objects to a table of tensors.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::fault::Fault;
use super::module;
use super::pickle::{Global, Heap, Id, Object};
use crate::weights::container::entry::{DataType, Entry, Layout};

/// The tensors of a checkpoint, and the key of the section they were found under.
pub(crate) struct Read {
    pub(crate) entries: Vec<(String, Entry)>,
    pub(crate) section: Option<String>,
}

/// Keys that training code saves weights under, in order of preference: averaged weights come first.
const SECTIONS: [&str; 22] = [
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "params_ema",
    "ema",
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model_weights",
    "teacher",
    "student",
    "net",
    "net_state_dict",
    "network",
    "weights",
    "params",
    "module",
    "backbone",
    "encoder",
    "classifier",
];

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
    let State { named, section } = state_of(heap, root, asked, 0, &mut HashSet::new())?;
    let mut entries = Vec::new();
    for (name, id) in named {
        match heap.get(id) {
            Object::Tensor { .. } => {
                let mut entry = tensor(heap, id, storage).map_err(|fault| in_tensor(&name, fault))?;
                entry.big_endian = big_endian;
                entries.push((name.into_owned(), entry));
            }
            // Any other object beside the tensors does no harm, but one that stands for numbers would be missing.
            _ => {
                if let Some(class) = heap.class_name(id).filter(|class| holds_numbers(class)) {
                    return Err(Fault::Unreadable { tensor: name.into_owned(), class: class.to_owned() });
                }
            }
        }
    }
    Ok(Read { entries, section })
}

/// Whether an instance of a class is a tensor that we cannot rebuild: quantized, sparse, or an array of NumPy.
fn holds_numbers(class: &str) -> bool {
    class.starts_with("torch._utils._rebuild") || (class.starts_with("numpy") && class.ends_with("._reconstruct"))
}

fn in_tensor(name: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Damaged(fault) => Fault::Damaged(format!("`{name}`: {fault}")),
        other => other,
    }
}

/// A dictionary of weights: its values by name, and the key it is under.
struct State<'a> {
    named: Vec<(Cow<'a, str>, Id)>,
    section: Option<String>,
}

/// The dictionary that holds the weights.
fn state_of<'a>(
    heap: &'a Heap,
    id: Id,
    asked: Option<&str>,
    depth: usize,
    tried: &mut HashSet<Id>,
) -> Result<State<'a>, Fault> {
    if !tried.insert(id) {
        return Err("a dictionary that contains itself".into());
    }
    if let Some(named) = module::tensors(heap, id) {
        return Ok(State { named, section: None });
    }
    let pairs = match (heap.get(id), heap.class_name(id)) {
        (Object::Dict(pairs), _) => pairs.as_slice(),
        (Object::Instance { pairs, .. }, _) if !pairs.is_empty() => pairs.as_slice(),
        (_, Some(class)) => return Err(Fault::Forbidden(class.to_owned())),
        _ => return Err("expected a dictionary of tensors, found something else; save `model.state_dict()`".into()),
    };
    let named: Vec<(&str, Id)> = pairs.iter().filter_map(|(key, value)| Some((heap.text(*key)?, *value))).collect();
    if let Some(asked) = asked {
        return match named.iter().find(|(name, _)| *name == asked) {
            Some((_, value)) => {
                let state = state_of(heap, *value, None, depth + 1, tried)?;
                Ok(State { section: Some(asked.into()), ..state })
            }
            None => {
                let holding = named.iter().filter(|(_, value)| tensors_in(heap, *value) > 0);
                Err(Fault::Section { asked: asked.into(), found: holding.map(|(name, _)| (*name).into()).collect() })
            }
        };
    }
    // Training code may keep single tensors, such as a loss's weights, beside the state dictionary.
    let own = tensors_in(heap, id);
    if depth < DEPTH {
        // A later key of the same name wins, as in Python.
        let of = |section: &str| named.iter().rev().find(|(name, _)| *name == section).copied();
        let mut sections: Vec<(&str, Id)> = SECTIONS.into_iter().filter_map(of).collect();
        if sections.is_empty() && own == 0 {
            // Under a key of the project's own, if there is only one that holds tensors.
            let holding: Vec<_> = named.iter().copied().filter(|(_, value)| tensors_in(heap, *value) > 0).collect();
            if holding.len() > 1 {
                let keys = holding.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                return Err(format!("tensors under several keys ({keys}); save the one that is meant alone").into());
            }
            sections = holding;
        }
        for (section, value) in sections {
            if (own == 0 || tensors_in(heap, value) > own)
                && let Ok(state) = state_of(heap, value, None, depth + 1, tried)
            {
                let path = state.section.map_or(section.to_owned(), |inner| format!("{section}.{inner}"));
                return Ok(State { named: state.named, section: Some(path) });
            }
        }
    }
    if own > 0 {
        let named = named.into_iter().map(|(name, id)| (name.into(), id)).collect();
        return Ok(State { named, section: None });
    }
    let keys: Vec<&str> = named.iter().map(|(name, _)| *name).take(8).collect();
    Err(format!("no tensors under the keys this checkpoint has ({})", keys.join(", ")).into())
}

/// How many tensors a dictionary holds, or tensors and modules a module.
fn tensors_in(heap: &Heap, id: Id) -> usize {
    if let Some(count) = module::own(heap, id) {
        return count;
    }
    let pairs = heap.pairs(id).unwrap_or_default();
    pairs.iter().filter(|(_, value)| matches!(heap.get(*value), Object::Tensor { .. })).count()
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

/// The keys of all storages of a pickle, with their element sizes: the legacy format needs them to locate storages.
pub(super) fn storage_sizes(heap: &Heap) -> Vec<(String, usize)> {
    let sized = |reference: Id| {
        let [_, kind, key, ..] = *heap.items(reference)? else { return None };
        let Object::Global(Global::StorageType(kind)) = heap.get(kind) else { return None };
        Some((heap.text(key)?.to_owned(), data_type(kind).ok()?.bits() / 8))
    };
    let of = |object: &Object| match object {
        Object::Storage(reference) => sized(*reference),
        _ => None,
    };
    heap.objects().iter().filter_map(of).collect()
}
