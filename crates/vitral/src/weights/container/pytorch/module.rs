//! Whole models, as `torch.save(model, …)` writes them: instances of `torch.nn.Module`, whose attributes hold their
//! parameters and the modules inside.

use std::borrow::Cow;
use std::collections::HashSet;

use super::pickle::{Heap, Id, Object};

/// The longest name of a tensor, so that short files cannot have long ones by nesting.
const LONGEST: usize = 1024;

/// The tensors of a module by the names that `state_dict()` gives them; `None` if the object is not a module.
pub(super) fn tensors(heap: &Heap, id: Id) -> Option<Vec<(Cow<'_, str>, Id)>> {
    attributes(heap, id)?;
    let (mut found, mut seen, mut open) = (Vec::new(), HashSet::new(), vec![(String::new(), id)]);
    while let Some((prefix, id)) = open.pop() {
        // A module that is used twice has its weights under the name that comes last in `open`, and only once.
        if prefix.len() > LONGEST || !seen.insert(id) {
            continue;
        }
        let Some([parameters, buffers, modules]) = attributes(heap, id) else { continue };
        let named = |(key, value): &(Id, Id)| Some((heap.text(*key)?, *value));
        for (name, tensor) in [parameters, buffers].concat().iter().filter_map(named) {
            if name.len() <= LONGEST && matches!(heap.get(tensor), Object::Tensor { .. }) {
                found.push((format!("{prefix}{name}").into(), tensor));
            }
        }
        let inside = modules.iter().filter_map(named).filter(|(name, _)| name.len() <= LONGEST);
        open.extend(inside.map(|(name, module)| (format!("{prefix}{name}."), module)));
    }
    Some(found)
}

/// How many parameters and modules a module has of its own; `None` if the object is not a module.
pub(super) fn own(heap: &Heap, id: Id) -> Option<usize> {
    attributes(heap, id).map(|[parameters, _, modules]| parameters.len() + modules.len())
}

/// The parameters, buffers and modules of a module.
fn attributes(heap: &Heap, id: Id) -> Option<[&[(Id, Id)]; 3]> {
    let Object::Instance { state: Some(state), .. } = heap.get(id) else { return None };
    let attributes = heap.pairs(*state)?;
    let of = |wanted: &str| {
        let (_, value) = attributes.iter().find(|(key, _)| heap.text(*key) == Some(wanted))?;
        heap.pairs(*value)
    };
    Some([of("_parameters")?, of("_buffers").unwrap_or_default(), of("_modules")?])
}
