//! Rotary positions (arXiv:2104.09864) in packed queries and keys, and biases that keys have no part in.

use std::sync::Arc;

use crate::arena::ParameterId;
use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::{Kernel, Lanes, SharedMut};
use crate::tape::Context;
use crate::tensor::Tensor;

/// By how much each token turns, for every pair of channels of a head. Channel `i` of the first half of a head and channel
/// `i` of the second are a pair; the same turn serves every head.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Tokens before the first that turns.
    prefix: usize,
    /// Pairs in a head.
    pairs: usize,
    /// `[tokens, pairs]`.
    cosines: Arc<[f32]>,
    /// `[tokens, pairs]`.
    sines: Arc<[f32]>,
}

impl Rotation {
    /// A rotation by `angles` `[tokens, pairs]`, in radians, of all tokens from `prefix` on.
    ///
    /// # Panics
    /// When the angles are not whole tokens.
    pub fn new(prefix: usize, pairs: usize, angles: &[f32]) -> Self {
        assert!(pairs > 0 && angles.len().is_multiple_of(pairs), "{} angles for {pairs} pairs a token", angles.len());
        let (cosines, sines) = angles.iter().map(|angle| (angle.cos(), angle.sin())).unzip::<_, _, Vec<_>, Vec<_>>();
        Rotation { prefix, pairs, cosines: cosines.into(), sines: sines.into() }
    }

    /// Tokens that turn.
    pub fn tokens(&self) -> usize {
        self.cosines.len() / self.pairs
    }

    /// Turns the queries and keys of one sample, `[prefix + tokens, 3 · heads · 2 · pairs]`, forwards or back.
    fn turn(&self, device: &Cpu, x: &[f32], out: &mut [f32], width: usize, back: bool) {
        let (head, sign) = (2 * self.pairs, if back { -1.0 } else { 1.0 });
        out.copy_from_slice(x);
        for token in 0..self.tokens() {
            let row = (self.prefix + token) * 3 * width;
            let at = token * self.pairs..(token + 1) * self.pairs;
            let (cosines, sines) = (&self.cosines[at.clone()], &self.sines[at]);
            // Queries and keys lie side by side, heads within them: all of it turns alike.
            let heads = out[row..row + 2 * width].chunks_exact_mut(head);
            for (x, out) in x[row..row + 2 * width].chunks_exact(head).zip(heads) {
                device.isa().run(Turn { x, out, cosines, sines, sign });
            }
        }
    }
}

/// One head of one token: `(a, b)` becomes `(a cos − b sin, b cos + a sin)`.
struct Turn<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    cosines: &'a [f32],
    sines: &'a [f32],
    sign: f32,
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Turn { x, out, cosines, sines, sign } = self;
        let (first, second) = x.split_at(cosines.len());
        let (out_first, out_second) = out.split_at_mut(cosines.len());
        for i in 0..cosines.len() {
            let sine = sign * sines[i];
            out_first[i] = first[i] * cosines[i] - second[i] * sine;
            out_second[i] = second[i] * cosines[i] + first[i] * sine;
        }
    }
}

impl Context<'_> {
    /// Turns queries and keys in packed `qkv`, `[batch, tokens, 3 · heads · head width]`, by each token's place; values and
    /// tokens before the rotation's first pass through.
    ///
    /// # Panics
    /// When there are not as many tokens as the rotation has, or heads are no whole number of pairs.
    pub fn rotate_queries_and_keys(&self, qkv: &Tensor, rotation: &Rotation) -> Tensor {
        let [batch, tokens, packed] = qkv.shape()[..] else {
            panic!("[batch, tokens, 3 · heads · head width], not {:?}", qkv.shape())
        };
        let (width, expected) = (packed / 3, rotation.prefix + rotation.tokens());
        assert_eq!(tokens, expected, "a rotation of {expected} tokens over {:?}", qkv.shape());
        assert!(width.is_multiple_of(2 * rotation.pairs), "{} pairs a head in {:?}", rotation.pairs, qkv.shape());
        let sample = tokens * packed;
        let turned = move |device: &Cpu, rotation: &Rotation, x: &Tensor, back: bool| {
            Tensor::filled(device, x.shape(), |out| {
                let out = SharedMut::new(out);
                device.parallel(batch, |i| {
                    let x = &x.values()[i * sample..][..sample];
                    rotation.turn(device, x, out.part(i * sample, sample), width, back);
                });
            })
        };
        let output = turned(self.device, rotation, qkv, false);
        let node = qkv.node;
        self.record(output, node.is_some(), || {
            let rotation = rotation.clone();
            Box::new(move |grad, gradients| gradients.add(node, |g| turned(g.device, &rotation, grad, true)))
        })
    }

    /// Adds biases to queries and values in packed `qkv`, `[…, 3 · width]`; keys have none. Each bias is `[width]`.
    ///
    /// # Panics
    /// When the biases are not as wide as a third of the packed extent.
    pub fn add_query_value_bias(&self, qkv: &Tensor, query: ParameterId, value: ParameterId) -> Tensor {
        let (biases, packed) = ([query, value].map(|id| self.parameters.plain(id)), qkv.shape().last());
        let width = packed / 3;
        assert!(biases.iter().all(|bias| bias.len() == width), "biases of a third of {:?}", qkv.shape());
        let output = Tensor::filled(self.device, qkv.shape(), |out| {
            out.copy_from_slice(qkv.values());
            for row in out.chunks_exact_mut(packed) {
                for (start, bias) in [0, 2 * width].into_iter().zip(biases) {
                    row[start..start + width].iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                }
            }
        });
        let node = qkv.node;
        self.record(output, self.depends(qkv, [query, value]), || {
            Box::new(move |grad, gradients| {
                for (start, id) in [(0, query), (2 * width, value)] {
                    if let Some(sums) = gradients.parameter(id) {
                        for row in grad.values().chunks_exact(packed) {
                            sums.iter_mut().zip(&row[start..start + width]).for_each(|(sum, x)| *sum += x);
                        }
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
            if token < rotation.prefix || channel >= 2 * width {
                continue;
            }
            let (place, pair) = (channel % head, channel % pairs);
            let at = (token - rotation.prefix) * pairs + pair;
            let half = if place < pairs { -x[i + pairs] } else { x[i - pairs] };
            *out = x[i] * rotation.cosines[at] + half * rotation.sines[at];
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
            let expected = reference(x.values(), &rotation, [all, heads, pairs]);
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
        let rotation = Rotation::new(qkv.extent(1) - patches, pairs, angles.values());
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
        assert!((score(x.values()) - score(y.values())).abs() < 1e-5);
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
    fn keys_have_no_bias() {
        let mut check = Check::new();
        let (query, value) = (check.vector(2), check.vector(2));
        let x = check.tensor(&[1, 6], &[0.0; 6]);
        let y = check.run(&[x], |cx, x| cx.add_query_value_bias(&x[0], query, value));
        let expected = [check.values(query), vec![0.0; 2], check.values(value)].concat();
        assert_eq!(y.values(), expected);
    }
}
