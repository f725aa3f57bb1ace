//! Which parameters have weight decay, which are frozen, and the learning rate of each layer.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use vitral::model::Vit;
use vitral_engine::{ParameterId, Parameters, UpdateGroup};

use super::Optimizer;

/// How parameters are grouped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupOptions {
    /// Weight decay of matrices and convolutions. Norms, biases, tokens and positions are never decayed.
    pub weight_decay: f32,
    /// Learning rate factor from each layer to the one before it (BEiT, arXiv:2106.08254); 1 means none.
    pub layer_decay: f32,
    /// Names of parameters to freeze; `*` matches anything.
    pub freeze: Vec<String>,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions { weight_decay: 0.0, layer_decay: 1.0, freeze: Vec::new() }
    }
}

impl GroupOptions {
    /// The parameters that are frozen: those that are named, and statistics that norms were given.
    ///
    /// # Errors
    /// If a pattern matches no parameter.
    pub fn frozen(&self, vit: &Vit) -> Result<Vec<ParameterId>, String> {
        let named = |pattern: &String| {
            let fitting = |id: &ParameterId| fits(pattern, &vit.declarations().spec(*id).name);
            let found: Vec<ParameterId> = vit.declarations().ids().filter(fitting).collect();
            if found.is_empty() { Err(format!("`groups.freeze`: no parameter matches `{pattern}`")) } else { Ok(found) }
        };
        let mut frozen = self.freeze.iter().map(named).collect::<Result<Vec<_>, _>>()?.concat();
        frozen.extend(vit.declarations().ids().filter(|id| vit.is_statistic(&vit.declarations().spec(*id).name)));
        Ok(frozen)
    }
}

/// Whether a name matches a pattern in which `*` matches anything.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            rest.is_empty() || (0..=name.len()).any(|i| name.is_char_boundary(i) && fits(rest, &name[i..]))
        }),
    }
}

/// Whether weight decay applies to a parameter.
fn decays(name: &str, shape: &[usize]) -> bool {
    let names = ["positions", ".probe", ".frequencies"];
    let embedding = name.starts_with("tokens.") || names.iter().any(|end| name.ends_with(end));
    shape.len() > 1 && !embedding
}

/// A parameter's layer, from 0 (tokens and patches) to `depth + 1` (norm and head).
fn layer(name: &str, depth: usize) -> usize {
    if let Some(rest) = name.strip_prefix("blocks.") {
        return 1 + rest.split('.').next().and_then(|index| index.parse::<usize>().ok()).unwrap_or(depth - 1);
    }
    let first = ["tokens.", "positions", "relative_positions", "patches.", "stem.", "pre_norm."];
    if first.iter().any(|prefix| name.starts_with(prefix)) { 0 } else { depth + 1 }
}

/// Groups of a model's parameters for an optimizer. Adjacent parameters with the same settings form one group, unless
/// the optimizer needs each tensor separately. Frozen parameters are in no group.
pub fn groups(vit: &Vit, parameters: &Parameters, options: &GroupOptions, optimizer: &Optimizer) -> Vec<UpdateGroup> {
    let (depth, single) = (vit.config().depth, optimizer.needs_single_tensors());
    let mut groups: Vec<UpdateGroup> = Vec::new();
    let declarations = parameters.declarations();
    for id in declarations.ids() {
        let spec = declarations.spec(id);
        if !parameters.is_trainable(id) {
            continue;
        }
        let matrix = match spec.shape[..] {
            [rows, columns] if single && spec.name.starts_with("blocks.") && decays(&spec.name, &spec.shape) => {
                Some([rows, columns])
            }
            _ => None,
        };
        let group = UpdateGroup {
            range: aligned(parameters, id),
            weight_decay: if decays(&spec.name, &spec.shape) { options.weight_decay } else { 0.0 },
            learning_rate_scale: options.layer_decay.powi((depth + 1 - layer(&spec.name, depth)) as i32),
            rule: optimizer.other_rule().filter(|_| matrix.is_none()),
            matrix,
        };
        match groups.last_mut() {
            Some(last)
                if !single
                    && last.range.end == group.range.start
                    && last.weight_decay == group.weight_decay
                    && last.learning_rate_scale == group.learning_rate_scale =>
            {
                last.range.end = group.range.end;
            }
            _ => groups.push(group),
        }
    }
    groups
}

/// A group of one parameter, at the learning rate itself.
pub(crate) fn group(parameters: &Parameters, id: ParameterId, weight_decay: f32) -> UpdateGroup {
    UpdateGroup { range: aligned(parameters, id), weight_decay, learning_rate_scale: 1.0, rule: None, matrix: None }
}

/// A parameter's range including the padding after it, whose gradient is always zero.
fn aligned(parameters: &Parameters, id: ParameterId) -> Range<usize> {
    let range = parameters.range(id);
    range.start..range.end.next_multiple_of(16).min(parameters.flat().len())
}

#[cfg(test)]
mod tests {
    use vitral::model::variants;
    use vitral_engine::Device;

    use super::*;

    fn grouped(options: &GroupOptions) -> (Vit, Parameters, Vec<UpdateGroup>) {
        let vit = Vit::new(variants::find("test/8").expect("known")).expect("valid");
        let mut parameters = Parameters::zeros(vit.declarations().clone(), Device::cpu(1));
        parameters.freeze(options.frozen(&vit).expect("known"));
        let groups = groups(&vit, &parameters, options, &Optimizer::Sgd { momentum: 0.9, nesterov: false });
        (vit, parameters, groups)
    }

    #[test]
    fn norms_biases_tokens_and_positions_do_not_decay() {
        let (vit, parameters, groups) = grouped(&GroupOptions { weight_decay: 0.1, ..GroupOptions::default() });
        for id in vit.declarations().ids() {
            let name = &vit.declarations().spec(id).name;
            let place = parameters.range(id).start;
            let group = groups.iter().find(|group| group.range.contains(&place)).expect("every parameter is grouped");
            let expected = name.ends_with(".weight") && !name.contains("norm");
            assert_eq!(group.weight_decay > 0.0, expected, "{name}");
        }
    }

    #[test]
    fn later_layers_have_higher_rates_and_frozen_ones_none() {
        let options = GroupOptions { layer_decay: 0.5, freeze: vec!["blocks.0.*".into()], ..GroupOptions::default() };
        let (vit, parameters, groups) = grouped(&options);
        let scale = |name: &str| {
            let place = parameters.range(vit.declarations().find(name).expect("declared")).start;
            groups.iter().find(|group| group.range.contains(&place)).map(|group| group.learning_rate_scale)
        };
        assert_eq!(scale("head.weight"), Some(1.0));
        assert_eq!(scale("blocks.1.norm1.weight"), Some(0.5));
        assert_eq!(scale("blocks.0.norm1.weight"), None);
        assert_eq!(scale("positions"), Some(0.125));
    }

    #[test]
    fn stars_match_anything() {
        assert!(fits("*", "") && fits("a*c", "abbc") && fits("*.bias", "head.bias") && fits("x", "x"));
        assert!(!fits("a*c", "abb") && !fits("x", "xy") && !fits("", "x"));
    }
}
