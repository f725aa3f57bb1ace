//! Attention through all layers at once.
//!
//! Rollout (Abnar & Zuidema, arXiv:2005.00928) multiplies the layers' attention, each mixed with the identity for the
//! residual connection. Only the rows of the tokens that are read out are needed, so a row vector is propagated from
//! the last layer to the first: vector-matrix products instead of matrix products.

use super::{Layout, Map};

/// How rollout treats each layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutOptions {
    /// The fraction of the weakest weights to patches that is dropped in each layer, from 0 to below 1. Weights to
    /// prefix tokens are kept.
    pub discard: f32,
    /// Whether to average with the identity, for the residual connection.
    pub identity: bool,
}

impl Default for RolloutOptions {
    fn default() -> Self {
        RolloutOptions { discard: 0.0, identity: true }
    }
}

/// Sets the weakest fraction `share` of the weights to patches to 0; among ties, the first.
fn discard(weights: &mut [f32], tokens: usize, prefix: usize, share: f32) {
    let mut places: Vec<usize> = (0..weights.len()).filter(|place| place % tokens >= prefix).collect();
    let count = (f64::from(share) * places.len() as f64) as usize;
    if count == 0 {
        return;
    }
    places.select_nth_unstable_by(count - 1, |&a, &b| weights[a].total_cmp(&weights[b]).then(a.cmp(&b)));
    for &place in &places[..count] {
        weights[place] = 0.0;
    }
}

/// Rollout of `layers`, each `[tokens, tokens]` with its heads already fused, from the input on; `readers` as in
/// [`Layout::readers`]. A map over patches.
pub fn rollout(layers: &[Vec<f32>], readers: &[f32], layout: &Layout, options: RolloutOptions) -> Map {
    let tokens = layout.tokens();
    let mut row = readers.to_vec();
    for weights in layers.iter().rev() {
        let kept;
        let weights = if options.discard > 0.0 {
            let mut copy = weights.clone();
            discard(&mut copy, tokens, layout.prefix, options.discard);
            kept = copy;
            &kept
        } else {
            weights
        };
        // Rows of (A + I) / 2 are normalized to a sum of 1, which fusing and dropping may have changed.
        let own = if options.identity { 1.0 } else { 0.0 };
        let mut next = vec![0.0; tokens];
        for (query, weights) in weights.chunks_exact(tokens).enumerate().filter(|(query, _)| row[*query] != 0.0) {
            let sum: f32 = weights.iter().sum::<f32>() + own;
            let share = if sum > 0.0 { row[query] / sum } else { 0.0 };
            next.iter_mut().zip(weights).for_each(|(next, weight)| *next += share * weight);
            next[query] += share * own;
        }
        row = next;
    }
    Map::new(layout.grid, row[layout.prefix..].to_vec())
}

/// The mean over heads of attention times gradient where positive, `(gradient ⊙ weights)⁺`, `[tokens, tokens]`.
/// Relevance accumulates it over the layers; gradient-weighted rollout multiplies it like [`rollout`] does attention.
pub fn agreement(weights: &[f32], gradient: &[f32], tokens: usize) -> Vec<f32> {
    let area = tokens * tokens;
    let heads = weights.len() / area;
    let mut mean = vec![0.0; area];
    for (weights, gradient) in weights.chunks_exact(area).zip(gradient.chunks_exact(area)) {
        for ((mean, weight), gradient) in mean.iter_mut().zip(weights).zip(gradient) {
            *mean += (weight * gradient).max(0.0);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= heads as f32);
    mean
}

/// Class-specific relevance by the self-attention rule of Chefer, Gur & Wolf (arXiv:2103.15679): starting from the
/// identity, `R ← R + Ā R`, where `Ā` is the [`agreement`] of each of `layers`. A map over patches.
pub fn relevance(layers: &[Vec<f32>], readers: &[f32], layout: &Layout) -> Map {
    let tokens = layout.tokens();
    let mut row = readers.to_vec();
    for agreement in layers.iter().rev() {
        let mut next = row.clone();
        for (query, agreement) in agreement.chunks_exact(tokens).enumerate().filter(|(query, _)| row[*query] != 0.0) {
            next.iter_mut().zip(agreement).for_each(|(next, agreement)| *next += row[query] * agreement);
        }
        row = next;
    }
    Map::new(layout.grid, row[layout.prefix..].to_vec())
}

#[cfg(test)]
mod tests {
    use vitral_engine::random::uniform;

    use super::*;
    use crate::config::Size;

    const LAYOUT: Layout = Layout {
        prefix: 1,
        grid: Size { height: 2, width: 3 },
        image: Size { height: 8, width: 12 },
        stride: Size { height: 4, width: 4 },
    };
    const TOKENS: usize = 7;

    fn layers() -> Vec<Vec<f32>> {
        (0..3).map(|layer| (0..TOKENS * TOKENS).map(|i| uniform(layer, i as u64)).collect()).collect()
    }

    fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
        let at = |i: usize, j: usize| (0..TOKENS).map(|k| a[i * TOKENS + k] * b[k * TOKENS + j]).sum();
        (0..TOKENS * TOKENS).map(|place| at(place / TOKENS, place % TOKENS)).collect()
    }

    fn identity() -> Vec<f64> {
        (0..TOKENS * TOKENS).map(|place| f64::from(u8::from(place / TOKENS == place % TOKENS))).collect()
    }

    #[test]
    fn propagating_a_row_gives_the_row_of_the_product() {
        let mut whole = identity();
        let mut relevant = identity();
        for layer in layers() {
            let layer: Vec<f64> = layer.into_iter().map(f64::from).collect();
            let mut mixed: Vec<f64> = layer.iter().zip(identity()).map(|(a, i)| (a + i) / 2.0).collect();
            for row in mixed.chunks_exact_mut(TOKENS) {
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|x| *x /= sum);
            }
            whole = product(&mixed, &whole);
            relevant = product(&layer, &relevant).iter().zip(&relevant).map(|(a, b)| a + b).collect();
        }
        let readers: Vec<f32> = (0..TOKENS).map(|i| i as f32 / 21.0).collect();
        let expected = |whole: &[f64], patch: usize| -> f64 {
            (0..TOKENS).map(|i| f64::from(readers[i]) * whole[i * TOKENS + 1 + patch]).sum()
        };
        let rolled = rollout(&layers(), &readers, &LAYOUT, RolloutOptions::default());
        let found = relevance(&layers(), &readers, &LAYOUT);
        for patch in 0..6 {
            assert!((f64::from(rolled.values[patch]) - expected(&whole, patch)).abs() < 1e-6);
            let expected = expected(&relevant, patch);
            assert!((f64::from(found.values[patch]) - expected).abs() < 1e-5 * expected);
        }
    }

    #[test]
    fn dropping_keeps_the_strongest_and_the_prefix() {
        let mut weights = vec![0.1, 0.5, 0.4, 0.0, 0.3, 0.7, 0.2, 0.2, 0.6];
        discard(&mut weights, 3, 1, 0.5);
        assert_eq!(weights, [0.1, 0.5, 0.0, 0.0, 0.0, 0.7, 0.2, 0.0, 0.6]);
    }

    #[test]
    fn an_empty_row_gives_zeros_and_not_nans() {
        let options = RolloutOptions { discard: 0.0, identity: false };
        let map = rollout(&[vec![0.0; TOKENS * TOKENS]], &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &LAYOUT, options);
        assert_eq!(map.values, [0.0; 6]);
    }
}
