//! Rotary positions (arXiv:2104.09864) in packed queries and keys, and biases that keys have no part in.

use crate::arena::ParameterId;
use crate::device::backend::{Blocks, GridPlaces, RotationTable, Source};
use crate::tape::Context;
use crate::tensor::Tensor;

/// By how much each token turns, for every pair of channels of a head. Channel `i` of the first half of a head and
/// channel `i` of the second are a pair; the same turn serves every head.
#[derive(Clone, Debug)]
pub struct Rotation(RotationTable);

impl Rotation {
    /// A rotation by `angles` `[tokens, pairs]`, in radians, of all tokens from `prefix` on.
    ///
    /// # Panics
    /// When the angles are not whole tokens.
    pub fn new(prefix: usize, pairs: usize, angles: &[f32]) -> Self {
        assert!(pairs > 0 && angles.len().is_multiple_of(pairs), "{} angles for {pairs} pairs a token", angles.len());
        let (cosines, sines) = angles.iter().map(|angle| (angle.cos(), angle.sin())).unzip::<_, _, Vec<_>, Vec<_>>();
        Rotation(RotationTable { prefix, pairs, cosines: cosines.into(), sines: sines.into() })
    }

    /// Tokens that turn.
    pub fn tokens(&self) -> usize {
        self.0.tokens()
    }
}

/// Where tokens are that turn by frequencies of their own heads: on a grid, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Places(GridPlaces);

impl Places {
    /// All tokens from `prefix` on, on a grid of rows and columns; `pairs` of channels in a head. The first frequencies
    /// are those of rows, or else those of columns.
    ///
    /// # Panics
    /// When the grid or the heads are empty.
    pub fn new(prefix: usize, pairs: usize, grid: [usize; 2], rows_first: bool) -> Self {
        assert!(pairs > 0 && grid[0] > 0 && grid[1] > 0, "{pairs} pairs on a grid of {grid:?}");
        Places(GridPlaces { prefix, pairs, grid, rows_first })
    }
}

impl Context<'_> {
    /// Turns queries and keys in packed `qkv`, `[batch, tokens, 3 · heads · head width]`, by each token's place; values
    /// and tokens before the rotation's first pass through.
    ///
    /// # Panics
    /// If the number of tokens is not that of the rotation, or heads are not a whole number of pairs.
    pub fn rotate_queries_and_keys(&self, qkv: &Tensor, rotation: &Rotation) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else {
            panic!("[batch, tokens, 3 · heads · head width], not {:?}", qkv.shape())
        };
        let (table, expected) = (&rotation.0, rotation.0.prefix + rotation.tokens());
        assert_eq!(tokens, expected, "a rotation of {expected} tokens over {:?}", qkv.shape());
        assert!((packed / 3).is_multiple_of(2 * table.pairs), "{} pairs a head in {:?}", table.pairs, qkv.shape());
        let output = self.backend().rotate(qkv, table, false);
        let node = qkv.node;
        self.record(output, node.is_some(), || {
            let table = table.clone();
            Box::new(move |grad, gradients| gradients.add(node, |g| g.backend().rotate(grad, &table, true)))
        })
    }

    /// As [`Context::rotate_queries_and_keys`], by angles that are frequencies times a token's places: `frequencies` is
    /// `[2, heads · pairs]`, those of the first axis and of the second, which are learned.
    ///
    /// # Panics
    /// If the number of tokens is not that of the grid, or frequencies are not those of all heads.
    pub fn rotate_queries_and_keys_by(&self, qkv: &Tensor, frequencies: ParameterId, places: Places) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else {
            panic!("[batch, tokens, 3 · heads · head width], not {:?}", qkv.shape())
        };
        let Places(places) = places;
        let expected = places.prefix + places.grid[0] * places.grid[1];
        assert_eq!(tokens, expected, "a rotation of {expected} tokens over {:?}", qkv.shape());
        assert!((packed / 3).is_multiple_of(2 * places.pairs), "{} pairs a head in {:?}", places.pairs, qkv.shape());
        assert_eq!(self.view(frequencies).count(), packed / 3, "frequencies for {:?}", qkv.shape());
        let output = self.backend().rotate_by(qkv, self.view(frequencies), places, false);
        let (node, turned) = (qkv.node, output.clone());
        self.record(output, self.depends(qkv, [frequencies]), || {
            Box::new(move |grad, gradients| {
                if gradients.range(frequencies).is_some() {
                    let own = gradients.backend().rotate_by_backward(&turned, grad, places);
                    gradients.add_row_sums(frequencies, &own);
                }
                gradients.add(node, |g| g.backend().rotate_by(grad, g.view(frequencies), places, true));
            })
        })
    }

    /// Adds biases to queries and values in packed `qkv`, `[…, 3 · width]`; keys have none. Each bias is `[width]`.
    ///
    /// # Panics
    /// When the biases are not as wide as a third of the packed extent.
    pub fn add_query_value_bias(&self, qkv: &Tensor, query: ParameterId, value: ParameterId) -> Tensor {
        let (rows, packed) = (qkv.rows(), qkv.shape().last());
        let width = packed / 3;
        let fits = [query, value].iter().all(|&id| self.view(id).count() == width);
        assert!(fits, "biases of a third of {:?}", qkv.shape());
        let output = self.backend().add_query_value_bias(qkv, self.view(query), self.view(value));
        let node = qkv.node;
        self.record(output, self.depends(qkv, [query, value]), || {
            Box::new(move |grad, gradients| {
                for (start, id) in [(0, query), (2 * width, value)] {
                    if gradients.range(id).is_some() {
                        let blocks = Blocks::runs(rows, width, [start, packed], [0, width]);
                        let own = gradients.backend().assemble([rows, width].into(), &[(Source::Tensor(grad), blocks)]);
                        gradients.add_row_sums(id, &own);
                    }
                }
                gradients.add(node, |_| grad.clone());
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    fn rotation(prefix: usize, tokens: usize, pairs: usize) -> Rotation {
        let angles: Vec<f32> = (0..tokens * pairs).map(|i| (i as f32 * 0.7).sin() * 4.0).collect();
        Rotation::new(prefix, pairs, &angles)
    }

    /// By the definition: `x · cos + rotate_half(x) · sin`, cosines and sines repeated over both halves of a head.
    fn reference(x: &[f32], rotation: &Rotation, [tokens, heads, pairs]: [usize; 3]) -> Vec<f32> {
        let (head, width) = (2 * pairs, heads * 2 * pairs);
        let mut out = x.to_vec();
        for (i, out) in out.iter_mut().enumerate() {
            let (token, channel) = (i / (3 * width) % tokens, i % (3 * width));
            if token < rotation.0.prefix || channel >= 2 * width {
                continue;
            }
            let (place, pair) = (channel % head, channel % pairs);
            let at = (token - rotation.0.prefix) * pairs + pair;
            let half = if place < pairs { -x[i + pairs] } else { x[i - pairs] };
            *out = x[i] * rotation.0.cosines[at] + half * rotation.0.sines[at];
        }
        out
    }

    #[test]
    fn equals_the_definition_at_odd_sizes() {
        for (batch, prefix, tokens, heads, pairs) in
            [(1, 0, 1, 1, 1), (2, 1, 6, 3, 4), (3, 5, 7, 2, 9), (1, 2, 3, 1, 32)]
        {
            let check = Check::new();
            let all = prefix + tokens;
            let x = check.input(&[batch, all, 3 * heads * 2 * pairs]);
            let rotation = rotation(prefix, tokens, pairs);
            let found = check.run(std::slice::from_ref(&x), |cx, x| cx.rotate_queries_and_keys(&x[0], &rotation));
            let expected = reference(&x.values(), &rotation, [all, heads, pairs]);
            for (found, expected) in found.values().iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
            }
            check.fused_equals_recorded(&[x], |cx, x| cx.rotate_queries_and_keys(&x[0], &rotation));
        }
    }

    #[test]
    fn equals_pytorch() {
        let golden = Golden::load("rotary");
        let (qkv, angles) = (golden.tensor("qkv"), golden.tensor("angles"));
        let [patches, pairs] = angles.shape()[..] else { panic!("[patches, pairs]") };
        let rotation = Rotation::new(qkv.extent(1) - patches, pairs, &angles.values());
        Check::new().against(&golden, &[qkv], &["qkv"], |cx, x| cx.rotate_queries_and_keys(&x[0], &rotation));
    }

    #[test]
    fn turns_keep_lengths_and_depend_on_distance_alone() {
        // Two tokens that turn by the same angle have the same product as before.
        let check = Check::new();
        let x = check.input(&[1, 2, 3 * 4]);
        let rotation = Rotation::new(0, 2, &[0.3, 1.1, 0.3, 1.1]);
        let y = check.run(std::slice::from_ref(&x), |cx, x| cx.rotate_queries_and_keys(&x[0], &rotation));
        let score = |x: &[f32]| (0..4).map(|i| x[i] * x[12 + 4 + i]).sum::<f32>();
        assert!((score(&x.values()) - score(&y.values())).abs() < 1e-5);
        assert_eq!(x.values()[8..12], y.values()[8..12]);
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        let rotation = rotation(1, 3, 2);
        check.differences(&[check.input(&[2, 4, 24])], |cx, x| cx.rotate_queries_and_keys(&x[0], &rotation));
        let mut check = Check::new();
        let (query, value) = (check.vector(5), check.vector(5));
        check.differences(&[check.input(&[2, 3, 15])], |cx, x| cx.add_query_value_bias(&x[0], query, value));
    }

    #[test]
    fn learned_rotations_equal_those_by_their_angles() {
        for (batch, prefix, grid, heads, pairs, rows_first) in [
            (1, 0, [1, 1], 1, 1, true),
            (2, 1, [2, 3], 3, 4, false),
            (3, 5, [3, 1], 2, 9, true),
            (1, 2, [7, 5], 1, 2, false),
        ] {
            let mut check = Check::new();
            let frequencies = check.plain(&[2, heads * pairs]);
            let x = check.input(&[batch, prefix + grid[0] * grid[1], 3 * heads * 2 * pairs]);
            let places = Places::new(prefix, pairs, grid, rows_first);
            let by = |cx: &Context<'_>, x: &[Tensor]| cx.rotate_queries_and_keys_by(&x[0], frequencies, places);
            let found = check.run(std::slice::from_ref(&x), by);
            let values = check.values(frequencies);
            // Each head turns by a rotation of its own.
            for head in 0..heads {
                let angle = |token: usize, pair: usize| {
                    let (row, column) = ((token / grid[1]) as f32, (token % grid[1]) as f32);
                    let (first, second) = if rows_first { (row, column) } else { (column, row) };
                    first * values[head * pairs + pair] + second * values[(heads + head) * pairs + pair]
                };
                let angles: Vec<f32> =
                    (0..grid[0] * grid[1]).flat_map(|token| (0..pairs).map(move |pair| angle(token, pair))).collect();
                let rotation = Rotation::new(prefix, pairs, &angles);
                let alone = check.run(std::slice::from_ref(&x), |cx, x| cx.rotate_queries_and_keys(&x[0], &rotation));
                let width = heads * 2 * pairs;
                for (i, (found, expected)) in found.values().iter().zip(alone.values()).enumerate() {
                    if i % width / (2 * pairs) == head {
                        assert!((found - expected).abs() < 1e-5, "[{i}] is {found}, expected {expected}");
                    }
                }
            }
            check.fused_equals_recorded(&[x], by);
        }
    }

    #[test]
    fn gradients_of_frequencies_are_those_of_differences() {
        for (grid, rows_first) in [([2, 3], true), ([3, 2], false)] {
            let mut check = Check::new();
            let frequencies = check.plain(&[2, 6]);
            let places = Places::new(1, 3, grid, rows_first);
            let x = check.input(&[2, 7, 36]);
            check.differences(&[x], |cx, x| cx.rotate_queries_and_keys_by(&x[0], frequencies, places));
        }
    }

    #[test]
    fn keys_have_no_bias() {
        let mut check = Check::new();
        let (query, value) = (check.vector(2), check.vector(2));
        let x = check.tensor(&[1, 6], &[0.0; 6]);
        let y = check.run(&[x], |cx, x| cx.add_query_value_bias(&x[0], query, value));
        let expected = [check.values(query), vec![0.0; 2], check.values(value)].concat();
        assert_eq!(y.values(), expected);
    }
}
