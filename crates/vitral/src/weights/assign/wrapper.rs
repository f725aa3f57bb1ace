//! Prefixes that a module around the model adds to its names: `model.` and `net.` of Lightning modules, `backbone.` of
//! classifiers, or whatever a project calls its attribute.

use std::collections::{HashMap, HashSet};

use vitral_engine::ParameterSpec;

use crate::weights::Container;
use crate::weights::container::DataType;
use crate::weights::dialect::{Dialect, Source};

/// The prefix under which most of the dialect's names are found, if there is one. Two prefixes that hold equally many, such
/// as those of a teacher and a student, are no answer: nothing says which of them is meant.
pub(super) fn of(specs: &[ParameterSpec], dialect: &Dialect, container: &Container) -> Option<String> {
    let sources = specs.iter().filter_map(|spec| dialect.source(&spec.name));
    let expected: HashSet<String> = sources.flat_map(|source: Source| source.names()).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for name in container.names() {
        let starts = name.match_indices('.').map(|(at, _)| at + 1);
        for start in starts.filter(|start| expected.contains(&name[*start..])) {
            // A prefix of the dialect's own is part of its names.
            if let Some(prefix) = dialect.without_own_prefix(&name[..start]) {
                *counts.entry(prefix).or_default() += 1;
            }
        }
    }
    let most = *counts.values().max()?;
    let mut best = counts.into_iter().filter(|(_, count)| *count == most).map(|(prefix, _)| prefix);
    best.next().filter(|_| best.next().is_none()).map(str::to_owned)
}

/// The prefix that all tensors share and that the dialect does not have, for messages.
pub(super) fn shared(dialect: &Dialect, container: &Container) -> Option<String> {
    let mut names = container.names();
    let first = names.next()?;
    let length = names.fold(first.len(), |length, name| {
        first.bytes().zip(name.bytes()).take(length).take_while(|(a, b)| a == b).count()
    });
    let end = first.as_bytes()[..length].iter().rposition(|&byte| byte == b'.')?;
    let prefix = dialect.without_own_prefix(&first[..=end])?;
    (container.len() > 1).then(|| prefix.to_owned())
}

/// Whether a tensor is outside a wrapped model and no part of it: counts, single numbers, and what a loss or a metric
/// keeps. Anything else could take part in the computation, such as the mean of a normalization in front of the model.
pub(super) fn is_beside(dialect: &Dialect, container: &Container, name: &str) -> bool {
    /// Modules that only take part in training.
    const OF_TRAINING: [&str; 6] = ["loss", "criterion", "metric", "acc", "auroc", "confusion"];
    let outside = dialect.wrapper().is_some_and(|prefix| !name.starts_with(prefix));
    let float = |kind| matches!(kind, DataType::Float32 | DataType::Float16 | DataType::BFloat16 | DataType::Float64);
    let counts = !container.data_type(name).is_some_and(float);
    let single = container.shape(name).is_some_and(|shape| shape.iter().product::<usize>() == 1);
    let module = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let trains = OF_TRAINING.iter().any(|word| module.contains(word));
    outside && !dialect.knows(name) && (counts || single || trains)
}
