//! Where the scales of a layer's input can be moved from.

use crate::config::BlockKind;
use crate::load::Model;

/// A matrix of a block.
pub(super) struct Layer {
    /// Its name.
    pub(super) weight: String,
    /// What gives its input its scale, if nothing else reads that.
    pub(super) source: Option<Source>,
}

/// What makes a layer's input, in proportion to its parameters.
pub(super) enum Source {
    /// A norm: parameters that are divided, channel by channel.
    Norm(Vec<String>),
    /// Attention's values: the last third of the outputs of a matrix and of its bias, and a bias of values alone.
    Values {
        /// `[3 · inner, width]`, and its bias.
        packed: Vec<String>,
        /// `[inner]`.
        alone: Option<String>,
    },
}

impl Layer {
    /// All matrices of all blocks; those whose input is made by another matrix before that one.
    pub(super) fn all(model: &Model) -> Vec<Layer> {
        let (parameters, config) = (model.parameters(), model.vit().config());
        let declarations = parameters.declarations();
        let has = |name: &String| declarations.find(name).is_some();
        let own_norms = config.block == BlockKind::PreNorm;
        let mut layers: Vec<Layer> = declarations
            .ids()
            .filter(|&id| parameters.is_matrix(id))
            .map(|id| declarations.spec(id).name.clone())
            .filter(|name| name.starts_with("blocks."))
            .map(|weight| {
                let block = |part: &str| weight.strip_suffix(part).map(str::to_owned);
                let norm = |place: String| {
                    Source::Norm(
                        ["weight", "bias"].map(|part| format!("{place}.{part}")).into_iter().filter(has).collect(),
                    )
                };
                let source = if let Some(block) = block("attention.qkv.weight").filter(|_| own_norms) {
                    Some(norm(format!("{block}norm1")))
                } else if let Some(block) = block("mlp.up.weight").filter(|_| own_norms) {
                    Some(norm(format!("{block}norm2")))
                } else if let Some(block) = block("attention.projection.weight").filter(|_| !config.attention_norm) {
                    let packed = ["weight", "bias"].map(|part| format!("{block}attention.qkv.{part}"));
                    let alone = Some(format!("{block}attention.value.bias")).filter(has);
                    Some(Source::Values { packed: packed.into_iter().filter(has).collect(), alone })
                } else {
                    None
                };
                Layer { weight, source }
            })
            .collect();
        // Moving scales out of values changes the matrix that makes them.
        layers.sort_by_key(|layer| !matches!(layer.source, Some(Source::Values { .. })));
        layers
    }

    /// The name of what it multiplies.
    pub(super) fn input(&self) -> String {
        format!("{}.input", self.weight.strip_suffix(".weight").unwrap_or(&self.weight))
    }

    /// Divides what makes the input by these factors and multiplies the weights, through `change(name, values)`.
    pub(super) fn move_scales<E>(
        &self,
        factors: &[f32],
        mut change: impl FnMut(&str, &dyn Fn(&mut [f32])) -> Result<(), E>,
    ) -> Result<(), E> {
        let divide = |values: &mut [f32]| values.iter_mut().zip(factors).for_each(|(x, factor)| *x /= factor);
        match &self.source {
            None => return Ok(()),
            Some(Source::Norm(parameters)) => parameters.iter().try_for_each(|name| change(name, &divide))?,
            Some(Source::Values { packed, alone }) => {
                for name in packed {
                    change(name, &|values| {
                        let third = values.len() / 3;
                        let row = third / factors.len();
                        let rows = values[2 * third..].chunks_exact_mut(row.max(1)).zip(factors);
                        rows.for_each(|(row, factor)| row.iter_mut().for_each(|x| *x /= factor));
                    })?;
                }
                if let Some(name) = alone {
                    change(name, &divide)?;
                }
            }
        }
        change(&self.weight, &|values| {
            for row in values.chunks_exact_mut(factors.len()) {
                row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
            }
        })
    }
}
