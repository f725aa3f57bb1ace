//! Attention as it is written in its paper (arXiv:1706.03762), one number at a time.

use super::elements::softmax_row;
use super::memory::Memory;
use super::operands::Operands;
use super::{Reference, stored};
use crate::device::backend::{AttentionCall, AttentionOps};
use crate::random::uniform;
use crate::tensor::Tensor;

/// Extents of one call, to be sent with queued work.
#[derive(Clone, Copy)]
struct Extents {
    batch: usize,
    tokens: usize,
    queries: usize,
    heads: usize,
    width: usize,
    scale: f64,
    dropout: Option<(u64, usize, f32)>,
    operands: Operands,
}

impl Extents {
    fn of(device: &Reference, call: &AttentionCall) -> Self {
        let &AttentionCall { batch, tokens, queries, heads, width, scale, dropout, .. } = call;
        let dropout = dropout.map(|(draw, rate)| (draw.key, draw.first_image, rate));
        Extents {
            batch,
            tokens,
            queries,
            heads,
            width,
            scale: f64::from(scale),
            dropout,
            operands: device.rounding(None),
        }
    }

    /// Where element `d` of a head's query (0), key (1) or value (2) is in packed `qkv`.
    fn qkv(&self, image: usize, token: usize, which: usize, head: usize, d: usize) -> usize {
        (((image * self.tokens + token) * 3 + which) * self.heads + head) * self.width + d
    }

    /// Where the weight of a key for a query is.
    fn weight(&self, image: usize, head: usize, query: usize, key: usize) -> usize {
        ((image * self.heads + head) * self.queries + query) * self.tokens + key
    }

    /// Where element `d` of a query's output is.
    fn output(&self, image: usize, query: usize, head: usize, d: usize) -> usize {
        ((image * self.queries + query) * self.heads + head) * self.width + d
    }

    /// What dropout multiplies a weight by.
    fn kept(&self, image: usize, head: usize, query: usize, key: usize) -> f64 {
        let Some((seed, first_image, rate)) = self.dropout else { return 1.0 };
        let image = first_image + image;
        let index = ((image * self.heads + head) * self.tokens + query) * self.tokens + key;
        match uniform(seed, index as u64) < rate {
            true => 0.0,
            false => 1.0 / (1.0 - f64::from(rate)),
        }
    }

    /// Calls `visit` for every head of every image and every query.
    fn each_query(&self, mut visit: impl FnMut(usize, usize, usize)) {
        for image in 0..self.batch {
            for head in 0..self.heads {
                (0..self.queries).for_each(|query| visit(image, head, query));
            }
        }
    }

    /// The weights of all keys for one query.
    fn weights(&self, qkv: &[f64], mask: &[f64], bias: &[f64], at: (usize, usize, usize)) -> Vec<f64> {
        let (image, head, query) = at;
        let qkv = |place: usize| self.operands.value(qkv[place]);
        let mut row: Vec<f64> = (0..self.tokens)
            .map(|key| {
                let product: f64 = (0..self.width)
                    .map(|d| qkv(self.qkv(image, query, 0, head, d)) * qkv(self.qkv(image, key, 1, head, d)))
                    .sum();
                let bias = bias.get((head * self.tokens + query) * self.tokens + key).copied().unwrap_or(0.0);
                product * self.scale + bias + mask.get(image * self.tokens + key).copied().unwrap_or(0.0)
            })
            .collect();
        softmax_row(&mut row);
        row
    }

    /// From the gradients of one query's weights to those of its scores, in place.
    fn softmax_backward(weights: &[f64], grad: &mut [f64]) {
        let inner: f64 = weights.iter().zip(grad.iter()).map(|(w, g)| w * g).sum();
        grad.iter_mut().zip(weights).for_each(|(grad, weight)| *grad = weight * (*grad - inner));
    }

    /// Adds the gradients of one query's scores to those of queries and keys.
    fn add_score_gradients(&self, qkv: &[f64], out: &mut [f64], at: (usize, usize, usize), scores: &[f64]) {
        let (image, head, query) = at;
        for (key, score) in scores.iter().enumerate() {
            for d in 0..self.width {
                let (q, k) = (self.qkv(image, query, 0, head, d), self.qkv(image, key, 1, head, d));
                out[q] += self.scale * score * qkv[k];
                out[k] += self.scale * score * qkv[q];
            }
        }
    }

    /// Adds the gradients of one query's scores to those of the bias.
    fn add_bias_gradients(&self, out: &mut [f64], (_, head, query): (usize, usize, usize), scores: &[f64]) {
        for (key, score) in scores.iter().enumerate() {
            if let Some(out) = out.get_mut((head * self.tokens + query) * self.tokens + key) {
                *out += score;
            }
        }
    }
}

impl Reference {
    fn operands(&self, call: &AttentionCall) -> [Memory; 3] {
        let maybe = |tensor: &Option<Tensor>| tensor.as_ref().map_or_else(|| self.nothing(), |x| stored(x).clone());
        [stored(&call.qkv).clone(), maybe(&call.key_mask), maybe(&call.bias)]
    }

    /// The shape of the bias's gradient: empty where it is not wanted.
    fn bias_shape(call: &AttentionCall, wanted: bool) -> [usize; 3] {
        if wanted { [call.heads, call.tokens, call.tokens] } else { [0, call.tokens, call.tokens] }
    }
}

impl AttentionOps for Reference {
    fn attention(&self, call: &AttentionCall, capture: bool) -> (Tensor, Option<Tensor>) {
        let extents = Extents::of(self, call);
        let [qkv, mask, bias] = &self.operands(call);
        let shapes = [
            [call.batch, call.queries, call.heads * call.width].into(),
            [call.batch, call.heads, call.queries, call.tokens].into(),
        ];
        let [output, weights] = self.compute_two(shapes, [qkv, mask, bias], move |[qkv, mask, bias], [out, all]| {
            extents.each_query(|image, head, query| {
                let weights = extents.weights(qkv, mask, bias, (image, head, query));
                for (key, weight) in weights.iter().enumerate() {
                    all[extents.weight(image, head, query, key)] = *weight;
                }
                let weights = extents.operands.weights(&weights);
                for d in 0..extents.width {
                    out[extents.output(image, query, head, d)] = (weights.iter().enumerate())
                        .map(|(key, weight)| {
                            let value = extents.operands.value(qkv[extents.qkv(image, key, 2, head, d)]);
                            weight * extents.kept(image, head, query, key) * value
                        })
                        .sum();
                }
            });
        });
        (output, capture.then_some(weights))
    }

    fn attention_backward(&self, call: &AttentionCall, grad: &Tensor, bias: bool) -> (Tensor, Option<Tensor>) {
        let extents = Extents::of(self, call);
        let [qkv, mask, own_bias] = &self.operands(call);
        let shapes = [call.qkv.shape(), Reference::bias_shape(call, bias).into()];
        let reads = [qkv, mask, own_bias, stored(grad)];
        let [of_qkv, of_bias] = self.compute_two(shapes, reads, move |[qkv, mask, bias, grad], [out, out_bias]| {
            out.fill(0.0);
            out_bias.fill(0.0);
            extents.each_query(|image, head, query| {
                let at = (image, head, query);
                let weights = extents.weights(qkv, mask, bias, at);
                let mut scores = vec![0.0; extents.tokens];
                for (key, weight) in weights.iter().enumerate() {
                    let kept = extents.kept(image, head, query, key);
                    for d in 0..extents.width {
                        let upstream = grad[extents.output(image, query, head, d)];
                        let value = extents.qkv(image, key, 2, head, d);
                        out[value] += weight * kept * upstream;
                        scores[key] += kept * upstream * qkv[value];
                    }
                }
                Extents::softmax_backward(&weights, &mut scores);
                extents.add_bias_gradients(out_bias, at, &scores);
                extents.add_score_gradients(qkv, out, at, &scores);
            });
        });
        (of_qkv, bias.then_some(of_bias))
    }

    fn attention_output_backward(&self, call: &AttentionCall, weights: &Tensor, grad: &Tensor) -> (Tensor, Tensor) {
        let extents = Extents::of(self, call);
        let reads = [stored(&call.qkv), stored(weights), stored(grad)];
        let shapes = [weights.shape(), call.qkv.shape()];
        let [of_weights, of_qkv] = self.compute_two(shapes, reads, move |[qkv, weights, grad], [out_weights, out]| {
            out.fill(0.0);
            out_weights.fill(0.0);
            extents.each_query(|image, head, query| {
                for key in 0..extents.tokens {
                    let (at, kept) = (extents.weight(image, head, query, key), extents.kept(image, head, query, key));
                    for d in 0..extents.width {
                        let upstream = grad[extents.output(image, query, head, d)];
                        let value = extents.qkv(image, key, 2, head, d);
                        out[value] += weights[at] * kept * upstream;
                        out_weights[at] += kept * upstream * qkv[value];
                    }
                }
            });
        });
        (of_weights, of_qkv)
    }

    fn attention_weights_backward(
        &self,
        call: &AttentionCall,
        weights: &Tensor,
        grad: &Tensor,
        bias: bool,
    ) -> (Tensor, Option<Tensor>) {
        let extents = Extents::of(self, call);
        let reads = [stored(&call.qkv), stored(weights), stored(grad)];
        let shapes = [call.qkv.shape(), Reference::bias_shape(call, bias).into()];
        let [of_qkv, of_bias] = self.compute_two(shapes, reads, move |[qkv, weights, grad], [out, out_bias]| {
            out.fill(0.0);
            out_bias.fill(0.0);
            extents.each_query(|image, head, query| {
                let at = (image, head, query);
                let first = extents.weight(image, head, query, 0);
                let mut scores = grad[first..first + extents.tokens].to_vec();
                Extents::softmax_backward(&weights[first..first + extents.tokens], &mut scores);
                extents.add_bias_gradients(out_bias, at, &scores);
                extents.add_score_gradients(qkv, out, at, &scores);
            });
        });
        (of_qkv, bias.then_some(of_bias))
    }

    fn probe_attention(&self, query: &Tensor, keys_values: &Tensor, heads: usize, scale: f32) -> (Tensor, Tensor) {
        let probe = Probe::of(keys_values, heads, scale);
        let shapes = [[probe.batch, probe.width].into(), [probe.batch, heads, probe.tokens].into()];
        let reads = [stored(query), stored(keys_values)];
        let [output, weights] = self.compute_two(shapes, reads, move |[query, both], [out, all]| {
            out.fill(0.0);
            probe.each_head(|sample, head| {
                let weights = &mut all[(sample * probe.heads + head) * probe.tokens..][..probe.tokens];
                for (token, weight) in weights.iter_mut().enumerate() {
                    let product = |d| query[head * probe.head() + d] * both[probe.at(sample, token, 0, head, d)];
                    *weight = probe.scale * (0..probe.head()).map(product).sum::<f64>();
                }
                softmax_row(weights);
                for (token, weight) in weights.iter().enumerate() {
                    for d in 0..probe.head() {
                        out[sample * probe.width + head * probe.head() + d] +=
                            weight * both[probe.at(sample, token, 1, head, d)];
                    }
                }
            });
        });
        (output, weights)
    }

    fn probe_attention_backward(
        &self,
        query: &Tensor,
        keys_values: &Tensor,
        weights: &Tensor,
        grad: &Tensor,
        heads: usize,
        scale: f32,
    ) -> (Tensor, Tensor) {
        let probe = Probe::of(keys_values, heads, scale);
        let reads = [stored(query), stored(keys_values), stored(weights), stored(grad)];
        let shapes = [query.shape(), keys_values.shape()];
        let [of_query, of_both] = self.compute_two(shapes, reads, move |[query, both, weights, grad], [oq, out]| {
            oq.fill(0.0);
            probe.each_head(|sample, head| {
                let weights = &weights[(sample * probe.heads + head) * probe.tokens..][..probe.tokens];
                let upstream = |d: usize| grad[sample * probe.width + head * probe.head() + d];
                let mut scores: Vec<f64> = (0..probe.tokens)
                    .map(|token| {
                        (0..probe.head()).map(|d| upstream(d) * both[probe.at(sample, token, 1, head, d)]).sum()
                    })
                    .collect();
                Extents::softmax_backward(weights, &mut scores);
                for (token, score) in scores.iter().enumerate() {
                    for d in 0..probe.head() {
                        let (key, q) = (probe.at(sample, token, 0, head, d), head * probe.head() + d);
                        out[probe.at(sample, token, 1, head, d)] = weights[token] * upstream(d);
                        out[key] = probe.scale * score * query[q];
                        oq[q] += probe.scale * score * both[key];
                    }
                }
            });
        });
        (of_query, of_both)
    }
}

/// Extents of attention by one query.
#[derive(Clone, Copy)]
struct Probe {
    batch: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    scale: f64,
}

impl Probe {
    fn of(keys_values: &Tensor, heads: usize, scale: f32) -> Self {
        let [batch, tokens, both] = keys_values.shape()[..] else { panic!("keys and values are [batch, tokens, …]") };
        Probe { batch, tokens, width: both / 2, heads, scale: f64::from(scale) }
    }

    fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Where element `d` of a head's key (0) or value (1) is.
    fn at(&self, sample: usize, token: usize, which: usize, head: usize, d: usize) -> usize {
        ((sample * self.tokens + token) * 2 + which) * self.width + head * self.head() + d
    }

    fn each_head(&self, mut visit: impl FnMut(usize, usize)) {
        for sample in 0..self.batch {
            (0..self.heads).for_each(|head| visit(sample, head));
        }
    }
}
