//! Attention weights of one image, and the maps that use them directly.
//!
//! The weights of a layer are `[heads, tokens, tokens]`: a row is a query, and adds up to 1. A block with two
//! attentions side by side counts as one layer with the heads of both.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::{Layout, Map};
use crate::error::Error;
use crate::load::Model;
use crate::model::Output;
use crate::{DeviceError, Tensor};

/// How heads are combined into one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fusion {
    /// Their mean.
    #[default]
    Mean,
    /// The largest weight of any head.
    Max,
    /// The smallest weight of any head.
    Min,
}

/// Combines the heads of `weights` `[heads, tokens, tokens]` into one `[tokens, tokens]`.
pub fn fuse(weights: &[f32], tokens: usize, fusion: Fusion) -> Vec<f32> {
    let area = tokens * tokens;
    let heads = weights.len() / area;
    let mut fused = weights[..area].to_vec();
    // One row of every head at a time, so that the sum stays in cache.
    fused.par_chunks_mut(tokens).enumerate().for_each(|(row, fused)| {
        for head in 1..heads {
            let weights = &weights[head * area + row * tokens..][..tokens];
            match fusion {
                Fusion::Mean => fused.iter_mut().zip(weights).for_each(|(fused, weight)| *fused += weight),
                Fusion::Max => fused.iter_mut().zip(weights).for_each(|(fused, weight)| *fused = fused.max(*weight)),
                Fusion::Min => fused.iter_mut().zip(weights).for_each(|(fused, weight)| *fused = fused.min(*weight)),
            }
        }
        if fusion == Fusion::Mean {
            fused.iter_mut().for_each(|fused| *fused /= heads as f32);
        }
    });
    fused
}

/// The attention of the tokens that are read out: `readers` as in [`Layout::readers`], `weights` `[tokens, tokens]`. A
/// map over patches.
pub fn read(weights: &[f32], readers: &[f32], layout: &Layout) -> Map {
    let tokens = layout.tokens();
    let mut seen = vec![0.0; layout.grid.area()];
    for (row, &share) in weights.chunks_exact(tokens).zip(readers).filter(|(_, share)| **share != 0.0) {
        seen.iter_mut().zip(&row[layout.prefix..]).for_each(|(seen, weight)| *seen += share * weight);
    }
    Map::new(layout.grid, seen)
}

/// The attention of one patch: its row of `weights` `[tokens, tokens]`. A map over patches.
pub fn view(weights: &[f32], patch: usize, layout: &Layout) -> Map {
    let start = (layout.prefix + patch) * layout.tokens() + layout.prefix;
    Map::new(layout.grid, weights[start..start + layout.grid.area()].to_vec())
}

/// The layer and the position in it given by the name of attention weights.
fn place(name: &str) -> Option<(usize, usize)> {
    let rest = name.strip_prefix("blocks.")?.strip_suffix(".attention.weights")?;
    match rest.split_once(".pairs.") {
        None => Some((rest.parse().ok()?, 0)),
        Some((layer, pair)) => Some((layer.parse().ok()?, pair.parse().ok()?)),
    }
}

/// The attentions of a block: two for a parallel pair, otherwise one.
pub(super) fn names(model: &Model, layer: usize, what: &str) -> Vec<String> {
    match model.vit.config().block {
        crate::config::BlockKind::ParallelPairs => {
            (0..2).map(|pair| format!("blocks.{layer}.pairs.{pair}.attention.{what}")).collect()
        }
        _ => vec![format!("blocks.{layer}.attention.{what}")],
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of heads in a layer, counting both attentions if a block has two.
pub fn heads(model: &Model) -> usize {
    names(model, 0, "weights").len() * model.vit.config().heads
}

impl Model {
    /// Runs the model and reduces the attention weights of each layer in `layers` as they are computed:
    /// `reduce(weights)` gets those of one image, `[heads, tokens, tokens]`. Returns the output and, for every layer in
    /// order, the results for each image. Logits have the same bits as in a plain run.
    ///
    /// # Errors
    /// If the model does not accept this input.
    pub fn reduce_attention<R: Send>(
        &self,
        pixels: &Tensor,
        layers: std::ops::Range<usize>,
        reduce: impl Fn(&[f32]) -> R + Sync,
    ) -> Result<(Output, Vec<Vec<R>>), Error> {
        let found: Mutex<Vec<(usize, Vec<R>)>> = Mutex::default();
        let fault: Mutex<Option<DeviceError>> = Mutex::default();
        // The first of a pair waits for the second.
        let waiting: Mutex<Option<Tensor>> = Mutex::default();
        let paired = names(self, 0, "weights").len() == 2;
        let wanted = |name: &str| place(name).is_some_and(|(layer, _)| layers.contains(&layer));
        let output = self.visit(pixels, None, wanted, |name, weights| {
            let Some((layer, part)) = place(name) else { return };
            let one = weights.shape().count() / weights.extent(0).max(1);
            if paired && part == 0 {
                *locked(&waiting) = Some(weights.clone());
                return;
            }
            let first = locked(&waiting).take();
            let numbers = weights.to_vec().and_then(|own| Ok((own, first.map(|first| first.to_vec()).transpose()?)));
            let reduced = match numbers {
                Err(error) => return *locked(&fault) = Some(error),
                Ok((own, None)) => own.par_chunks_exact(one).map(&reduce).collect(),
                Ok((own, Some(first))) => {
                    let both = first.chunks_exact(one).zip(own.chunks_exact(one));
                    both.map(|(a, b)| reduce(&[a, b].concat())).collect()
                }
            };
            locked(&found).push((layer, reduced));
        })?;
        if let Some(fault) = fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(fault.into());
        }
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(layer, _)| *layer);
        Ok((output, found.into_iter().map(|(_, reduced)| reduced).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    const LAYOUT: Layout = Layout {
        prefix: 1,
        grid: Size { height: 1, width: 2 },
        image: Size { height: 4, width: 8 },
        stride: Size { height: 4, width: 4 },
    };

    #[test]
    fn heads_fuse_by_mean_max_and_min() {
        let weights = [1.0, 2.0, 3.0, 4.0, 3.0, 0.0, 5.0, 2.0];
        assert_eq!(fuse(&weights, 2, Fusion::Mean), [2.0, 1.0, 4.0, 3.0]);
        assert_eq!(fuse(&weights, 2, Fusion::Max), [3.0, 2.0, 5.0, 4.0]);
        assert_eq!(fuse(&weights, 2, Fusion::Min), [1.0, 0.0, 3.0, 2.0]);
    }

    #[test]
    fn rows_are_read_without_the_prefix() {
        let weights = [0.2, 0.3, 0.5, 0.1, 0.6, 0.3, 0.4, 0.4, 0.2];
        assert_eq!(read(&weights, &[1.0, 0.0, 0.0], &LAYOUT).values, [0.3, 0.5]);
        assert_eq!(read(&weights, &[0.0, 0.5, 0.5], &LAYOUT).values, [0.5, 0.25]);
        assert_eq!(view(&weights, 1, &LAYOUT).values, [0.4, 0.2]);
    }

    #[test]
    fn names_give_the_layer_of_weights() {
        assert_eq!(place("blocks.11.attention.weights"), Some((11, 0)));
        assert_eq!(place("blocks.2.pairs.1.attention.weights"), Some((2, 1)));
        assert_eq!(place("blocks.2.output"), None);
    }
}
